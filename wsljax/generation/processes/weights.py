"""How much the loss counts at each time, as a factor on the squared error of what the denoiser says."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .path import Path
from .targets import Target


class Weight(eqx.Module):
    """A weight of the loss."""

    @abc.abstractmethod
    def __call__(self, path: Path, target: Target, t: Any) -> Any:
        """A scalar, or a tree of scalars like `x`."""


class PlainWeight(Weight):
    """1: the error of the target itself, which of `"edm"` is the loss of Karras et al. (2022)."""

    def __call__(self, path: Path, target: Target, t: Any) -> Any:
        return 1.0


class DataWeight(Weight):
    """The error of the denoised network, whatever the target.

    Example:
        >>> from wsljax.generation.processes import NoiseTarget, Straight
        >>> float(DataWeight()(Straight(), NoiseTarget(), 0.75))
        9.0
    """

    def __call__(self, path: Path, target: Target, t: Any) -> Any:
        return jax.tree.map(lambda gain: gain**2, target.gain(path, t))


class MinSNRWeight(Weight):
    """The error of the denoised network times min(signal² / noise², gamma).

    Reference: Hang et al., "Efficient diffusion training via Min-SNR weighting strategy", 2023, section 3.4.

    Example:
        >>> from wsljax.generation.processes import NoiseTarget, Straight
        >>> [round(float(MinSNRWeight(5.0)(Straight(), NoiseTarget(), t)), 3) for t in (0.1, 0.5)]
        [0.062, 1.0]
    """

    gamma: float = 5.0

    def __call__(self, path: Path, target: Target, t: Any) -> Any:
        signal, noise = path.signal(t), path.noise(t)
        # min(snr, gamma) gain², with noise² taken out of both so that nothing overflows at t = 0
        least = jnp.minimum(signal**2, self.gamma * noise**2)
        safe = jnp.where(noise == 0, 1, noise)

        def one(gain: Any) -> jax.Array:
            return jnp.where(noise == 0, self.gamma * gain**2, least * (gain / safe) ** 2)

        return jax.tree.map(one, target.gain(path, t))
