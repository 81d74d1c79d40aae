"""Samplers that denoise and put some of the noise back: DDPM and DDIM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ..processes.path import Path
from ..processes.trees import combine
from .field import Field
from .sampler import SteppedSampler


class Posterior(NamedTuple):
    """The distribution of `x` at an earlier time, given the network and `x_t`: it is normal.

    Attributes:
        of_x, of_data: its mean is `of_x x_t + of_data data`.
        variance: its variance.
        forward_variance: the variance of the noise that was added between the two times.
    """

    of_x: jax.Array
    of_data: jax.Array
    variance: jax.Array
    forward_variance: jax.Array


def posterior(path: Path, t: Any, to: Any) -> Posterior:
    """The posterior of `x` at time `to`, given that at the later time `t`.

    Reference: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, eq. 6 and 7; for any signal
    and noise, Kingma et al., "Variational diffusion models", 2021, appendix A.

    Example:
        >>> from wsljax.generation.processes import VariancePreserving
        >>> found = posterior(VariancePreserving.linear(), 0.5, 0.499)
        >>> round(float(found.variance / found.forward_variance), 4)
        0.9991
    """
    decay = path.signal(t) / path.signal(to)
    noise, earlier = path.noise(t) ** 2, path.noise(to) ** 2
    forward = jnp.maximum(noise - decay**2 * earlier, 0)
    return Posterior(
        decay * earlier / noise,
        path.signal(to) * forward / noise,
        forward * earlier / noise,
        forward,
    )


class Ancestral(SteppedSampler):
    """DDPM: each step draws from the posterior of the estimated network.

    Attributes:
        steps: how many; on a path of T steps at most T.
        large: the variance that was added in the step, and not that of the posterior: right for data of
            variance 1, as the other is for data without variance (Ho, Jain, Abbeel 2020, section 3.2).
    """

    steps: int = eqx.field(static=True, default=1000)
    large: bool = eqx.field(static=True, default=False)
    times: Callable[[Path, int], jax.Array] | None = None

    def step(self, field: Field, x: Any, t: jax.Array, to: jax.Array, key: jax.Array) -> Any:
        found = posterior(field.path, t, to)
        variance = found.forward_variance if self.large else found.variance
        deviation = jnp.where(to > 0, jnp.sqrt(variance), 0)
        data = field.estimates(x, t).data
        return combine(found.of_x, x, found.of_data, data, deviation, field.noise(x, key))


class DDIM(SteppedSampler):
    """Steps along the estimated noise; with `eta` = 1 it is `Ancestral`, with 0 it draws no noise.

    Attributes:
        steps: how many.
        eta: how much of the noise is new.

    Reference: Song, Meng, Ermon, "Denoising diffusion implicit models", 2021, eq. 12 and 16.
    """

    steps: int = eqx.field(static=True, default=50)
    eta: float = 0.0
    times: Callable[[Path, int], jax.Array] | None = None

    def step(self, field: Field, x: Any, t: jax.Array, to: jax.Array, key: jax.Array) -> Any:
        path, found = field.path, field.estimates(x, t)
        fresh = self.eta**2 * posterior(path, t, to).variance
        kept = jnp.sqrt(jnp.maximum(path.noise(to) ** 2 - fresh, 0))
        x = combine(path.signal(to), found.data, kept, found.noise)
        if isinstance(self.eta, (int, float)) and self.eta == 0:
            return x
        return combine(1.0, x, jnp.sqrt(fresh), field.noise(x, key))
