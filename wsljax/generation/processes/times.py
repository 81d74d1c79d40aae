"""At which times a denoiser is trained."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from .path import Path


class Times(eqx.Module):
    """A distribution of times."""

    @abc.abstractmethod
    def __call__(self, path: Path, *, key: jax.Array) -> jax.Array:
        """One time of the path, a scalar."""


class UniformTimes(Times):
    """Uniform between `low` and `high`.

    Example:
        >>> from wsljax.generation.processes import Straight
        >>> 0.2 <= float(UniformTimes(0.2, 0.3)(Straight(), key=jax.random.key(0))) <= 0.3
        True
    """

    low: float = 0.0
    high: float = 1.0

    def __call__(self, path: Path, *, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, minval=self.low, maxval=self.high)


class StepTimes(Times):
    """Uniform over the ends of `steps` equal steps: 1/T, 2/T, ..., 1, as in DDPM.

    Example:
        >>> from wsljax.generation.processes import VariancePreserving
        >>> t = StepTimes(10)(VariancePreserving.linear(10), key=jax.random.key(0))
        >>> float(jnp.round(10 * t, 5)) in range(1, 11)
        True
    """

    steps: int = 1000

    def __call__(self, path: Path, *, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 1, self.steps + 1) / self.steps


class LogNormalTimes(Times):
    """The logarithm of sigma = noise / signal is normal, as in EDM (Karras et al. 2022, table 1).

    Attributes:
        mean, deviation: P_mean and P_std.
    """

    mean: float = -1.2
    deviation: float = 1.2

    def __call__(self, path: Path, *, key: jax.Array) -> jax.Array:
        return path.time(jnp.exp(self.mean + self.deviation * jax.random.normal(key)))


class BetaTimes(Times):
    """Beta(a, b); the density of Beta(2, 1) grows with the noise.

    Where time is counted from noise to data, Beta(a, b) is our Beta(b, a).
    """

    a: float = 1.0
    b: float = 2.0

    def __call__(self, path: Path, *, key: jax.Array) -> jax.Array:
        return jax.random.beta(key, self.a, self.b)


class LogitNormalTimes(Times):
    """log(t / (1 - t)) is normal (Esser et al., "Scaling rectified flow transformers", 2024, eq. 19)."""

    mean: float = 0.0
    deviation: float = 1.0

    def __call__(self, path: Path, *, key: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.mean + self.deviation * jax.random.normal(key))
