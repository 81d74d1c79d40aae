"""Guidance: moving what a denoiser says towards a condition, or towards networks of small loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .processes.path import Estimate, Path
from .processes.trees import combine

EstimateFn = Callable[[Any, Any], Estimate]


class TaskGradient(eqx.Module):
    """The gradient of a loss of the networks themselves, while they are drawn.

    Networks of density p are drawn about as p(x) exp(-scale loss(x)): exactly so for normal p and a linear
    loss, by either gradient. It needs no training with a condition.

    Attributes:
        loss: `loss(params, *inputs)`, a scalar, of one network.
        inputs: arrays that the loss reads, such as a batch of data.
        scale: how strongly, a number or a function of time.
        deviation: of the networks in their space (`sigma_data`), a number or a tree like `x`; it says how
            far the network is still open at each time. Not used with `through`.
        through: take the gradient through the denoiser, which knows that itself and costs a backward pass.

    References: Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", 2021, section 4; with
    `through` Chung et al., "Diffusion posterior sampling for general noisy inverse problems", 2023, eq. 10.

    Example:
        >>> from wsljax.generation.processes import Straight
        >>> task = TaskGradient(lambda params: 3 * params.sum())
        >>> estimate = lambda x, t: Estimate(0 * x, x / t)
        >>> task.guided(estimate, lambda x: x, Straight())(jnp.ones(1), 0.5).data.tolist()
        [-1.5]
    """

    loss: Callable[..., jax.Array]
    inputs: tuple[Any, ...] = ()
    scale: Any = 1.0
    deviation: Any = 1.0
    through: bool = eqx.field(static=True, default=False)

    def gradient(self, decode: Callable[[Any], Any], x: Any) -> Any:
        """Of the loss of the network of `x`."""
        return jax.grad(lambda x: self.loss(decode(x), *self.inputs))(x)

    def strength(self, t: Any) -> Any:
        """The scale at time `t`."""
        return self.scale(t) if callable(self.scale) else self.scale

    def open_variance(self, path: Path, t: Any) -> Any:
        """The variance of a network given `x_t`, over the noise: a number or a tree of numbers."""
        signal, noise = path.signal(t), path.noise(t)
        return jax.tree.map(lambda d: noise * d**2 / (noise**2 + (signal * d) ** 2), self.deviation)

    def guided(self, estimate: EstimateFn, decode: Callable[[Any], Any], path: Path) -> EstimateFn:
        """An estimate that the gradient has moved; network and noise still make up `x_t`."""

        def moved(x: Any, t: Any) -> Estimate:
            signal, noise = path.signal(t), path.noise(t)
            if self.through:
                found, slope = _with_gradient(estimate, x, t, lambda d: self._loss(decode, d))
                open_ = noise / jnp.maximum(signal, 1e-3)
            else:
                found = estimate(x, t)
                slope = self.gradient(decode, found.data)
                open_ = self.open_variance(path, t)
            strength = self.strength(t)
            to_data = jax.tree.map(lambda o: -strength * noise * o, open_)
            to_noise = jax.tree.map(lambda o: strength * signal * o, open_)
            return Estimate(
                combine(1.0, found.data, to_data, slope), combine(1.0, found.noise, to_noise, slope)
            )

        return moved

    def _loss(self, decode: Callable[[Any], Any], x: Any) -> jax.Array:
        return self.loss(decode(x), *self.inputs)


def _with_gradient(estimate: EstimateFn, x: Any, t: Any, loss: Any) -> tuple[Estimate, Any]:
    def of(x: Any) -> tuple[jax.Array, Estimate]:
        found = estimate(x, t)
        return loss(found.data), found

    (_, found), slope = jax.value_and_grad(of, has_aux=True)(x)
    return found, slope


def classifier_free(shown: Any, null: Any, scale: Any) -> Any:
    """Away from what is said without the condition: `null + scale (shown - null)`.

    Everything a denoiser may say is affine in the network, so that it does not matter which of them is moved.

    Reference: Ho and Salimans, "Classifier-free diffusion guidance", 2022, eq. 6, where w is scale - 1.

    Example:
        >>> classifier_free(jnp.array([2.0]), jnp.array([1.0]), 3.0).tolist()
        [4.0]
    """
    return combine(scale, shown, 1 - scale, null)
