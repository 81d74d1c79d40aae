"""Paths that keep the variance: signal² + noise² = 1.

Their clock is the angle whose tangent is noise / signal; the derivative of `x_t` by it is the "v" of Salimans
and Ho (2022).
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .path import Path


class _VariancePreserving(Path):
    def clock(self, t: Any) -> jax.Array:
        return jnp.arctan2(self.noise(t), self.signal(t))

    def from_clock(self, clock: Any) -> jax.Array:
        return self.time(jnp.tan(clock))

    def rates(self, t: Any) -> tuple[jax.Array, jax.Array]:
        return -self.noise(t), self.signal(t)

    def times(self, steps: int) -> jax.Array:
        return jnp.linspace(1.0, 0.0, steps + 1)


class VariancePreserving(_VariancePreserving):
    """The path of DDPM: T steps, of which step k adds noise of variance beta_k.

    After k steps, at t = k / T, signal² is the product of (1 - beta) so far; in between its logarithm is
    interpolated. Made by `linear` or `cosine`, or from any betas.

    Attributes:
        log_squares: the logarithm of signal² at t = 0, 1/T, ..., 1; `(T + 1,)`.
        counted: denoisers are told the number of the step, 0 to T - 1 as in DDPM, and not the time.

    References: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, section 4; Nichol and
    Dhariwal, "Improved denoising diffusion probabilistic models", 2021, eq. 17.

    Example:
        >>> path = VariancePreserving.linear()
        >>> path.steps, round(float(path.signal(1.0) ** 2), 8)
        (1000, 4.036e-05)
        >>> path = VariancePreserving([0.5, 0.5])
        >>> [round(float(path.signal(t) ** 2), 4) for t in (0, 0.5, 1)]
        [1.0, 0.5, 0.25]
    """

    log_squares: jax.Array
    counted: bool = eqx.field(static=True)

    def __init__(self, betas: Any, *, counted: bool = False):
        """From the betas of all steps, `(T,)`, each between 0 and 1."""
        betas = np.asarray(betas, np.float64)
        if betas.ndim != 1 or not betas.size or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(f"`betas` are numbers between 0 and 1, (steps,); got {betas!r}.")
        self.log_squares = jnp.asarray(np.append(0.0, np.cumsum(np.log1p(-betas))))
        self.counted = counted

    @staticmethod
    def linear(
        steps: int = 1000, first: float = 1e-4, last: float = 0.02, *, counted: bool = False
    ) -> VariancePreserving:
        """Betas on a line, as in DDPM."""
        return VariancePreserving(np.linspace(first, last, steps), counted=counted)

    @staticmethod
    def cosine(
        steps: int = 1000, offset: float = 0.008, largest: float = 0.999, *, counted: bool = False
    ) -> VariancePreserving:
        """signal² as a cosine², as in improved DDPM; no beta above `largest`.

        Example:
            >>> path = VariancePreserving.cosine(10)
            >>> round(float(path.signal(0.5) ** 2), 4)
            0.4938
        """
        t = np.arange(steps + 1) / steps
        squares = np.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
        betas = np.minimum(1 - squares[1:] / squares[:-1], largest)
        return VariancePreserving(betas, counted=counted)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.log_squares) - 1

    @property
    def smallest(self) -> float:
        return 1 / self.steps

    def _log_square(self, t: Any) -> jax.Array:
        at = jnp.linspace(0, 1, self.steps + 1)
        return jnp.interp(jnp.asarray(t, at.dtype), at, self.log_squares)

    def signal(self, t: Any) -> jax.Array:
        return jnp.exp(self._log_square(t) / 2)

    def noise(self, t: Any) -> jax.Array:
        return jnp.sqrt(-jnp.expm1(self._log_square(t)))

    def time(self, ratio: Any) -> jax.Array:
        at = jnp.linspace(0, 1, self.steps + 1)
        log_square = -jnp.log1p(jnp.asarray(ratio, at.dtype) ** 2)
        return jnp.interp(-log_square, -self.log_squares, at)

    def level(self, t: Any) -> jax.Array:
        return jnp.asarray(t) * self.steps - 1 if self.counted else jnp.asarray(t)

    def times(self, steps: int) -> jax.Array:
        """`steps` of the T, evenly spaced, from the last; then 0."""
        if not 1 <= steps <= self.steps:
            raise ValueError(
                f"{steps} steps of sampling on a path of {self.steps}; choose 1 to those."
            )
        return jnp.asarray(np.round(np.linspace(self.steps, 0, steps + 1)) / self.steps, float)


class LinearBetaPath(_VariancePreserving):
    """DDPM in the limit of many steps: noise is added at a rate that grows from `first` to `last`.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations", 2021,
    eq. 33 (the VP SDE).

    Example:
        >>> path = LinearBetaPath()
        >>> round(float(path.signal(1.0) ** 2), 7), round(float(path.time(path.ratio(0.3))), 4)
        (4.32e-05, 0.3)
    """

    first: float = 0.1
    last: float = 20.0

    @property
    def smallest(self) -> float:
        return 1e-3

    def _log_square(self, t: Any) -> jax.Array:
        t = jnp.asarray(t)
        return -(self.first * t + (self.last - self.first) * t**2 / 2)

    def signal(self, t: Any) -> jax.Array:
        return jnp.exp(self._log_square(t) / 2)

    def noise(self, t: Any) -> jax.Array:
        return jnp.sqrt(-jnp.expm1(self._log_square(t)))

    def time(self, ratio: Any) -> jax.Array:
        square = jnp.log1p(jnp.asarray(ratio) ** 2)
        root = jnp.sqrt(self.first**2 + 2 * (self.last - self.first) * square)
        return 2 * square / (root + self.first)


class CosinePath(_VariancePreserving):
    """signal = cos(pi t / 2), noise = sin(pi t / 2).

    Reference: Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", 2022,
    section 2.

    Example:
        >>> path = CosinePath()
        >>> round(float(path.signal(0.5)), 4), round(float(path.noise(1 / 3)), 4)
        (0.7071, 0.5)
    """

    @property
    def greatest(self) -> float:
        return 1 - 1e-3

    def signal(self, t: Any) -> jax.Array:
        return jnp.sin(math.pi / 2 * (1 - jnp.asarray(t)))

    def noise(self, t: Any) -> jax.Array:
        return jnp.sin(math.pi / 2 * jnp.asarray(t))

    def time(self, ratio: Any) -> jax.Array:
        return jnp.arctan(ratio) * (2 / math.pi)

    def clock(self, t: Any) -> jax.Array:
        return math.pi / 2 * jnp.asarray(t)

    def from_clock(self, clock: Any) -> jax.Array:
        return jnp.asarray(clock) * (2 / math.pi)
