"""What a teleport may look for: functions ``objective(params, *inputs) -> scalar``, made from a loss.

- the norm of its gradient: Zhao, Dehmamy, Walters, Yu, "Symmetry Teleportation for Accelerated
  Optimization", 2022 (the rate at which gradient flow lowers the loss is its square);
- sharpness (mean loss at a distance) and the curvature of the orbit: Zhao, Gower, Walters, Yu,
  "Improving Convergence and Generalization Using Parameter Symmetries", 2024;
- the largest eigenvalue of the Hessian, which bounds the step size of gradient descent.

Any other function of the params will do as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .action import Group, action_of


@dataclass(frozen=True)
class GradientObjective:
    """An objective that depends on the gradient of a loss alone: ``measure(gradient tree) -> scalar``.

    Gradients of an invariant loss are covectors: at the moved point the gradient is the old one moved.
    :func:`teleport` along a spec therefore follows such an objective without another look at the data.
    """

    loss: Callable[..., jax.Array]
    measure: Callable[[Any], jax.Array]

    def __call__(self, params: Any, *inputs: Any) -> jax.Array:
        return self.measure(jax.grad(self.loss)(params, *inputs))


def gradient_norm(loss: Callable[..., jax.Array], *, order: float = 2) -> GradientObjective:
    """The sum of ``|dL/dp| ** order``: for ``order=2`` the squared norm of the gradient.

    It is the rate at which gradient flow lowers the loss; ``order=1`` is that of sign descent, to which
    Adam is close.

    Example:
        >>> import jax.numpy as jnp
        >>> float(gradient_norm(lambda p: jnp.sum(p**2))(jnp.array([1.0, 2.0])))
        20.0
    """

    def measure(gradient: Any) -> jax.Array:
        return jnp.sum(jnp.stack([jnp.sum(jnp.abs(g) ** order) for g in jax.tree.leaves(gradient)]))

    return GradientObjective(loss, measure)


def sharpness(
    loss: Callable[..., jax.Array],
    *,
    radii: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    directions: int = 10,
    key: jax.Array,
) -> Callable[..., jax.Array]:
    """The mean loss at the given distances, in random directions (Zhao et al. 2024).

    The directions are drawn once, from ``key``: the objective is a deterministic function of params.

    Raises:
        ValueError: if there are no radii or no directions.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> wide, narrow = (sharpness(lambda p, a=a: a * jnp.sum(p**2), key=jax.random.key(0)) for a in (1, 4))
        >>> p = jnp.zeros(3)
        >>> round(float(narrow(p) / wide(p)), 3)
        4.0
    """
    if directions < 1 or not len(radii):
        raise ValueError(
            f"`directions` is {directions} and `radii` {radii}: give at least one of each"
        )

    def objective(params: Any, *inputs: Any) -> jax.Array:
        flat, rebuild = ravel_pytree(params)
        ways = jax.random.normal(key, (directions, flat.size), flat.dtype)
        ways = ways / jnp.linalg.norm(ways, axis=1, keepdims=True)
        steps = (jnp.asarray(radii, flat.dtype)[:, None, None] * ways).reshape(-1, flat.size)
        return jnp.mean(jax.vmap(lambda d: loss(rebuild(flat + d), *inputs))(steps))

    return objective


def top_eigenvalue(
    loss: Callable[..., jax.Array], *, iterations: int = 20, key: jax.Array
) -> Callable[..., jax.Array]:
    """The eigenvalue of the Hessian of largest absolute value, by power iteration from a random vector.

    Its derivative is that of ``u . H u`` at the vector ``u`` found, which is exact where it has converged.

    Raises:
        ValueError: if ``iterations`` is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> loss = lambda p: jnp.sum(jnp.array([1.0, 2.0, 5.0]) * p**2)
        >>> round(float(top_eigenvalue(loss, key=jax.random.key(0))(jnp.ones(3))), 3)
        10.0
    """
    if iterations < 1:
        raise ValueError(f"`iterations` must be positive, got {iterations}")

    def objective(params: Any, *inputs: Any) -> jax.Array:
        flat, rebuild = ravel_pytree(params)

        def times_hessian(at: jax.Array, u: jax.Array) -> jax.Array:
            return jax.jvp(jax.grad(lambda x: loss(rebuild(x), *inputs)), (at,), (u,))[1]

        def unit(u: jax.Array) -> jax.Array:
            return u / jnp.maximum(jnp.linalg.norm(u), jnp.finfo(u.dtype).tiny)

        still = jax.lax.stop_gradient(flat)
        start = unit(jax.random.normal(key, flat.shape, flat.dtype))
        body = lambda u, _: (unit(times_hessian(still, u)), None)  # noqa: E731
        u = jax.lax.stop_gradient(jax.lax.scan(body, start, length=iterations)[0])
        return u @ times_hessian(flat, u)

    return objective


def curvature(
    group: Group, *, draws: int = 4, kinds: Sequence[str] | None = None, key: jax.Array
) -> Callable[..., jax.Array]:
    """The mean curvature of the curves ``t -> act(exp(t M), params)`` for random ``M`` (2024).

    The curvature is ``sqrt(|c'|^2 |c''|^2 - (c' . c'')^2) / |c'|^3``, with exact derivatives at ``t = 0``.
    The loss is not needed: the curves lie in its level set.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax.understanding.teleportation import Action
        >>> turn = lambda v, p: jnp.array([[jnp.cos(v), -jnp.sin(v)], [jnp.sin(v), jnp.cos(v)]]) @ p
        >>> bend = curvature(Action(turn, jnp.zeros(())), key=jax.random.key(0))
        >>> round(float(bend(jnp.array([2.0, 0.0]))), 3)  # a circle of radius 2
        0.5
    """
    if draws < 1:
        raise ValueError(f"`draws` must be positive, got {draws}")

    def objective(params: Any, *inputs: Any) -> jax.Array:
        action = action_of(group, params, inputs, kinds)
        flat, rebuild = ravel_pytree(action.zero)

        def one(direction: jax.Array) -> jax.Array:
            def curve(t: jax.Array) -> jax.Array:
                return ravel_pytree(action.act(rebuild(t * direction), params))[0]

            def speed(t: jax.Array) -> jax.Array:
                return jax.jvp(curve, (t,), (jnp.ones_like(t),))[1]

            zero = jnp.zeros((), direction.dtype)
            first, second = jax.jvp(speed, (zero,), (jnp.ones_like(zero),))
            a, b, c = first @ first, second @ second, first @ second
            tiny = jnp.finfo(a.dtype).tiny
            area = jnp.maximum(a * b - c**2, tiny)
            return jnp.sqrt(area) / jnp.maximum(a, tiny) ** 1.5

        return jnp.mean(jax.vmap(one)(jax.random.normal(key, (draws, flat.size), flat.dtype)))

    return objective
