"""Compiled segments of training steps, over arrays on device or over chunks that are read on the way."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wsljax.train.data import CHUNK, Reader, Source, StatefulIterator
from wsljax.train.mesh import ZOO_AXIS, replicate
from wsljax.train.step import Step, TrainState, epoch_batches


class InMemory:
    """Segments of up to `every` steps over arrays `(samples, ...)` on device."""

    def __init__(
        self, step: Step, data: Any, batch_size: int, every: int, key: jax.Array, mesh: Mesh | None
    ):
        self.count, self.batch_size, self.every, self.key = (
            sample_count(data),
            batch_size,
            every,
            key,
        )
        self.data = replicate(data, mesh)

        def pick(data: Any, rows: jax.Array) -> Any:
            batch = jax.tree.map(lambda leaf: leaf[rows], data)
            if mesh is None:
                return batch
            return jax.lax.with_sharding_constraint(
                batch, NamedSharding(mesh, PartitionSpec(ZOO_AXIS))
            )

        self.run = _steps(step, pick)

    def __call__(self, state: TrainState, done: int, taken: int, key: jax.Array) -> Any:
        """The state after `taken` more steps, and the sums of the metrics over them."""
        rows = np.zeros((self.every, self.batch_size), np.int32)
        found = epoch_batches(self.count, self.batch_size, done, done + taken, key=self.key)
        rows[:taken] = found
        return self.run((self.data, jnp.asarray(rows), jnp.asarray(taken, jnp.int32), key), state)

    def where(self) -> None:
        """What a checkpoint must know of the data: nothing."""

    def restore(self, where: Any) -> None:
        """Go on from there."""


class Streamed:
    """Segments over what a `Reader` reads ahead."""

    def __init__(
        self,
        step: Step,
        data: Source | StatefulIterator,
        batch_size: int,
        every: int,
        key: jax.Array,
        mesh: Mesh | None,
    ):
        self.data, self.chunk = data, min(CHUNK, every)
        self.reader = Reader(data, batch_size, key, mesh, self.chunk)
        self.run = _steps(step, lambda data, index: jax.tree.map(lambda leaf: leaf[index], data))

    def __call__(self, state: TrainState, done: int, taken: int, key: jax.Array) -> Any:
        totals: Any = None
        rows = jnp.arange(self.chunk)
        for arrays, count in self.reader.chunks(done, done + taken):
            fixed = (arrays, rows, jnp.asarray(count, jnp.int32), key)
            state, found = self.run(fixed, state)
            totals = found if totals is None else jax.tree.map(jnp.add, totals, found)
        return state, totals

    def where(self) -> Any:
        state = self.reader.state
        return {"bytes": state.hex()} if isinstance(state, bytes) else state

    def restore(self, where: Any) -> None:
        if where is None:
            if isinstance(self.data, StatefulIterator):
                raise ValueError(
                    "the checkpoint does not say where an iterator over the data stood; it was made "
                    "with other data: go on with the same, or start in another folder"
                )
            return
        if not isinstance(self.data, StatefulIterator):
            raise ValueError(
                "the checkpoint is of a run over an iterator; go on with the same data"
            )
        kept = isinstance(where, dict) and set(where) == {"bytes"}
        self.data.set_state(bytes.fromhex(where["bytes"]) if kept else where)


def _steps(step: Step, pick: Any) -> Any:
    """`run((data, rows, taken, key), state)`: `taken` steps, the batch of each `pick(data, rows[i])`.

    `taken` is traced, so a short segment compiles nothing.
    """

    @eqx.filter_jit(donate="all-except-first")
    def run(fixed, state):
        data, rows, taken, key = fixed

        def body(index, loop):
            state, totals = loop
            state, metrics = step(
                state, pick(data, rows[index]), jax.random.fold_in(key, state.step)
            )
            return state, jax.tree.map(jnp.add, totals, metrics)

        _, metrics = jax.eval_shape(lambda s: step(s, pick(data, rows[0]), key), state)
        totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)
        return jax.lax.fori_loop(0, taken, body, (state, totals))

    return run


def sample_count(data: Any) -> int:
    """How many samples there are; raises `ValueError` where leaves disagree."""
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
