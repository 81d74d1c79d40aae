"""The shards of a zoo, mapped into memory, each verified once before it is first used."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from wsljax.zoo.store.files import inside
from wsljax.zoo.store.index import Index, expect_tensors, tensor_names
from wsljax.zoo.store.tensor_file import (
    DamagedFile,
    Tensor,
    check_tensor,
    check_tensors,
    map_file,
    read_header,
    view,
)

MAPPED_AT_ONCE = 256  # files; a process may have about 1,000 open
RESIDENT = 2**29  # bytes
FAULT = 2**16  # bytes that the kernel maps around one that is touched


class Mapped(NamedTuple):
    """A shard in memory: its bytes, its arrays `(models, ...)`, and the same as items `(models,)`."""

    buffer: mmap.mmap
    arrays: list[np.ndarray]
    items: list[np.ndarray]


class Shards:
    """Random access to all shards of an index, from any number of threads.

    What is mapped belongs to the page cache of the system, which takes it back when memory is
    needed. It counts as resident memory of the process all the same; `resident` bounds that.

    Args:
        folder: of the zoo.
        index: what is in it.
        resident: bytes of shards that may stay mapped, and up to one shard more while it is read.
    """

    def __init__(self, folder: Path, index: Index, resident: int = RESIDENT):
        self.folder, self.index, self.resident = folder, index, resident
        self.starts = np.cumsum([0, *(shard.models for shard in index.shards)])
        self._params, self._columns = tensor_names(index)
        self._verified: set[int] = set()
        self._headers: dict[int, dict[str, Tensor]] = {}
        self._begin()

    def _begin(self) -> None:
        self._maps: OrderedDict[int, Mapped] = OrderedDict()
        self._touched = 0
        self._lock = threading.Lock()
        self._verifying = [threading.Lock() for _ in range(16)]

    def __getstate__(self) -> dict[str, Any]:
        gone = ("_maps", "_touched", "_lock", "_verifying", "_headers")
        return {name: value for name, value in vars(self).items() if name not in gone}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._headers = {}
        self._begin()

    def __len__(self) -> int:
        return len(self.index.shards)

    # -- checking ------------------------------------------------------------------------------

    def header(self, number: int) -> dict[str, Tensor]:
        """Where the tensors of a shard are; raises DamagedFile."""
        found = self._headers.get(number)
        if found is None:
            shard = self.index.shards[number]
            try:
                found = read_header(self._path(number), shard.written)
                expect_tensors(self.index, shard.models, found)
            except ValueError as e:
                raise self._damaged(number, e) from e
            self._headers[number] = found
        return found

    def verify(self, number: int) -> None:
        """Read a whole shard and compare its checksums; raises DamagedFile."""
        self._headers.pop(number, None)
        header = self.header(number)
        try:
            check_tensors(self._path(number), header)
        except DamagedFile as e:
            raise self._damaged(number, e) from e
        self._verified.add(number)

    def trust(self) -> None:
        """Take all shards for verified: they have just been."""
        self._verified.update(range(len(self)))

    def find_damaged(self, *, read: bool) -> dict[int, str]:
        """Why which shards cannot be used; without `read`, those of which sizes tell."""
        found = {}
        for number, shard in enumerate(self.index.shards):
            try:
                if read:
                    self.verify(number)
                elif self._path(number).stat().st_size != shard.written.bytes:
                    self.header(number)
            except DamagedFile as e:
                found[number] = str(e)
            except OSError as e:
                found[number] = str(self._damaged(number, e.strerror or e))
        return found

    # -- reading -------------------------------------------------------------------------------

    def mapped(self, number: int) -> Mapped:
        """Parameters and columns of a shard, in order, as read-only views of the file."""
        with self._lock:
            if number in self._maps:
                self._maps.move_to_end(number)
                return self._maps[number]
        with self._verifying[number % len(self._verifying)]:
            if number not in self._verified:
                self.verify(number)
        header = self.header(number)
        try:
            buffer = map_file(self._path(number))
        except OSError as e:
            raise self._damaged(number, e.strerror or e) from e
        if len(buffer) != self.index.shards[number].written.bytes:
            raise self._damaged(number, "its size has changed")
        names = [*self._params, *self._columns.values()]
        arrays = [view(buffer, header[name]) for name in names]
        mapped = Mapped(buffer, arrays, [_items(array) for array in arrays])
        with self._lock:
            self._maps[number] = mapped
            while len(self._maps) > MAPPED_AT_ONCE:
                self._maps.popitem(last=False)  # the arrays in use elsewhere keep it mapped
        return mapped

    def read_rows(self, indices: np.ndarray) -> list[np.ndarray]:
        """Copies of the networks at `indices`, in that order: arrays `(len(indices), ...)`."""
        outputs = self._empty(len(indices))
        items = [_items(output) for output in outputs]
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        ends = np.searchsorted(ordered, self.starts)
        for number in np.flatnonzero(np.diff(ends)):
            part = slice(ends[number], ends[number + 1])
            rows, places = ordered[part] - self.starts[number], order[part]
            for source, target in zip(self.mapped(int(number)).items, items, strict=True):
                target[places] = source[rows]
            self._count_touched(len(rows), int(number))
        return outputs

    def read_range(self, start: int, stop: int) -> list[np.ndarray]:
        """Copies of the networks `start` to `stop`; shards that are passed are let go of."""
        outputs = self._empty(stop - start)
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        for number in range(first, len(self)):
            low = max(start, int(self.starts[number]))
            high = min(stop, int(self.starts[number + 1]))
            if low >= high:
                break
            rows = slice(low - int(self.starts[number]), high - int(self.starts[number]))
            for array, output in zip(self.mapped(number).arrays, outputs, strict=True):
                output[low - start : high - start] = array[rows]
            if high == self.starts[number + 1]:
                self.release([number])
        return outputs

    def read_row(self, index: int) -> list[np.ndarray]:
        """Copies of one network's arrays."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        row = index - int(self.starts[number])
        arrays = [np.array(array[row]) for array in self.mapped(number).arrays]
        self._count_touched(1, number)
        return arrays

    def read_columns(self, start: int, stop: int) -> list[np.ndarray]:
        """The columns of the networks `start` to `stop`; only their own bytes are read."""
        parts: list[list[np.ndarray]] = [[] for _ in self._columns]
        for number in range(len(self)):
            low = max(start, int(self.starts[number])) - int(self.starts[number])
            high = min(stop, int(self.starts[number + 1])) - int(self.starts[number])
            if low < high and self._columns:
                for part, column in zip(parts, self._shard_columns(number), strict=True):
                    part.append(column[low:high])
        empty = self._empty(0)[len(self._params) :]
        return [np.concatenate([none, *part]) for none, part in zip(empty, parts, strict=True)]

    def release(self, numbers: Iterable[int] | None = None) -> None:
        """Unmap the pages of shards; they come back when they are touched."""
        with self._lock:
            maps = [
                self._maps[n]
                for n in (self._maps if numbers is None else numbers)
                if n in self._maps
            ]
        for found in maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                found.buffer.madvise(mmap.MADV_DONTNEED)

    def _shard_columns(self, number: int) -> list[np.ndarray]:
        header, columns = self.header(number), []
        try:
            with self._path(number).open("rb", buffering=0) as file:
                for name in self._columns.values():
                    tensor = header[name]
                    check_tensor(file, name, tensor)
                    file.seek(tensor.start)
                    columns.append(view(file.read(tensor.nbytes), tensor._replace(start=0)))
        except (DamagedFile, OSError) as e:
            raise self._damaged(number, e) from e
        return columns

    def _empty(self, count: int) -> list[np.ndarray]:
        structure = self.index.structure
        leaves = [*(structure.arrays if structure else ()), *(c for _, c in self.index.columns)]
        return [np.empty((count, *leaf.shape), jnp.dtype(leaf.dtype)) for leaf in leaves]

    def _count_touched(self, rows: int, number: int) -> None:
        """Let go of all pages when as many as may stay can have been touched since the last time."""
        shards = self.index.shards
        for array in self.mapped(number).items:
            self._touched += min(array.nbytes, rows * (array.itemsize + 2 * FAULT))
        if self._touched > self.resident:
            mapped = sum(shards[n].written.bytes for n in tuple(self._maps))
            self._touched = min(self._touched, mapped)
        if self._touched > self.resident:
            self._touched = 0
            self.release()

    def _path(self, number: int) -> Path:
        try:
            return inside(self.folder, self.index.shards[number].file)
        except ValueError as e:
            raise DamagedFile(str(e)) from e

    def _damaged(self, number: int, why: Any) -> DamagedFile:
        shard, first = self.index.shards[number], int(self.starts[number])
        return DamagedFile(
            f"{shard.file} is damaged: {why}. It holds networks {first} to "
            f"{first + shard.models - 1} of {self.folder}; the others can be read with "
            "`damaged='skip'`."
        )


def _items(array: np.ndarray) -> np.ndarray:
    """`(n, ...)` as `(n,)` items of so many bytes: numpy copies chosen ones faster."""
    if not array.nbytes:
        return array
    item = np.dtype((np.void, array.nbytes // len(array)))
    return array.reshape(len(array), -1).view(item).reshape(-1)
