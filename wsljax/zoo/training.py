"""Train a population in one vmapped, scanned computation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from wsljax.train.checkpoint import Checkpointer
from wsljax.train.logs import Log
from wsljax.train.mesh import replicate, shard
from wsljax.zoo.chunks import chunk_indices, chunk_size, pad_models, round_up, tree_bytes
from wsljax.zoo.claim import claim_folder, digest
from wsljax.zoo.hyper import Hyper, complete_hyper
from wsljax.zoo.networks import Network
from wsljax.zoo.population import Population

_LOGGER = logging.getLogger("wsljax")


def train(
    init: Callable[..., Any],
    loss: Callable[..., Any],
    data: Any,
    hyper: Mapping[str, Any],
    *,
    key: jax.Array,
    steps: int | None = None,
    batch_size: int | None = None,
    spec: Any = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    chunk: int | None = None,
    memory: int = 2**31,
    mesh: Mesh | None = None,
    every: int = 50,
    log: Log | None = None,
    folder: str | Path | None = None,
    save_every: float = 20.0,
) -> Population:
    """Train one network for each row of `hyper`, all of one architecture.

    A network is a function of `key`, its row and the data alone: chunks, devices, interruptions
    and its neighbours do not change it (up to the order in which a device adds up).

    Args:
        init: `init(row, *, key) -> params`, one network; `row` is its row of `hyper` as scalars.
        loss: `loss(params, row, batch, *, key) -> scalar`, one network.
        data: a pytree of arrays `(samples, ...)` that all networks train on (data of a network's
            own can be a column of `hyper`).
        hyper: name -> array `(models, ...)`; see `complete_hyper` for the names read here. Networks
            train for their own number of `steps`, with their own `optimiser`.
        key: a typed key; network i uses `fold_in(key, seed[i])` for its initialisation, its
            batches and the keys of its loss.
        steps: training length where `hyper` has no column `steps`.
        batch_size: samples a step, drawn with replacement by each network for itself; `None`: all.
        spec: kept with the population.
        labels: names behind the codes of integer columns.
        chunk: networks trained at once; default: what fits in `memory`.
        memory: bytes that may be used on each device.
        mesh: split each chunk over its axis `"zoo"`.
        every: steps in one compiled segment.
        log: `log(done, metrics)` after each segment; `done` grows to `work(hyper, ...)`.
        folder: where progress is kept. If it holds some, the run goes on from there, with
            identical results.
        save_every: seconds between two saves within a chunk.

    Returns:
        A `Population` in the order of `hyper`: its columns, and `loss` (last batch), `steps_taken`
        and `diverged`. A network whose update is not finite keeps the weights before it.

    Raises:
        ValueError: columns that do not fit (see `complete_hyper`), a batch larger than the data, or
            a `folder` that holds another run.

    Example:
        >>> init = lambda row, *, key: {"w": row["scale"] * jax.random.normal(key, (2,))}
        >>> loss = lambda params, row, batch, *, key: jnp.mean((batch @ params["w"] - 1) ** 2)
        >>> hyper = {"scale": [0.1, 1.0], "optimiser": ["sgd", "adam"], "learning_rate": [0.1, 0.1]}
        >>> zoo = train(init, loss, jnp.eye(2), hyper, steps=200, key=jax.random.key(0))
        >>> zoo.params["w"].round(2).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    complete = complete_hyper(hyper, steps=steps)
    data = jax.tree.map(jnp.asarray, data)
    _check_batch(data, batch_size)
    run = _Trainer(init, loss, data, complete, key, batch_size, every, mesh)
    size = chunk or chunk_size(run.bytes_per_model(), complete.count, memory=memory, mesh=mesh)
    size = round_up(min(size, complete.count), mesh)
    if folder is not None:
        run_identity = _identity(data, complete, key, size, batch_size)
        claim_folder(Path(folder), "zoo.json", run_identity)

    # Networks of about the same training length share a chunk, so few steps are masked out.
    order = np.argsort(complete.columns["steps"], kind="stable")
    pieces = list(chunk_indices(order, size))
    done, states = 0, []
    for number, index in enumerate(pieces):
        length = int(complete.columns["steps"][index].max())

        def report(step, metrics, before=done, index=index, number=number):
            if log is not None:
                part = {"chunk": f"{number + 1}/{len(pieces)}"}
                log(before + step * len(index), {**metrics, **part})

        place = None if folder is None else Path(folder) / f"chunk_{number:05d}"
        states.append(run.chunk(index, size, length, place, save_every, report))
        done += length * len(index)

    back = np.argsort(order, kind="stable")
    state = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[back]), *states)
    columns = {
        **complete.columns,
        "loss": state.loss,
        "steps_taken": state.steps_taken,
        "diverged": state.diverged,
    }
    params = eqx.combine(state.params, run.static)
    return Population(params, columns, spec, {**complete.labels, **(labels or {})})


def total_work(
    hyper: Mapping[str, Any], *, chunk: int | None = None, steps: int | None = None
) -> int:
    """The value that `done` reaches in the log of `train`: networks times steps, by chunks."""
    complete = complete_hyper(hyper, steps=steps)
    lengths = np.sort(complete.columns["steps"])
    pieces = chunk_indices(lengths, chunk or complete.count)
    return sum(int(piece.max()) * len(piece) for piece in pieces)


class _Trainer:
    """What all chunks share: the compiled functions and the data."""

    def __init__(self, init, loss, data, hyper: Hyper, key, batch_size, every, mesh):
        self.hyper, self.mesh, self.every, self.key = hyper, mesh, every, key
        self.data = replicate(data, mesh)
        self.row = {name: jnp.asarray(column[0]) for name, column in hyper.columns.items()}
        shapes = eqx.filter_eval_shape(lambda key: init(self.row, key=key), key)
        self.static = eqx.filter(shapes, lambda leaf: not isinstance(leaf, jax.ShapeDtypeStruct))
        self.network = Network(init, loss, batch_size, self.static)
        self.start = jax.jit(jax.vmap(self.network.start, in_axes=(0, None)))
        self.segment = jax.jit(self._segment, donate_argnums=0)

    def _segment(self, state, rows, rules, data, key, first):
        step = jax.vmap(self.network.step, in_axes=(0, 0, 0, None, None, None))

        def body(state, offset):
            return step(state, rows, rules, data, key, first + offset), None

        state, _ = jax.lax.scan(body, state, jnp.arange(self.every, dtype=jnp.int32))
        seen = jnp.isfinite(state.loss)
        loss = jnp.sum(jnp.where(seen, state.loss, 0)) / jnp.maximum(jnp.sum(seen), 1)
        return state, loss

    def bytes_per_model(self) -> int:
        """Weights, moments, batch and what the backward pass keeps, of one network, by shape."""

        def kept(row, data, key):
            state = self.network.start(row, key)
            batch, loss_key = self.network.draw(row, data, key, jnp.int32(0))
            return state, batch, self.network.pullback(state.params, row, batch, loss_key)

        return 2 * tree_bytes(jax.eval_shape(kept, self.row, self.data, self.key))

    def chunk(self, index, size, length, place, save_every, report) -> Any:
        """Train the networks at `index`; their final states, on the host."""
        rows = pad_models({name: c[index] for name, c in self.hyper.columns.items()}, size)
        rows["steps"] = jnp.where(jnp.arange(size) < len(index), rows["steps"], 0)
        rules = pad_models(jax.tree.map(lambda c: c[index], self.hyper.rules), size)
        rows, rules = shard(rows, self.mesh), shard(rules, self.mesh)
        key = replicate(self.key, self.mesh)
        state, step = self.start(rows, key), 0
        store = None if place is None else Checkpointer(place)
        if store is not None and store.latest() is not None:
            step, state = store.latest(), store.restore(state)
            _LOGGER.info("%s resumed at step %d", place, step)
            report(min(step, length), {})
        saved = time.monotonic()
        while step < length:
            state, loss = self.segment(state, rows, rules, self.data, key, jnp.int32(step))
            step = min(step + self.every, length)
            report(step, {"loss": float(loss)})
            if store is not None and (step == length or time.monotonic() - saved > save_every):
                store.save(step, state)
                saved = time.monotonic()
        if store is not None:
            store.close()
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(index)], state)


def _check_batch(data: Any, batch_size: int | None) -> None:
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(data)}
    if batch_size is None:
        return
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"`data` must have one leading sample axis to draw batches from; lengths: {lengths}."
        )
    if not 1 <= batch_size:
        raise ValueError(f"`batch_size` is {batch_size}; it is 1 or more, or None for all.")


def _identity(data: Any, hyper: Hyper, key: jax.Array, size: int, batch_size) -> dict[str, Any]:
    return {
        "models": hyper.count,
        "chunk": size,
        "batch_size": batch_size,
        "key": digest(jax.random.key_data(key)),
        "data": digest(data),
        **{f"hyper column {name}": digest(column) for name, column in hyper.columns.items()},
    }
