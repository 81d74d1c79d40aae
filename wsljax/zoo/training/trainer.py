"""The compiled part of training a population: a chunk at a time, in lanes, over devices, resumable."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from wsljax.train.checkpoint import Checkpointer
from wsljax.train.mesh import ZOO_AXIS, replicate, shard
from wsljax.zoo.architectures.sine import quick_sine
from wsljax.zoo.chunks import pad_models, tree_bytes
from wsljax.zoo.training.hyper import Hyper
from wsljax.zoo.training.networks import Material, ModelState, Network, subset_order

_LOGGER = logging.getLogger("wsljax")

#: Bytes that networks that take a step together may touch on a CPU; measured: twice and half of it
#: are slower for digit MLPs, SIRENs and small CNNs taken together.
CACHE = 2**23


class Trajectory(NamedTuple):
    """A trained chunk on the host: its last state, and `(step, (params, loss))` of each snapshot."""

    final: ModelState
    snapshots: list[tuple[int, Any]]


def fitting_lanes(bytes_per_model: int, size: int, mesh: Mesh | None) -> int:
    """How many networks should take a step together: those whose step stays in a CPU's cache.

    >>> fitting_lanes(2**30, 64, None)
    1
    """
    if _platform(mesh) != "cpu":
        return size
    return max(1, min(size, CACHE // max(1, bytes_per_model)))


def _platform(mesh: Mesh | None) -> str:
    if mesh is not None:
        return mesh.devices.flat[0].platform
    return next(iter(jnp.zeros(()).devices())).platform


class Trainer:
    """What all chunks share: the compiled functions and the data."""

    def __init__(
        self,
        init: Callable[..., Any],
        loss: Callable[..., Any],
        data: Any,
        own: tuple[str, Any] | None,
        hyper: Hyper,
        key: jax.Array,
        batch_size: int | None,
        every: int,
        mesh: Mesh | None,
        stop: Callable[..., Any] | None,
        snapshots: Sequence[int],
    ):
        self.hyper, self.mesh, self.every, self.key = hyper, mesh, every, key
        self.own, self.snapshots, self.lanes = own, snapshots, 1
        self.platform = _platform(mesh)
        self.data = replicate(data, mesh)
        self.row = {name: jnp.asarray(column[0]) for name, column in hyper.columns.items()}
        shapes = eqx.filter_eval_shape(lambda key: init(self.row, key=key), key)
        self.static = eqx.filter(shapes, lambda leaf: not isinstance(leaf, jax.ShapeDtypeStruct))
        self.network = Network(init, loss, batch_size, self.static, stop)
        self.start = jax.jit(jax.vmap(self.network.start, in_axes=(0, None)))
        self.segment = jax.jit(self._segment, donate_argnums=0)

    # ------------------------------------------------------------------------- the computation
    def _segment(self, state, rows, rules, data, material, key, first, last):
        """Steps from `first` to before `last` of all networks; the mean loss and how many go on."""

        quick = quick_sine() if self.platform == "cpu" else contextlib.nullcontext()

        def local(state, rows, rules, data, material, key, first, last):
            lanes = min(self.lanes, len(state.loss))
            groups = len(state.loss) // lanes
            several = (state, rows, rules, material)
            shared = {"data": data, "key": key, "first": first, "last": last}
            if groups == 1:
                return self._steps(*several, **shared)
            cut = jax.tree.map(lambda x: x.reshape(groups, lanes, *x.shape[1:]), several)
            out = jax.lax.map(lambda part: self._steps(*part, **shared), cut)
            return jax.tree.map(lambda x: x.reshape(groups * lanes, *x.shape[2:]), out)

        if self.mesh is not None:
            zoo, whole = PartitionSpec(ZOO_AXIS), PartitionSpec()
            local = jax.shard_map(
                local,
                mesh=self.mesh,
                in_specs=(zoo, zoo, zoo, whole, zoo, whole, whole, whole),
                out_specs=zoo,
                check_vma=False,
            )
        with quick:
            state = local(state, rows, rules, data, material, key, first, last)
        seen = jnp.isfinite(state.loss)
        loss = jnp.sum(jnp.where(seen, state.loss, 0)) / jnp.maximum(jnp.sum(seen), 1)
        going = jnp.sum((rows["steps"] > last) & ~state.stopped & ~state.diverged)
        return state, loss, going

    def _steps(self, state, rows, rules, material, data, key, first, last):
        step = jax.vmap(self.network.step, in_axes=(0, 0, 0, None, 0, None, None))

        def body(number, state):
            return step(state, rows, rules, data, material, key, number)

        return jax.lax.fori_loop(first, last, body, state)

    # ------------------------------------------------------------------------------ one chunk
    def chunk(
        self,
        index: np.ndarray,
        size: int,
        length: int,
        place: Path | None,
        save_every: float,
        report: Callable[..., None],
    ) -> Trajectory:
        """Train the networks at `index`; where they went, on the host."""
        size = self._in_lanes(size)
        rows = pad_models({name: c[index] for name, c in self.hyper.columns.items()}, size)
        rows["steps"] = jnp.where(jnp.arange(size) < len(index), rows["steps"], 0)
        rules = pad_models(jax.tree.map(lambda c: c[index], self.hyper.rules), size)
        rows, rules = shard(rows, self.mesh), shard(rules, self.mesh)
        material = self._material(index, size, rows)
        key = replicate(self.key, self.mesh)
        state, step = self.start(rows, key), 0
        progress = _Progress(place, self.snapshots)
        if progress.step is not None:
            step, state = progress.step, progress.restore(state)
            _LOGGER.info("%s resumed at step %d", place, step)
            report(step, {})
        progress.snapshot(step, state)
        ends = {*range(self.every, length, self.every), *self.snapshots, length}
        for end in sorted(end for end in ends if step < end <= length):
            bounds = jnp.int32(step), jnp.int32(end)
            state, loss, going = self.segment(state, rows, rules, self.data, material, key, *bounds)
            step = end if int(going) else length
            progress.snapshot(end, state)
            progress.save(step, state, due=save_every, last=step == length)
            report(step, {"loss": float(loss)})
            if step == length:
                break
        progress.close()
        host = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf)[: len(index)], tree)  # noqa: E731
        return Trajectory(
            host(state), [(s, host(tree)) for s, tree in sorted(progress.kept.items())]
        )

    def _material(self, index: np.ndarray, size: int, rows: Any) -> Material:
        own = subset = None
        if self.own is not None:
            column, arrays = self.own
            chosen = self.hyper.columns[column][index]
            own = shard(pad_models(jax.tree.map(lambda x: x[chosen], arrays), size), self.mesh)
        if "data_fraction" in self.hyper.columns:
            count = self._samples()
            order = jax.jit(jax.vmap(lambda row, key: subset_order(row, key, count), (0, None)))
            subset = shard(order(rows, self.key), self.mesh)
        return Material(own, subset)

    def _samples(self) -> int:
        shared = jax.tree.leaves(self.data)
        if shared:
            return shared[0].shape[0]
        assert self.own is not None
        return jax.tree.leaves(self.own[1])[0].shape[1]

    def _in_lanes(self, size: int) -> int:
        """A number of networks that makes whole groups on every device; sets the lanes to fit."""
        devices = 1 if self.mesh is None else self.mesh.shape[ZOO_AXIS]
        each = size // devices
        groups = math.ceil(each / min(self.lanes, each))
        self.lanes = math.ceil(each / groups)
        return devices * groups * self.lanes

    def bytes_per_model(self) -> int:
        """Weights, moments, batch and what the backward pass keeps, of one network, by shape."""

        def kept(row, data, own, key):
            state = self.network.start(row, key)
            subset = None
            if "data_fraction" in row:
                subset = jnp.zeros(self._samples(), jnp.int32)
            material = Material(own, subset)
            batch, loss_key = self.network.draw(row, data, material, key, jnp.int32(0))
            return state, material, batch, self.network.pullback(state.params, row, batch, loss_key)

        own = None
        if self.own is not None:
            own = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.own[1])
        found = jax.eval_shape(kept, self.row, self.data, own, self.key)
        shared = tree_bytes(self.data) if self.network.batch_size is None else 0
        snapshots = len(self.snapshots) * tree_bytes(found[0].params)
        return max(1, 2 * (tree_bytes(found) - shared) + snapshots)


class _Progress:
    """What is kept of a chunk while it trains: snapshots, and in a folder the newest state."""

    def __init__(self, place: Path | None, snapshots: Sequence[int]):
        self.snapshots, self.kept, self.saved = snapshots, {}, time.monotonic()
        self.states = self.shots = None
        if place is not None:
            self.states = Checkpointer(place)
            self.shots = Checkpointer(place / "snapshots", keep=None) if snapshots else None

    @property
    def step(self) -> int | None:
        """Where an earlier run stopped."""
        return None if self.states is None else self.states.latest()

    def restore(self, state: ModelState) -> ModelState:
        assert self.states is not None
        state = self.states.restore(state)
        if self.shots is not None:
            like = state.params, state.loss
            for step in self.shots.steps():
                self.kept[step] = jax.tree.map(np.asarray, self.shots.restore(like, step))
        return state

    def snapshot(self, step: int, state: ModelState) -> None:
        if step in self.snapshots and step not in self.kept:
            self.kept[step] = jax.tree.map(np.asarray, (state.params, state.loss))
            if self.shots is not None:  # before the state that follows it
                self.shots.save(step, (state.params, state.loss))

    def save(self, step: int, state: ModelState, *, due: float, last: bool) -> None:
        if self.states is not None and (last or time.monotonic() - self.saved > due):
            self.states.save(step, state)
            self.saved = time.monotonic()

    def close(self) -> None:
        for store in (self.states, self.shots):
            if store is not None:
                store.close()
