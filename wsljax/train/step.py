"""One optimiser step, and the order in which batches are drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax


class TrainState(NamedTuple):
    """What a step changes: only arrays, so it jits, checkpoints and shards.

    Attributes:
        params: the inexact array leaves of the model, `None` elsewhere.
        opt_state: the optimiser's state.
        average: running average of `params` (`None` if not asked for).
        step: steps taken.
    """

    params: Any
    opt_state: Any
    average: Any
    step: jax.Array


Step = Callable[[TrainState, Any, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


def init_state(
    model: Any, optimiser: optax.GradientTransformation, *, average: float | None = None
) -> TrainState:
    """The state before the first step; `average` only says whether an average is kept."""
    params = eqx.filter(model, eqx.is_inexact_array)
    params = jax.tree.map(jnp.copy, params)  # steps may donate the state; the caller's stay alive
    kept = None if average is None else jax.tree.map(jnp.zeros_like, params)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimiser.init(params)
    return TrainState(params, opt_state, kept, jnp.zeros((), jnp.int32))


def make_step(
    loss: Callable[..., Any],
    model: Any,
    optimiser: optax.GradientTransformation,
    *,
    average: float | None = None,
    accumulate: int = 1,
    compute_dtype: jnp.dtype | type | None = None,
) -> Step:
    """A pure function that takes one step.

    Args:
        loss: `loss(model, batch, *, key)`, a scalar, or a scalar and a dict of scalars to report.
        model: any pytree; its inexact arrays are trained, all else is held fixed.
        optimiser: any optax transformation.
        average: decay of a running average of the parameters, read with `averaged`.
        accumulate: in how many equal parts, one after the other, a batch is worked through: as many
            times less memory, the same mean gradient (of losses that are means over samples).
        compute_dtype: the dtype in which the loss is computed (`jnp.bfloat16`); parameters, gradients
            and the optimiser keep theirs.

    Returns:
        `step(state, batch, key) -> (state, metrics)`, traceable and not jitted; `metrics` holds
        `loss` and what the loss reported.

    Example:
        >>> loss = lambda w, batch, *, key: jnp.mean((w - batch) ** 2)
        >>> optimiser = optax.sgd(0.5)
        >>> step = make_step(loss, jnp.zeros(2), optimiser)
        >>> state = init_state(jnp.zeros(2), optimiser)
        >>> step(state, jnp.ones(2), jax.random.key(0))[0].params.tolist()
        [0.5, 0.5]
    """
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)

    if accumulate < 1:
        raise ValueError(f"`accumulate` is {accumulate}; it is a number of parts, at least 1.")

    def objective(params, batch, key):
        if compute_dtype is not None:
            params, batch = _cast(params, compute_dtype), _cast(batch, compute_dtype)
        value = loss(eqx.combine(params, static), batch, key=key)
        value, extra = value if isinstance(value, tuple) else (value, {})
        found = {"loss": value, **extra}
        return value, found if compute_dtype is None else _cast(found, jnp.float32)

    def gradient(params, batch, key):
        slope = jax.grad(objective, has_aux=True)
        if accumulate == 1:
            return slope(params, batch, key)
        parts = jax.tree.map(lambda x: _in_parts(x, accumulate), batch)
        keys = jax.random.split(key, accumulate)
        first = jax.eval_shape(slope, params, jax.tree.map(lambda x: x[0], parts), key)
        total = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

        def add(total, part):
            return jax.tree.map(jnp.add, total, slope(params, *part)), None

        total, _ = jax.lax.scan(add, total, (parts, keys))
        return jax.tree.map(lambda x: x / accumulate, total)

    def step(state: TrainState, batch: Any, key: jax.Array):
        grads, metrics = gradient(state.params, batch, key)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        kept = state.average
        if average is not None:
            share = 1 - average
            kept = jax.tree.map(lambda a, p: a + share * (p - a), kept, params)
        return TrainState(params, opt_state, kept, state.step + 1), metrics

    return step


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


def _in_parts(x: jax.Array, parts: int) -> jax.Array:
    """`(samples, ...)` to `(parts, samples / parts, ...)`, each part spread over the whole batch, so
    that a batch that is split over devices stays split."""
    if x.shape[0] % parts:
        raise ValueError(f"a batch of {x.shape[0]} samples cannot be split in {parts} equal parts.")
    return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)


def averaged(state: TrainState, average: float | None) -> Any:
    """The averaged parameters, corrected for starting at zero (or `params` if none is kept).

    The average after t steps has taken weights that sum to `1 - average**t`; it is divided by it
    (Kingma and Ba 2015, section 3).
    """
    if average is None or state.average is None:
        return state.params
    mass = 1 - average ** state.step.astype(jnp.float32)
    return jax.tree.map(lambda a: (a / mass).astype(a.dtype), state.average)


def epoch_batches(
    count: int, batch_size: int, start: int, stop: int, *, key: jax.Array
) -> np.ndarray:
    """Which samples steps `start..stop-1` see: each epoch in a new order, the rest of it dropped.

    A pure function of the step, so a resumed run sees what it would have seen.

    Args:
        count: number of samples.
        batch_size: samples a step, at most `count`.
        start, stop: the steps.
        key: a typed key; epoch e is shuffled with `fold_in(key, e)`.

    Returns:
        Integer array `(stop - start, batch_size)`.

    Raises:
        ValueError: `batch_size` is not between 1 and `count`.

    Example:
        >>> epoch_batches(4, 2, 0, 2, key=jax.random.key(0)).shape
        (2, 2)
    """
    if not 1 <= batch_size <= count:
        raise ValueError(
            f"`batch_size` is {batch_size} but there are {count} samples; choose 1 to {count}."
        )
    per_epoch = count // batch_size
    first, last = start // per_epoch, (max(stop, start + 1) - 1) // per_epoch
    rows = []
    for epoch in range(first, last + 1):
        order = np.asarray(_shuffled(key, epoch, count))
        rows.append(order[: per_epoch * batch_size].reshape(per_epoch, batch_size))
    return np.concatenate(rows)[start - first * per_epoch : stop - first * per_epoch]


@functools.partial(jax.jit, static_argnums=2)
def _shuffled(key: jax.Array, epoch: jax.Array, count: int) -> jax.Array:
    return jax.random.permutation(jax.random.fold_in(key, epoch), count)
