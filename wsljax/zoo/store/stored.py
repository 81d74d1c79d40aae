"""A zoo on disk, read as if it were a population: the networks that are asked for, when they are."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from wsljax.zoo.evaluation.verify import Evaluation
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population
from wsljax.zoo.store.index import Index
from wsljax.zoo.store.kept_evaluation import read_evaluation
from wsljax.zoo.store.shards import Shards
from wsljax.zoo.store.source import ZooSource
from wsljax.zoo.store.structure import builder
from wsljax.zoo.store.tensor_file import DamagedFile


class StoredZoo:
    """What `zoo.open` gives: the networks that a folder held at that moment, or a part of them.

    Arrays come back as numpy arrays of the dtype that was stored. Each shard is read through and
    verified once, before the first network of it is used. A zoo may be read from several threads, and
    pickled to be read in other processes.

    Attributes:
        damaged: with `damaged="skip"`, what is wrong with each shard that was left out.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        like: Any = None,
        rows: range | None = None,
        damaged: tuple[str, ...] = (),
    ):
        self._shards, self._like, self.damaged = shards, like, damaged
        self._rows = range(len(shards.index)) if rows is None else rows

    @property
    def _index(self) -> Index:
        return self._shards.index

    @property
    def folder(self) -> str:
        return str(self._shards.folder)

    @property
    def complete(self) -> bool:
        """Whether the last writer was closed; if not, it was killed or is still writing."""
        return self._index.complete

    @property
    def labels(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What each code of a column is called, as in `Population.labels`."""
        return tuple((n, c.labels) for n, c in self._index.columns if c.labels is not None)

    @property
    def roles(self) -> tuple[tuple[str, str], ...]:
        """What a column is, as in `Population.roles`."""
        return tuple((n, c.role) for n, c in self._index.columns if c.role is not None)

    @functools.cached_property
    def function(self) -> Any:
        """The function that the networks compute, or None."""
        data = self._index.function
        return None if data is None else Function.from_json(data)

    @functools.cached_property
    def spec(self) -> Any:
        """The symmetry of one network, or None."""
        from wsljax.symmetry import Spec

        if self._index.spec is None:
            return None
        arrays = jax.tree.map(
            lambda leaf: leaf if isinstance(leaf, jax.ShapeDtypeStruct) else None, self._like
        )
        return Spec.from_json(self._index.spec, arrays)

    @functools.cached_property
    def evaluation(self) -> Evaluation | None:
        """What the metrics were measured on, or None; raises DamagedFile."""
        kept = self._index.evaluation
        return None if kept is None else read_evaluation(self._shards.folder, kept)

    @functools.cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """All columns of all networks, read on first use; their weights are not."""
        arrays = self._shards.read_columns(self._rows.start, self._rows.stop)
        return dict(zip(self.column_names, arrays, strict=True))

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._index.columns)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        """The weights of one network, arrays of their own.

        Raises:
            IndexError: there is no such network.
            DamagedFile: its shard is not what was written.
        """
        index = int(index.__index__())
        if not -len(self) <= index < len(self):
            raise IndexError(f"network {index} of a zoo of {len(self)}")
        return self._record(self._shards.read_row(self._rows[index]))["params"]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def take(self, index: Any) -> Population:
        """The networks at `index`, in that order: integers, a slice, or a mask of `len(self)`.

        Every shard is visited once. Repeated indices give repeated networks.

        Raises:
            IndexError: there is no such network.
            ValueError: a mask of another length, or indices that are not integers.
            DamagedFile: a shard is not what was written.
        """
        rows = self._checked(index) + self._rows.start
        return self._population(self._shards.read_rows(rows))

    def population(self) -> Population:
        """All networks, in memory."""
        return self._population(self._shards.read_range(self._rows.start, self._rows.stop))

    def chunks(self, size: int) -> Iterator[Population]:
        """Populations of `size` networks, the last one smaller, in order.

        Raises:
            ValueError: `size` is not positive.
        """
        if size < 1:
            raise ValueError(f"`size` is {size}; it is a number of networks, 1 or more.")
        starts = range(self._rows.start, self._rows.stop, size)
        stop = self._rows.stop
        return (self._population(self._shards.read_range(a, min(a + size, stop))) for a in starts)

    def for_process(
        self, index: int | None = None, count: int | None = None, *, drop_remainder: bool = False
    ) -> StoredZoo:
        """The part of one process of a multi-host run: consecutive networks, no two alike.

        Args:
            index: which process; default `jax.process_index()`.
            count: of how many; default `jax.process_count()`.
            drop_remainder: leave out what would give one process a network more than another.

        Raises:
            ValueError: there is no such process.

        Returns:
            A zoo over the same files.
        """
        index = jax.process_index() if index is None else index
        count = jax.process_count() if count is None else count
        if not 0 <= index < count:
            raise ValueError(f"process {index} of {count}: `index` goes from 0 to `count` - 1.")
        each, more = divmod(len(self), count)
        more = 0 if drop_remainder else more
        start = self._rows.start + index * each + min(index, more)
        rows = range(start, start + each + (index < more))
        return StoredZoo(self._shards, like=self._like, rows=rows, damaged=self.damaged)

    def source(
        self,
        indices: Any = None,
        *,
        batch_size: int | None = None,
        seed: int | None = None,
        epochs: int = 1,
    ) -> ZooSource:
        """A data source for grain, `grain.MapDataset.source(stored.source())`.

        Args:
            indices: which networks, as in `take` (default: all), e.g. those of a training split.
            batch_size: networks in a record; the last one of an epoch may be smaller. One read of a
                batch costs far less than grain's batching of so many records does.
            seed: shuffle, in another order each epoch; None: in order.
            epochs: how often each network occurs.

        Raises:
            ValueError: a number that is not positive.
            IndexError: there is no such network.
        """
        for name, value in (("batch_size", batch_size), ("epochs", epochs)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}; it is 1 or more.")
        start = self._rows.start
        rows = self._rows if indices is None else self._checked(indices) + start
        return ZooSource(self._shards, self._record, rows, batch_size, seed, epochs)

    def verify_checksums(self) -> None:
        """Read every file again and compare its checksums.

        Raises:
            DamagedFile: names all that are damaged.
        """
        found = list(self._shards.find_damaged(read=True).values())
        try:
            if self._index.evaluation is not None:
                read_evaluation(self._shards.folder, self._index.evaluation)
        except DamagedFile as e:
            found.append(str(e))
        if found:
            raise DamagedFile("\n".join(found))

    def __getstate__(self) -> dict[str, Any]:
        cached = ("function", "spec", "evaluation", "columns", "_record")
        return {name: value for name, value in vars(self).items() if name not in cached}

    def __repr__(self) -> str:
        lines = [f"StoredZoo of {len(self)} networks in {len(self._shards)} shards, {self.folder}"]
        lines += [f"  {self.function!r}"] * (self._index.function is not None)
        lines += [f"  {name:<20} {c.dtype} {c.shape}" for name, c in self._index.columns]
        return "\n".join([*lines, *(f"  left out: {why}" for why in self.damaged)])

    @functools.cached_property
    def _record(self) -> Record:
        if self._index.structure is None:
            raise ValueError(f"no network was ever written to {self.folder}.")
        return Record(self._index, self._like)

    def _population(self, arrays: Sequence[np.ndarray]) -> Population:
        record = self._record(arrays)
        return Population(
            record["params"],
            record["columns"],
            self.spec,
            labels=self.labels,
            function=self.function,
            roles=self.roles,
        )

    def _checked(self, index: Any) -> np.ndarray:
        """Indices that count from 0 and exist."""
        count = len(self)
        if isinstance(index, slice):
            return np.arange(count)[index]
        index = np.asarray(index)
        if index.dtype == bool:
            if index.shape != (count,):
                raise ValueError(f"the mask has shape {index.shape}, not ({count},).")
            return np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise ValueError(f"indices are integers (n,); these are {index.dtype} {index.shape}.")
        index = index.astype(np.int64)
        outside = index[(index < -count) | (index >= count)]
        if len(outside):
            raise IndexError(f"network {outside[0]} of a zoo of {count}")
        return np.where(index < 0, index + count, index)


class Record:
    """Arrays in the order of a shard as `{"params": tree, "columns": dict}`."""

    def __init__(self, index: Index, like: Any):
        assert index.structure is not None
        self._structure, self._like = index.structure, like
        self._names = [name for name, _ in index.columns]
        self._split = len(index.structure.arrays)
        self._build = builder(self._structure, like)

    def __call__(self, arrays: Sequence[Any]) -> dict[str, Any]:
        columns = dict(zip(self._names, arrays[self._split :], strict=True))
        return {"params": self._build(arrays[: self._split]), "columns": columns}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_build"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._build = builder(self._structure, self._like)
