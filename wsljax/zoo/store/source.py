"""Stored networks as a data source of grain, read where they are needed and never all at once."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wsljax.zoo.store.shards import Shards


class ZooSource:
    """One record a network, or one a batch of networks; a `grain.sources.RandomAccessDataSource`.

    A record is `{"params": tree, "columns": {name: array}}` of one network; of a batch, with a leading
    axis. It can be pickled, so it goes to the worker processes of grain; each opens the files itself
    and verifies what has not been verified yet. Made by `StoredZoo.source`.
    """

    def __init__(
        self,
        shards: Shards,
        build: Callable[[Sequence[Any]], dict[str, Any]],
        indices: np.ndarray | range,
        batch_size: int | None,
        seed: int | None,
        epochs: int,
    ):
        self._shards, self._build, self._indices = shards, build, indices
        self._batch_size, self._seed, self._epochs = batch_size, seed, epochs
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._records * self._epochs

    @functools.cached_property
    def _records(self) -> int:
        count = len(self._indices)
        return count if self._batch_size is None else -(-count // self._batch_size)

    def __getitem__(self, record: int) -> dict[str, Any]:
        if not 0 <= record < len(self):
            raise IndexError(f"record {record} of {len(self)}")
        epoch, place = divmod(int(record), self._records)
        if self._batch_size is None:
            index = place if self._seed is None else int(self._shuffled(epoch)[place])
            return self._build(self._shards.read_row(int(self._indices[index])))
        stop = min(len(self._indices), (place + 1) * self._batch_size)
        chosen = np.arange(place * self._batch_size, stop)
        if self._seed is not None:
            chosen = self._shuffled(epoch)[chosen]
        if isinstance(self._indices, range):
            return self._build(self._shards.read_rows(chosen + self._indices.start))
        return self._build(self._shards.read_rows(self._indices[chosen]))

    def _shuffled(self, epoch: int) -> np.ndarray:
        order = self._order
        if order is None or order[0] != epoch:
            generator = np.random.default_rng([self._seed or 0, epoch])
            order = self._order = epoch, generator.permutation(len(self._indices))
        return order[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_order": None}

    def __repr__(self) -> str:
        """The same for the same data in every process: grain compares it on restoring."""
        which = self._indices
        if not isinstance(which, range):
            which = f"{len(which)} networks {zlib.crc32(which.tobytes()):08x}"
        return (
            f"ZooSource({self._shards.index.generation}, {which}, "
            f"batch_size={self._batch_size}, seed={self._seed}, epochs={self._epochs})"
        )
