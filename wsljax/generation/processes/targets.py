"""What a denoiser is trained to say, and what follows from it: the network and the noise in `x_t`.

All are affine in each other at a fixed time, so they hold the same knowledge; they differ in what a small
error of the network does, in the weighting of the loss that comes for free, and in where they break down:

=============  ==============================  =========================================
name           is trained to say               breaks down
=============  ==============================  =========================================
`"data"`       x                               without noise (t = 0)
`"noise"`      e                               without signal (t = 1)
`"v"`          signal e - noise x              nowhere
`"velocity"`   the derivative of `x_t`         nowhere
`"edm"`        x and e mixed, of variance 1    nowhere
=============  ==============================  =========================================
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .path import Estimate, Path
from .trees import combine


class Target(eqx.Module):
    """What a denoiser says, in training and in sampling; everything is for one network.

    Attributes:
        breaks_at_data, breaks_at_noise: whether estimates divide by the noise, or by the signal.
    """

    breaks_at_data: ClassVar[bool] = False
    breaks_at_noise: ClassVar[bool] = False

    @abc.abstractmethod
    def goal(self, path: Path, data: Any, noise: Any, t: Any) -> Any:
        """What the denoiser should say of `path.at(data, noise, t)`."""

    @abc.abstractmethod
    def estimate(self, path: Path, output: Any, x: Any, t: Any) -> Estimate:
        """Network and noise of `x`, from what the denoiser says."""

    @abc.abstractmethod
    def gain(self, path: Path, t: Any) -> Any:
        """By how much the estimated network moves with the output: a scalar, or a tree of them."""

    def inputs(self, path: Path, x: Any, t: Any) -> Any:
        """What the denoiser is shown of `x_t`."""
        return x


class DataTarget(Target):
    """The network itself.

    Example:
        >>> from wsljax.generation.processes import Straight
        >>> DataTarget().estimate(Straight(), jnp.array([2.0]), jnp.array([1.5]), 0.5).noise.tolist()
        [1.0]
    """

    breaks_at_data: ClassVar[bool] = True

    def goal(self, path: Path, data: Any, noise: Any, t: Any) -> Any:
        return data

    def estimate(self, path: Path, output: Any, x: Any, t: Any) -> Estimate:
        return from_data(path, output, x, t)

    def gain(self, path: Path, t: Any) -> Any:
        return jnp.ones_like(jnp.asarray(t, float))


class NoiseTarget(Target):
    """The noise, as in DDPM (Ho, Jain, Abbeel 2020, eq. 14)."""

    breaks_at_noise: ClassVar[bool] = True

    def goal(self, path: Path, data: Any, noise: Any, t: Any) -> Any:
        return noise

    def estimate(self, path: Path, output: Any, x: Any, t: Any) -> Estimate:
        signal = path.signal(t)
        return Estimate(combine(1 / signal, x, -path.noise(t) / signal, output), output)

    def gain(self, path: Path, t: Any) -> Any:
        return -path.ratio(t)


class VTarget(Target):
    """signal e - noise x (Salimans and Ho 2022, appendix D); on a straight path it is not the velocity."""

    def goal(self, path: Path, data: Any, noise: Any, t: Any) -> Any:
        return combine(path.signal(t), noise, -path.noise(t), data)

    def estimate(self, path: Path, output: Any, x: Any, t: Any) -> Estimate:
        signal, noise = path.signal(t), path.noise(t)
        size = signal**2 + noise**2
        return Estimate(
            combine(signal / size, x, -noise / size, output),
            combine(noise / size, x, signal / size, output),
        )

    def gain(self, path: Path, t: Any) -> Any:
        return -path.noise(t) / (path.signal(t) ** 2 + path.noise(t) ** 2)


class VelocityTarget(Target):
    """The derivative of `x_t` by the clock of the path: e - x on a straight path."""

    def goal(self, path: Path, data: Any, noise: Any, t: Any) -> Any:
        return path.velocity(Estimate(data, noise), t)

    def estimate(self, path: Path, output: Any, x: Any, t: Any) -> Estimate:
        signal, noise = path.signal(t), path.noise(t)
        signal_rate, noise_rate = path.rates(t)
        size = signal * noise_rate - noise * signal_rate
        return Estimate(
            combine(noise_rate / size, x, -noise / size, output),
            combine(-signal_rate / size, x, signal / size, output),
        )

    def gain(self, path: Path, t: Any) -> Any:
        signal_rate, noise_rate = path.rates(t)
        return -path.noise(t) / (path.signal(t) * noise_rate - path.noise(t) * signal_rate)


class Preconditioned(Target):
    """Inputs and outputs of variance 1 at every level (EDM).

    With sigma = noise / signal and y = x / signal the denoised network is
    c_skip(sigma) y + c_out(sigma) F(c_in(sigma) y), where F is what the denoiser says. Written so that nothing
    is divided by signal or by noise, it serves every path.

    Attributes:
        sigma_data: the deviation of the networks in their space: a number, or a tree of numbers like `x`;
            see `data_deviation`. It is about zero: networks with another mean should be normalised.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    table 1 and appendix B.6.

    Example:
        >>> from wsljax.generation.processes import VarianceExploding
        >>> path, edm = VarianceExploding(), Preconditioned(0.5)
        >>> c_skip, c_out, c_in = edm.coefficients(path, path.time(0.5))
        >>> round(float(c_skip), 4), round(float(c_out), 4), round(float(c_in), 4)
        (0.5, 0.3536, 1.4142)
    """

    sigma_data: Any = 1.0

    def coefficients(self, path: Path, t: Any) -> tuple[Any, Any, Any]:
        """What multiplies `x_t` and the output in the denoised network, and `x_t` before it is shown."""
        signal, noise = path.signal(t), path.noise(t)
        skip = self._map(lambda d: d**2 * signal / (noise**2 + (signal * d) ** 2))
        out = self._map(lambda d: d * noise / jnp.sqrt(noise**2 + (signal * d) ** 2))
        return skip, out, self._map(lambda d: 1 / jnp.sqrt(noise**2 + (signal * d) ** 2))

    def inputs(self, path: Path, x: Any, t: Any) -> Any:
        return combine(self.coefficients(path, t)[2], x)

    def goal(self, path: Path, data: Any, noise: Any, t: Any) -> Any:
        _, of_data, of_noise = self._mixed(path, t)
        return combine(of_data, data, of_noise, noise)

    def estimate(self, path: Path, output: Any, x: Any, t: Any) -> Estimate:
        skip, out, _ = self.coefficients(path, t)
        of_x, _, of_output = self._mixed(path, t)
        return Estimate(combine(skip, x, out, output), combine(of_x, x, of_output, output))

    def gain(self, path: Path, t: Any) -> Any:
        return self.coefficients(path, t)[1]

    def _mixed(self, path: Path, t: Any) -> tuple[Any, Any, Any]:
        signal, noise = path.signal(t), path.noise(t)

        def of(d: Any) -> tuple[Any, Any, Any]:
            square = noise**2 + (signal * d) ** 2
            root = jnp.sqrt(square)
            return noise / square, noise / (d * root), -d * signal / root

        return tuple(self._map(lambda d, i=i: of(d)[i]) for i in range(3))  # pyright: ignore[reportReturnType]

    def _map(self, fn: Any) -> Any:
        return jax.tree.map(fn, self.sigma_data)


TARGETS = {
    "data": DataTarget,
    "noise": NoiseTarget,
    "v": VTarget,
    "velocity": VelocityTarget,
    "edm": Preconditioned,
}
"""Targets by name."""


def as_target(target: str | Target) -> Target:
    """A target by its name, or as it is.

    Raises:
        ValueError: there is no such name.

    Example:
        >>> as_target("v")
        VTarget()
    """
    if isinstance(target, str):
        if target not in TARGETS:
            raise ValueError(f"there is no target {target!r}; there are {sorted(TARGETS)}.")
        return TARGETS[target]()
    return target


def from_data(path: Path, data: Any, x: Any, t: Any) -> Estimate:
    """The estimate of which the network is known."""
    noise = path.noise(t)
    return Estimate(data, combine(1 / noise, x, -path.signal(t) / noise, data))


def data_deviation(x: Any, per: str = "leaf") -> Any:
    """The deviation of stacked `x`, as `sigma_data` of `Preconditioned`.

    Deviations are around one mean for each leaf, and so commute with permutations.

    Args:
        x: a tree of arrays `(models, ...)`.
        per: `"leaf"`, a number for each leaf, or `"tree"`, one for all.

    Raises:
        ValueError: another `per`.

    Example:
        >>> data_deviation({"w": jnp.array([[1.0], [3.0]]), "b": jnp.array([[0.0], [8.0]])})
        {'b': 4.0, 'w': 1.0}
    """
    if per not in ("leaf", "tree"):
        raise ValueError(f"`per` is {per!r}; it is 'leaf' or 'tree'.")
    squares = jax.tree.map(
        lambda a: float(jnp.var(a.astype(jnp.promote_types(a.dtype, jnp.float32)))), x
    )
    if per == "leaf":
        return jax.tree.map(lambda v: v**0.5 or 1.0, squares)
    sizes = [a.size for a in jax.tree.leaves(x)]
    mean = sum(v * n for v, n in zip(jax.tree.leaves(squares), sizes)) / sum(sizes)
    return mean**0.5 or 1.0
