"""A training loop: segments of scanned steps, evaluated, logged and checkpointed in between."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from wsljax.train.checkpoint import Checkpointer
from wsljax.train.data import Source, StatefulIterator
from wsljax.train.logs import Log
from wsljax.train.mesh import replicate
from wsljax.train.segments import InMemory, Streamed
from wsljax.train.step import TrainState, averaged, init_state, make_step

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
    accumulate: int = 1,
    compute_dtype: jnp.dtype | type | None = None,
    log: Log | None = None,
    checkpointer: Checkpointer | None = None,
    mesh: Mesh | None = None,
    profile: str | Path | None = None,
) -> FitResult:
    """Minimise `loss` over the inexact arrays of `model`.

    Shapes: every leaf of `data` is `(samples, ...)`; a batch is `(batch_size, ...)`.

    Args:
        loss: `loss(model, batch, *, key)`, a scalar, or a scalar and a dict of scalars to report.
        model: any pytree, an Equinox module in particular.
        data: a pytree of arrays with one leading sample axis, held on device; or a `Source`, read by
            index as it is needed; or an iterator over batches with `get_state` and `set_state`, as those
            of grain. Of all three a resumed run sees the batches it would have seen.
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
        accumulate, compute_dtype: see `make_step`.
        log: called as `log(step, metrics)` after each segment.
        checkpointer: saved to after each segment. If it holds a checkpoint the run resumes from
            it, with results identical to those of an uninterrupted run.
        mesh: split each batch over its axis `"zoo"`, everything else replicated. It may span
            processes; every process then makes the same call.
        profile: a folder for a trace of the second segment (the first one compiles), in the format
            of `jax.profiler`.

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
    if select is not None and select[1] not in ("min", "max"):
        raise ValueError(f"`select` is {select!r}; its second entry is 'min' or 'max'.")
    order_key, loss_key = jax.random.split(key)
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)
    state = init_state(model, optimiser, average=average)
    carry = _Carry(state, state.params, np.float32(np.nan), np.int32(0))
    carry = carry._replace(state=replicate(carry.state, mesh), best=replicate(carry.best, mesh))
    history: list[dict[str, float]] = []
    step = make_step(
        loss, model, optimiser, average=average, accumulate=accumulate, compute_dtype=compute_dtype
    )
    run = Streamed if isinstance(data, Source | StatefulIterator) else InMemory
    segment = run(step, data, batch_size, every, order_key, mesh)
    if checkpointer is not None and checkpointer.latest() is not None:
        carry = checkpointer.restore(carry)
        items = checkpointer.items()
        history = items["history"]
        segment.restore(items.get("data"))
        _LOGGER.info("resumed at step %d from %s", carry.state.step, checkpointer.folder)
    state = jax.tree.map(jnp.copy, carry.state)  # segments donate it, and `best` may be the same
    carry = carry._replace(state=state)

    done = start = int(carry.state.step)
    while done < steps:
        taken = min(every, steps - done)
        with _profiled(profile if done == start + every else None):
            state, totals = segment(carry.state, done, taken, loss_key)
            totals = jax.device_get(totals)
        done += taken
        row = {name: float(total) / taken for name, total in totals.items()}
        params = averaged(state, average)
        if evaluate is not None:
            found = evaluate(eqx.combine(params, static))
            row |= {name: float(value) for name, value in found.items()}
        carry = _keep_best(carry._replace(state=state), params, row, select, done)
        history.append({"step": done, **row})
        if checkpointer is not None:
            checkpointer.save(done, carry, {"history": history, "data": segment.where()})
        if log is not None:
            log(done, row)

    last = eqx.combine(averaged(carry.state, average), static)
    best = last if select is None else eqx.combine(carry.best, static)
    return FitResult(last, best, done if select is None else int(carry.best_step), history)


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


def _profiled(folder: str | Path | None) -> Any:
    return contextlib.nullcontext() if folder is None else jax.profiler.trace(str(folder))
