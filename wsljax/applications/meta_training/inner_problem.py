"""What goes on step by step under settings ``theta``, with a loss at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class InnerProblem(NamedTuple):
    """Two pure functions.

    Attributes:
        start: ``start(theta, key) -> state``, a fresh one.
        step: ``step(theta, state) -> (state, loss)``, a scalar. What is random comes from a key in the state.

    Example:
        >>> import jax.numpy as jnp
        >>> decay = InnerProblem(
        ...     start=lambda theta, key: jnp.ones(()),
        ...     step=lambda theta, x: (theta * x, x**2),
        ... )
        >>> state, losses = advance(decay, 0.5, decay.start(0.5, None), 3)
        >>> losses.tolist()
        [1.0, 0.25, 0.0625]
    """

    start: Callable[[Any, Any], Any]
    step: Callable[[Any, Any], tuple[Any, jax.Array]]


def advance(
    inner: InnerProblem, theta: Any, state: Any, steps: int, *, remat: bool = False
) -> tuple[Any, jax.Array]:
    """So many steps: the state after them, and the losses ``(steps,)``.

    Args:
        inner: the problem.
        theta, state: its settings and where it is.
        steps: how many.
        remat: in a gradient, compute each step again instead of keeping what is in it.
    """

    def step(state: Any, _: None) -> tuple[Any, jax.Array]:
        return inner.step(theta, state)

    return jax.lax.scan(jax.checkpoint(step) if remat else step, state, None, length=steps)


def check_lengths(particles: int, truncation: int, horizon: int) -> None:
    """Raise a ValueError if a run of ``horizon`` steps is not made of whole pieces."""
    if particles < 1 or truncation < 1:
        raise ValueError(
            f"`particles` and `truncation` must be positive; got {particles} and {truncation}"
        )
    if horizon < truncation or horizon % truncation:
        raise ValueError(
            f"`horizon` must be a multiple of `truncation`; got {horizon} and {truncation}"
        )


def first_ages(particles: int, truncation: int, horizon: int, staggered: bool) -> jax.Array:
    """The ages at which runs begin, ``(particles,)``.

    Staggered runs end at different times, so that every estimate sees all ages: the first run of each
    but the first is cut short.
    """
    pieces = horizon // truncation
    first = jnp.arange(particles) * pieces // particles * truncation
    return first if staggered else jnp.zeros_like(first)


def choose(condition: jax.Array, new: Any, old: Any) -> Any:
    """``new`` where the condition ``(particles,)`` holds, ``old`` elsewhere; trees of stacked arrays."""

    def one(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(-1, *(1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(
        lambda a, b: (
            jax.random.wrap_key_data(
                one(jax.random.key_data(a), jax.random.key_data(b)), impl=jax.random.key_impl(b)
            )
            if jnp.issubdtype(b.dtype, jax.dtypes.prng_key)
            else one(a, b)
        ),
        new,
        old,
    )
