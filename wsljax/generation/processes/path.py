"""Gaussian paths from networks to noise: x_t = signal(t) x + noise(t) e, with e standard normal.

Time runs from 0, the network, to 1, noise. Two other ways to tell where one is: the *ratio* noise / signal,
which is the sigma of Karras et al. (2022), and the *clock*, in which signal and noise move at finite speed, so
that differential equations are solved in it.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .trees import combine


class Estimate(NamedTuple):
    """What a denoiser says of `x_t`: `x_t = signal data + noise noise`.

    Attributes:
        data: the expected network.
        noise: the expected noise.
    """

    data: Any
    noise: Any


class Path(eqx.Module):
    """How much of a network and how much noise there is at each time."""

    @property
    def smallest(self) -> float:
        """Times below it are as good as 0: estimates that divide by noise are made at no earlier time."""
        return 1e-4

    @property
    def greatest(self) -> float:
        """Times above it are as good as 1, where an estimate divides by the signal."""
        return 1.0

    @abc.abstractmethod
    def signal(self, t: Any) -> jax.Array:
        """How much of the network is left."""

    @abc.abstractmethod
    def noise(self, t: Any) -> jax.Array:
        """The deviation of the noise."""

    @abc.abstractmethod
    def time(self, ratio: Any) -> jax.Array:
        """When noise / signal is `ratio`."""

    @abc.abstractmethod
    def clock(self, t: Any) -> jax.Array:
        """Increases with time; signal and noise are smooth functions of it."""

    @abc.abstractmethod
    def from_clock(self, clock: Any) -> jax.Array:
        """The inverse of `clock`."""

    @abc.abstractmethod
    def rates(self, t: Any) -> tuple[jax.Array, jax.Array]:
        """The derivatives of signal and noise by the clock."""

    @abc.abstractmethod
    def times(self, steps: int) -> jax.Array:
        """The usual times of a sampler, `(steps + 1,)`, from 1 down to 0."""

    def ratio(self, t: Any) -> jax.Array:
        """noise / signal, infinite where there is no signal."""
        return self.noise(t) / self.signal(t)

    def level(self, t: Any) -> jax.Array:
        """What a denoiser is told: the time, unless the process has another custom."""
        return jnp.asarray(t)

    def at(self, data: Any, noise: Any, t: Any) -> Any:
        """`x_t` of a network and noise."""
        return combine(self.signal(t), data, self.noise(t), noise)

    def velocity(self, estimate: Estimate, t: Any) -> Any:
        """The derivative of `x_t` by the clock."""
        signal, noise = self.rates(t)
        return combine(signal, estimate.data, noise, estimate.noise)

    def score(self, estimate: Estimate, t: Any) -> Any:
        """The gradient of the logarithm of the density of `x_t`."""
        return combine(-1 / self.noise(t), estimate.noise)


class Straight(Path):
    """x_t = (1 - t) x + t e: rectified flow, and flow matching along lines.

    The papers of flow matching count time the other way, from noise to data.

    References: Liu et al., "Flow straight and fast", 2023, eq. 1; Lipman et al., "Flow matching for generative
    modeling", 2023, section 4.1.

    Example:
        >>> path = Straight()
        >>> float(path.signal(0.25)), float(path.noise(0.25)), float(path.time(path.ratio(0.25)))
        (0.75, 0.25, 0.25)
        >>> path.times(4).tolist()
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    @property
    def greatest(self) -> float:
        return 1 - 1e-3

    def signal(self, t: Any) -> jax.Array:
        return 1 - jnp.asarray(t)

    def noise(self, t: Any) -> jax.Array:
        return jnp.asarray(t)

    def time(self, ratio: Any) -> jax.Array:
        ratio = jnp.asarray(ratio)
        return jnp.where(jnp.isinf(ratio), 1, ratio / (1 + jnp.where(jnp.isinf(ratio), 0, ratio)))

    def clock(self, t: Any) -> jax.Array:
        return jnp.asarray(t)

    def from_clock(self, clock: Any) -> jax.Array:
        return jnp.asarray(clock)

    def rates(self, t: Any) -> tuple[jax.Array, jax.Array]:
        one = jnp.ones_like(jnp.asarray(t))
        return -one, one

    def times(self, steps: int) -> jax.Array:
        return jnp.linspace(1.0, 0.0, steps + 1)


class VarianceExploding(Path):
    """x_t = x + sigma e with sigma = t sigma_max: the path of EDM.

    The clock is sigma, samplers use the steps of Karras et al., and denoisers are told log(sigma) / 4.

    Attributes:
        sigma_min, sigma_max: the least and the greatest noise of a sampler.
        rho: how much its steps crowd at little noise.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    table 1 and eq. 5.

    Example:
        >>> path = VarianceExploding()
        >>> [round(float(sigma), 3) for sigma in path.noise(path.times(4))]
        [80.0, 9.723, 0.47, 0.002, 0.0]
        >>> float(path.level(path.time(1.0)))
        0.0
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    @property
    def smallest(self) -> float:
        return self.sigma_min / self.sigma_max

    def signal(self, t: Any) -> jax.Array:
        return jnp.ones_like(jnp.asarray(t))

    def noise(self, t: Any) -> jax.Array:
        return self.sigma_max * jnp.asarray(t)

    def time(self, ratio: Any) -> jax.Array:
        return jnp.asarray(ratio) / self.sigma_max

    def clock(self, t: Any) -> jax.Array:
        return self.noise(t)

    def from_clock(self, clock: Any) -> jax.Array:
        return self.time(clock)

    def rates(self, t: Any) -> tuple[jax.Array, jax.Array]:
        one = jnp.ones_like(jnp.asarray(t))
        return 0 * one, one

    def level(self, t: Any) -> jax.Array:
        return jnp.log(jnp.maximum(self.noise(t), self.sigma_min)) / 4

    def times(self, steps: int) -> jax.Array:
        """Karras et al., eq. 5: `steps` levels from sigma_max to sigma_min, then 0."""
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        part = jnp.arange(steps) / max(steps - 1, 1)
        sigmas = (high + part * (low - high)) ** self.rho
        return jnp.append(sigmas / self.sigma_max, 0.0)
