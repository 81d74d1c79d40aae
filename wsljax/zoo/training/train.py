"""Train a population in one vmapped, scanned computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from wsljax.train.logs import Log
from wsljax.zoo.chunks import chunk_indices, chunk_size, is_stacked, round_up
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population
from wsljax.zoo.training.claim import claim_folder, digest
from wsljax.zoo.training.hyper import Hyper, complete_hyper
from wsljax.zoo.training.supervised import supervised
from wsljax.zoo.training.trainer import Trainer, Trajectory, fitting_lanes

#: Columns that `train` reads or adds, by what they are.
METRIC_COLUMNS, STEP_COLUMNS = ("loss", "diverged", "stopped"), ("steps_taken",)


def train(
    init: Callable[..., Any] | Function,
    loss: Callable[..., Any] | str,
    data: Any,
    hyper: Mapping[str, Any],
    *,
    key: jax.Array,
    steps: int | None = None,
    batch_size: int | None = None,
    own: tuple[str, Any] | None = None,
    snapshots: Sequence[int] = (),
    stop: Callable[..., Any] | None = None,
    spec: Any = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    chunk: int | None = None,
    lanes: int | None = None,
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
        init: a `zoo.Function`, or `init(row, *, key) -> params`, one network; `row` is its row of
            `hyper` as scalars.
        loss: `loss(params, row, batch, *, key) -> scalar`, one network; with a `Function`, also a
            name of `zoo.METRICS`: then `data` is `(x, y)`, and the columns `dropout` and
            `label_noise` are honoured (see `zoo.supervised`).
        data: a pytree of arrays `(samples, ...)` that all networks train on.
        hyper: name -> array `(models, ...)`; see `complete_hyper` for the names read here. Networks
            train for their own number of `steps`, with their own `optimiser`.
        key: a typed key; network i uses `fold_in(key, seed[i])` for its initialisation, its
            batches and the keys of its loss.
        steps: training length where `hyper` has no column `steps`.
        batch_size: samples a step, drawn with replacement by each network for itself; `None`: all.
        own: `(column, arrays)`, data of a network's own: it sees row `hyper[column][i]` of every
            array, `(samples, ...)`. Its batch is `(batch of data, batch of own)`, drawn alike; so
            `("image", images)` with coordinates as `data` fits an INR to each image.
        snapshots: steps at which the weights are kept, too. The population then has a row for each
            network and snapshot, in order, told apart by the columns `run`, `step` and `parent`.
        stop: `stop(loss, row, step) -> bool`: training ends before the update for which it holds.
        spec: kept with the population.
        labels: names behind the codes of integer columns.
        chunk: networks in memory at once; default: what fits in `memory`.
        lanes: networks of a chunk that take a step together; the others wait. Default: all on an
            accelerator, on a CPU as many as its cache holds.
        memory: bytes that may be used on each device.
        mesh: split each chunk over its axis `"zoo"`.
        every: steps in one compiled segment.
        log: `log(done, metrics)` after each segment; `done` grows to `total_work(hyper, ...)`.
        folder: where progress is kept. If it holds some, the run goes on from there, with
            identical results.
        save_every: seconds between two saves within a chunk.

    Returns:
        A `Population` in the order of `hyper`: its columns, and `loss` (last batch), `steps_taken`,
        `diverged`, `stopped`, and `run` (its row), `step` and `parent`. A network whose update is
        not finite keeps the weights before it.

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
    parts = list(
        train_chunks(
            init, loss, data, hyper, key=key, steps=steps, batch_size=batch_size, own=own,
            snapshots=snapshots, stop=stop, spec=spec, labels=labels, chunk=chunk, lanes=lanes,
            memory=memory, mesh=mesh, every=every, log=log, folder=folder, save_every=save_every,
        )
    )  # fmt: skip
    columns = {
        name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns
    }
    order = np.lexsort((columns["step"], columns["run"]))
    columns = {name: column[order] for name, column in columns.items()}
    columns["parent"] = _parents(columns["run"])
    first = parts[0]

    def joined(*leaves):
        if not is_stacked(leaves[0]):
            return leaves[0]
        return jnp.asarray(np.concatenate(leaves)[order])

    params = jax.tree.map(joined, *(part.params for part in parts))
    return Population(params, columns, spec, first.labels, first.function, first.roles)


def train_chunks(
    init: Callable[..., Any] | Function,
    loss: Callable[..., Any] | str,
    data: Any,
    hyper: Mapping[str, Any],
    *,
    key: jax.Array,
    steps: int | None = None,
    batch_size: int | None = None,
    own: tuple[str, Any] | None = None,
    snapshots: Sequence[int] = (),
    stop: Callable[..., Any] | None = None,
    spec: Any = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    chunk: int | None = None,
    lanes: int | None = None,
    memory: int = 2**31,
    mesh: Mesh | None = None,
    every: int = 50,
    log: Log | None = None,
    folder: str | Path | None = None,
    save_every: float = 20.0,
    skip: int = 0,
) -> Iterator[Population]:
    """As `train`, a chunk at a time, for populations larger than memory.

    Args:
        skip: chunks to leave out at the start, e.g. because they have been stored.

    Yields:
        The networks of each chunk, trained, with arrays on the host and the columns of `train`,
        among them `run`, the row of `hyper`, `step`, and `parent`, a row of the same chunk. Networks
        of about the same length of training share a chunk, so that few steps are masked out.
    """
    function, words = None, dict(labels or {})
    if isinstance(init, Function):
        function, settings = init, init.settings
        init = function.init
        chosen = {n: settings[n] for n in (*function.reads, "initialiser") if n in settings}
        words = {n: (v,) if isinstance(v, str) else v for n, v in chosen.items()} | words
    complete = complete_hyper(hyper, steps=steps, words=words)
    if isinstance(loss, str):
        if function is None:
            raise ValueError(
                f"the loss {loss!r} is a name; that needs a `zoo.Function`, not `init`."
            )
        loss = supervised(function, loss)
        if "label_noise" in complete.columns:
            x, y = data
            data = (x, y, np.arange(len(y), dtype=np.int32))
        if own is not None:
            loss = _of_own(loss)
    data = jax.tree.map(jnp.asarray, data)
    own = None if own is None else (own[0], jax.tree.map(np.asarray, own[1]))
    _check(data, own, batch_size, complete, snapshots)
    snapshots = tuple(sorted({int(step) for step in snapshots}))
    run = Trainer(init, loss, data, own, complete, key, batch_size, every, mesh, stop, snapshots)

    each = run.bytes_per_model()
    size = chunk or chunk_size(each, complete.count, memory=memory, mesh=mesh)
    size = round_up(min(size, complete.count), mesh)
    run.lanes = fitting_lanes(each, size, mesh) if lanes is None else max(1, min(lanes, size))
    if folder is not None:
        identity = _identity(data, own, complete, key, size, batch_size, snapshots)
        claim_folder(Path(folder), "zoo.json", identity)

    pieces = list(chunk_indices(np.argsort(complete.columns["steps"], kind="stable"), size))
    done = 0
    for number, index in enumerate(pieces):
        length = int(complete.columns["steps"][index].max())

        def report(step, metrics, before=done, index=index, number=number):
            if log is not None:
                part = {"chunk": f"{number + 1}/{len(pieces)}"}
                log(before + step * len(index), {**metrics, **part})

        done += length * len(index)
        if number < skip:
            report(length, {})
            continue
        place = None if folder is None else Path(folder) / f"chunk_{number:05d}"
        trained = run.chunk(index, size, length, place, save_every, report)
        names = {**complete.labels, **(labels or {})}
        yield _population(trained, index, complete, run.static, spec, names, function)


def total_work(
    hyper: Mapping[str, Any], *, chunk: int | None = None, steps: int | None = None
) -> int:
    """The value that `done` reaches in the log of `train`: networks times steps, by chunks."""
    complete = complete_hyper(hyper, steps=steps)
    lengths = np.sort(complete.columns["steps"])
    pieces = chunk_indices(lengths, chunk or complete.count)
    return sum(int(piece.max()) * len(piece) for piece in pieces)


def _population(
    found: Trajectory, index: np.ndarray, hyper: Hyper, static: Any, spec, labels, function
) -> Population:
    """The rows of one chunk: of each network its snapshots, then its end."""
    final, count = found.final, len(index)
    ends = [(None, (final.params, final.loss)), *found.snapshots]
    rows, columns = [], {name: column[index] for name, column in hyper.columns.items()}
    for place, (step, _) in enumerate(ends):
        for i in range(count):
            if step is None or step < final.steps_taken[i]:
                at = int(final.steps_taken[i]) if step is None else step
                rows.append((i, at, place))
    rows.sort()
    who, at, place = (np.array(part, np.int64) for part in zip(*rows))

    def gather(*leaves):
        out = np.empty((len(rows), *leaves[0].shape[1:]), leaves[0].dtype)
        for number, leaf in enumerate(leaves):
            out[place == number] = leaf[who[place == number]]
        return out

    params, loss = jax.tree.map(gather, *(part for _, part in ends))
    last = place == 0
    columns = {
        **{name: column[who] for name, column in columns.items()},
        "loss": loss,
        "steps_taken": at.astype(np.int32),
        "diverged": final.diverged[who] & last,
        "stopped": final.stopped[who] & last,
        "run": index[who].astype(np.int32),
        "step": at.astype(np.int32),
        "parent": _parents(who),
    }
    roles = {name: "hyper" for name in hyper.columns if name != "seed"}
    roles |= {name: "metric" for name in METRIC_COLUMNS}
    roles |= {"steps_taken": "step", "step": "step", "run": "lineage", "parent": "lineage"}
    params = eqx.combine(params, static)
    return Population(params, columns, spec, labels, function, roles)


def _parents(rows: np.ndarray) -> np.ndarray:
    """For each network the one before it if that is of the same run, else -1."""
    again = np.append(False, rows[1:] == rows[:-1])
    return np.where(again, np.arange(len(rows)) - 1, -1).astype(np.int32)


def _of_own(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss of inputs that all share and targets of a network's own."""

    def of_own(params, row, batch, *, key):
        x, y = batch
        return loss(params, row, (x, y), key=key)

    return of_own


def _check(data: Any, own: Any, batch_size: int | None, hyper: Hyper, snapshots) -> None:
    if own is not None:
        column, arrays = own
        if column not in hyper.columns or hyper.columns[column].ndim != 1:
            raise ValueError(f"`own` is told apart by the column {column!r}, one number a network.")
        rows = hyper.columns[column]
        for leaf in jax.tree.leaves(arrays):
            if rows.min() < 0 or rows.max() >= len(leaf):
                raise ValueError(
                    f"column {column!r} goes from {rows.min()} to {rows.max()}, and `own` has "
                    f"{len(leaf)} rows."
                )
    if any(step < 0 for step in snapshots):
        raise ValueError(f"`snapshots` are steps from 0 on; not {list(snapshots)}.")
    leaves = [leaf.shape[:1] for leaf in jax.tree.leaves(data)]
    leaves += [leaf.shape[1:2] for leaf in jax.tree.leaves(None if own is None else own[1])]
    if batch_size is None:
        if "data_fraction" in hyper.columns:
            raise ValueError("a share of the data (`data_fraction`) needs a `batch_size`.")
        return
    if len(set(leaves)) != 1 or () in leaves:
        lengths = {shape[0] if shape else None for shape in leaves}
        raise ValueError(
            f"`data` must have one leading sample axis to draw batches from; lengths: {lengths}."
        )
    if not 1 <= batch_size:
        raise ValueError(f"`batch_size` is {batch_size}; it is 1 or more, or None for all.")


def _identity(data, own, hyper: Hyper, key: jax.Array, size: int, batch_size, snapshots) -> dict:
    return {
        "models": hyper.count,
        "chunk": size,
        "batch_size": batch_size,
        "snapshots": list(snapshots),
        "key": digest(jax.random.key_data(key)),
        "data": digest((data, own)),
        **{f"hyper column {name}": digest(column) for name, column in hyper.columns.items()},
    }
