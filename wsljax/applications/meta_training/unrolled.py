"""Gradients through runs, a piece at a time.

Differentiate the mean loss of a piece, taking the state that it begins with as given (truncated
backpropagation through time; for learned optimisers Andrychowicz et al., *Learning to learn by gradient
descent by gradient descent*, 2016). Much less noise than evolution strategies, and a bias: what a step does to
losses after the end of its piece is not seen, so short pieces make greedy optimisers (Wu, Ren, Liao, Grosse,
*Understanding short-horizon bias in stochastic meta-optimization*, 2018).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .estimator import Estimate, Estimator
from .inner_problem import InnerProblem, advance, check_lengths, choose, first_ages


class UnrolledState(NamedTuple):
    """Where the particles are: states with a leading axis of particles, their ages, and a key."""

    states: Any
    age: jax.Array
    key: jax.Array


def unrolled_gradients(
    inner: InnerProblem,
    *,
    particles: int,
    truncation: int,
    horizon: int,
    clip: float | None = None,
    remat: bool = True,
    staggered: bool = True,
) -> Estimator:
    """The gradient of the mean loss of pieces of runs.

    Args:
        inner: the problem, differentiable.
        particles: runs.
        truncation: steps of a piece, which one gradient goes through.
        horizon: steps of a run, a multiple of ``truncation``; then it starts anew. With both equal the
            gradient is that of whole runs.
        clip: the largest norm of one particle's gradient; larger ones are scaled down to it.
        remat: keep only the states between steps.
        staggered: the runs begin at different ages.

    Raises:
        ValueError: lengths that do not fit, or a ``clip`` that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> sum_up = InnerProblem(lambda theta, key: jnp.zeros(()), lambda theta, x: (x + theta, x + theta))
        >>> unrolled = unrolled_gradients(sum_up, particles=1, truncation=2, horizon=4)
        >>> state = unrolled.init(jnp.float32(1.0), jax.random.key(0))
        >>> found, state = unrolled.estimate(jnp.float32(1.0), state)
        >>> float(found.gradient)  # of (theta + 2 theta) / 2
        1.5
    """
    check_lengths(particles, truncation, horizon)
    if clip is not None and clip <= 0:
        raise ValueError(f"`clip` must be positive or None; got {clip}")

    def start(theta: Any, key: jax.Array) -> Any:
        return jax.vmap(inner.start, (None, 0))(theta, jax.random.split(key, particles))

    def init(theta: Any, key: jax.Array) -> UnrolledState:
        key, key_start = jax.random.split(key)
        ages = first_ages(particles, truncation, horizon, staggered)
        return UnrolledState(start(theta, key_start), ages, key)

    def mean_loss(theta: Any, state: Any) -> tuple[jax.Array, Any]:
        state, losses = advance(inner, theta, state, truncation, remat=remat)
        return jnp.mean(losses), state

    def one(theta: Any, state: Any) -> tuple[jax.Array, Any, Any, jax.Array]:
        (loss, state), gradient = jax.value_and_grad(mean_loss, has_aux=True)(theta, state)
        norm = optax.tree.norm(gradient)
        fine = jnp.isfinite(norm) & jnp.isfinite(loss)
        scale = 1.0 if clip is None else jnp.minimum(1.0, clip / jnp.maximum(norm, 1e-30))
        gradient = jax.tree.map(
            lambda g: jnp.where(fine, g * jnp.asarray(scale, g.dtype), 0.0), gradient
        )
        return jnp.where(fine, loss, 0.0), state, gradient, fine

    def estimate(theta: Any, state: UnrolledState) -> tuple[Estimate, UnrolledState]:
        key, key_start = jax.random.split(state.key)
        losses, states, gradients, fine = jax.vmap(one, (None, 0))(theta, state.states)
        found = Estimate(
            jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients),
            losses.sum() / jnp.maximum(fine.sum(), 1),
            1 - jnp.mean(fine),
        )
        age = state.age + truncation
        over = age >= horizon
        states = choose(over, start(theta, key_start), states)
        return found, UnrolledState(states, jnp.where(over, 0, age), key)

    return Estimator(init, estimate)
