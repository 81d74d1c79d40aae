"""A training loop: segments of scanned steps, evaluated, logged and checkpointed in between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wsljax.train.checkpoint import Checkpointer
from wsljax.train.logs import Log
from wsljax.train.mesh import ZOO_AXIS, replicate
from wsljax.train.step import TrainState, averaged, epoch_batches, init_state, make_step

_LOGGER = logging.getLogger("wsljax")


class FitResult(NamedTuple):
    """What `fit` returns.

    Attributes:
        model: the model after the last step (averaged, if an average was asked for).
        best: the model at the evaluation that `select` judged best (`model` without `select`).
        best_step: when that was.
        history: one dict an evaluation: `step`, mean training metrics since the last, evaluation.
    """

    model: Any
    best: Any
    best_step: int
    history: list[dict[str, float]]


class _Carry(NamedTuple):
    """Everything a checkpoint must hold for the run to go on as if nothing had happened."""

    state: TrainState
    best: Any
    best_value: np.float32
    best_step: np.int32


def fit(
    loss: Callable[..., Any],
    model: Any,
    data: Any,
    *,
    steps: int,
    batch_size: int,
    optimiser: optax.GradientTransformation,
    key: jax.Array,
    every: int = 100,
    evaluate: Callable[[Any], Mapping[str, Any]] | None = None,
    select: tuple[str, str] | None = None,
    average: float | None = None,
    log: Log | None = None,
    checkpointer: Checkpointer | None = None,
    mesh: Mesh | None = None,
) -> FitResult:
    """Minimise `loss` over the inexact arrays of `model`.

    Shapes: every leaf of `data` is `(samples, ...)`; a batch is `(batch_size, ...)`.

    Args:
        loss: `loss(model, batch, *, key)`, a scalar, or a scalar and a dict of scalars to report.
        model: any pytree, an Equinox module in particular.
        data: a pytree of arrays with one leading sample axis, held on device.
        steps: how many steps to take in all, those before an interruption included.
        batch_size: samples a step; each epoch has its own order and drops what does not fill one.
        optimiser: any optax transformation.
        key: a typed key; the batches and the keys of the loss are functions of it and the step.
        every: steps in one compiled segment, between two evaluations.
        evaluate: `evaluate(model)`, a dict of scalars; called between segments and at the end.
        select: `(metric, "min" or "max")`: keep the model with the best such metric, which is
            one that `evaluate` returns or `loss`. It never looks at anything else.
        average: decay of a running average of the parameters; what is evaluated, selected and
            returned is then the average.
        log: called as `log(step, metrics)` after each segment.
        checkpointer: saved to after each segment. If it holds a checkpoint the run resumes from
            it, with results identical to those of an uninterrupted run.
        mesh: split each batch over its axis `"zoo"`, everything else replicated.

    Returns:
        A `FitResult`.

    Raises:
        ValueError: leaves of `data` of different lengths, a batch that does not fit, a `select`
            that names no metric, or a checkpoint of another run.

    Example:
        >>> loss = lambda w, batch, *, key: jnp.mean((batch - w) ** 2)
        >>> result = fit(loss, jnp.zeros(()), jnp.full(8, 3.0), steps=50, batch_size=4,
        ...              optimiser=optax.sgd(0.2), key=jax.random.key(0))
        >>> round(float(result.model), 3)
        3.0
    """
    count = _sample_count(data)
    if select is not None and select[1] not in ("min", "max"):
        raise ValueError(f"`select` is {select!r}; its second entry is 'min' or 'max'.")
    order_key, loss_key = jax.random.split(key)
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)
    state = init_state(model, optimiser, average=average)
    carry = _Carry(state, state.params, np.float32(np.nan), np.int32(0))
    history: list[dict[str, float]] = []
    if checkpointer is not None and checkpointer.latest() is not None:
        carry = checkpointer.restore(carry)
        history = checkpointer.items()["history"]
        _LOGGER.info("resumed at step %d from %s", carry.state.step, checkpointer.folder)
    state = jax.tree.map(jnp.copy, carry.state)  # segments donate it, and `best` may be the same
    carry = carry._replace(state=replicate(state, mesh))
    data = replicate(data, mesh)
    segment = _make_segment(make_step(loss, model, optimiser, average=average), data, mesh)

    done = int(carry.state.step)
    while done < steps:
        taken = min(every, steps - done)
        batches = np.zeros((every, batch_size), np.int32)
        batches[:taken] = epoch_batches(count, batch_size, done, done + taken, key=order_key)
        state, totals = segment(carry.state, batches, taken, loss_key)
        done += taken
        row = {name: float(total) / taken for name, total in totals.items()}
        params = averaged(state, average)
        if evaluate is not None:
            found = evaluate(eqx.combine(params, static))
            row |= {name: float(value) for name, value in found.items()}
        carry = _keep_best(carry._replace(state=state), params, row, select, done)
        history.append({"step": done, **row})
        if checkpointer is not None:
            checkpointer.save(done, carry, {"history": history})
        if log is not None:
            log(done, row)

    last = eqx.combine(averaged(carry.state, average), static)
    best = last if select is None else eqx.combine(carry.best, static)
    return FitResult(last, best, done if select is None else int(carry.best_step), history)


def _make_segment(step, data, mesh):
    """Up to `len(batches)` steps a call; `taken` is traced, so a short one compiles nothing."""

    @eqx.filter_jit(donate="all-except-first")
    def run(fixed, state):
        data, batches, taken, key = fixed

        def body(index, loop):
            state, totals = loop
            batch = jax.tree.map(lambda leaf: leaf[batches[index]], data)
            if mesh is not None:
                split = NamedSharding(mesh, PartitionSpec(ZOO_AXIS))
                batch = jax.lax.with_sharding_constraint(batch, split)
            state, metrics = step(state, batch, jax.random.fold_in(key, state.step))
            return state, jax.tree.map(jnp.add, totals, metrics)

        first = jax.tree.map(lambda leaf: leaf[batches[0]], data)
        _, metrics = jax.eval_shape(step, state, first, key)
        totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)
        return jax.lax.fori_loop(0, taken, body, (state, totals))

    def segment(state, batches, taken, key):
        fixed = (data, jnp.asarray(batches), jnp.asarray(taken, jnp.int32), key)
        return run(fixed, state)

    return segment


def _keep_best(carry: _Carry, params: Any, row: Mapping[str, float], select, step: int) -> _Carry:
    if select is None:
        return carry
    name, mode = select
    if name not in row:
        raise ValueError(f"`select` names {name!r}, but the metrics are {sorted(row)}.")
    value, so_far = np.float32(row[name]), carry.best_value
    better = value < so_far if mode == "min" else value > so_far
    if np.isnan(so_far) or better:
        best = jax.tree.map(jnp.copy, params)
        return carry._replace(best=best, best_value=value, best_step=np.int32(step))
    return carry


def _sample_count(data: Any) -> int:
    leaves = jax.tree_util.tree_flatten_with_path(data)[0]
    counts = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "data"
        if np.ndim(leaf) == 0:
            raise ValueError(f"`data`: {name} is a scalar; every leaf needs a leading sample axis.")
        counts[name] = np.shape(leaf)[0]
    if len(set(counts.values())) != 1:
        raise ValueError(f"`data`: the leaves have different numbers of samples: {counts}.")
    return next(iter(counts.values()))
