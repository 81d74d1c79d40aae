"""Training some weights while others are held, in one scan: what fits curves and geodesics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from .statistics import examples


def descend(
    objective: Callable[..., jax.Array],
    start: Any,
    data: tuple,
    *,
    optimiser: optax.GradientTransformation,
    steps: int,
    batch_size: int | None,
    key: jax.Array,
) -> tuple[Any, jax.Array]:
    """Minimise ``objective(free, batch, key)`` over the floating arrays of ``start``.

    Args:
        objective: gives a scalar.
        start: any tree.
        data: trees of arrays with a leading axis of examples, or none.
        optimiser: any of optax's.
        steps: updates.
        batch_size: examples of each update, drawn with replacement; None: all examples in every update.
        key: for batches and for the objective.

    Returns:
        The tree after the last step, and the objective before each, ``(steps,)``.
    """
    if steps < 1:
        raise ValueError(f"`steps` is {steps}; it is a number of updates, at least 1")
    count = examples(data) if jax.tree.leaves(data) else 0
    if batch_size is not None and not 1 <= batch_size <= max(count, 1):
        raise ValueError(f"`batch_size` is {batch_size}, and there are {count} examples")
    start = jax.tree.map(jnp.asarray, start)
    free, held = eqx.partition(start, eqx.is_inexact_array)

    def loss(free, batch, key):
        return objective(eqx.combine(free, held), batch, key)

    def step(state, key):
        free, opt_state = state
        rows_key, own = jax.random.split(key)
        batch = data
        if batch_size is not None and count:
            rows = jax.random.randint(rows_key, (batch_size,), 0, count)
            batch = jax.tree.map(lambda x: jnp.asarray(x)[rows], data)
        value, grads = jax.value_and_grad(loss)(free, batch, own)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, opt_state = optimiser.update(grads, opt_state, free)
            free = optax.apply_updates(free, updates)
        return (free, opt_state), value

    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimiser.init(free)
    (free, _), values = jax.lax.scan(step, (free, opt_state), jax.random.split(key, steps))
    return eqx.combine(free, held), values
