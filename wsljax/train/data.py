"""Where batches come from: arrays on device, a source that is read by index, or an iterator of grain.

All three give the same batches again after a restart. For arrays and sources the order is a function of
the step (see `epoch_batches`), so there is nothing to remember; an iterator of grain says where it
stands, and that goes into the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wsljax.train.mesh import ZOO_AXIS
from wsljax.train.step import epoch_batches

CHUNK = 8
"""Batches that are read ahead and sent to the device together."""


class Source:
    """Samples that are read when they are needed: larger than memory, or made on the way.

    Args:
        count: how many samples there are.
        read: `read(indices)`, the samples of an integer array, a pytree of arrays `(len(indices), ...)`;
            called in a thread, ahead of the step that needs them.

    Example:
        >>> squares = Source(10, lambda i: i**2)
        >>> len(squares), squares.read(np.array([2, 3])).tolist()
        (10, [4, 9])
    """

    def __init__(self, count: int, read: Callable[[np.ndarray], Any]):
        self.count, self.read = count, read

    def __len__(self) -> int:
        return self.count


@runtime_checkable
class StatefulIterator(Protocol):
    """An iterator over batches that can say where it stands, as those of grain can."""

    def __next__(self) -> Any: ...

    def get_state(self) -> Any: ...

    def set_state(self, state: Any) -> None: ...


class Reader:
    """Batches of a `Source` or a `StatefulIterator` in chunks `(steps, batch, ...)`, one chunk ahead.

    With a mesh the batches are split over its axis `"zoo"`. Over several processes each reads only its
    own part of a batch from a `Source`; an iterator must give each process its part.
    """

    def __init__(
        self,
        data: Source | StatefulIterator,
        batch_size: int,
        key: jax.Array,
        mesh: Mesh | None,
        chunk: int = CHUNK,
    ):
        self.data, self.batch_size, self.key, self.mesh = data, batch_size, key, mesh
        self.chunk = chunk
        parts = jax.process_count() if mesh is not None else 1
        if batch_size % parts:
            raise ValueError(
                f"`batch_size` is {batch_size}, which cannot be split over {parts} processes."
            )
        self.mine = slice(
            *(k * batch_size // parts for k in (jax.process_index(), jax.process_index() + 1))
        ) if parts > 1 else slice(None)  # fmt: skip
        self.state: Any = None

    def chunks(self, start: int, stop: int) -> Iterator[tuple[Any, int]]:
        """The batches of the steps `start` to `stop - 1`: `(arrays, steps)`; every chunk has room for
        as many steps, of which the last may use fewer."""
        size = self.chunk
        cuts = [(at, min(at + size, stop)) for at in range(start, stop, size)]
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self._read, *cuts[0], size)
            for following, (at, end) in zip([*cuts[1:], None], cuts, strict=True):
                arrays, state = ahead.result()
                if following is not None:
                    ahead = thread.submit(self._read, *following, size)
                self.state = state
                yield self._placed(arrays), end - at

    def _read(self, start: int, stop: int, size: int) -> tuple[Any, Any]:
        if isinstance(self.data, Source):
            found = epoch_batches(len(self.data), self.batch_size, start, stop, key=self.key)
            batches = [self.data.read(row[self.mine]) for row in found]
        else:
            batches = [self._next() for _ in range(start, stop)]
        batches += [batches[-1]] * (size - len(batches))
        state = None if isinstance(self.data, Source) else self.data.get_state()
        return jax.tree.map(lambda *x: np.stack([np.asarray(a) for a in x]), *batches), state

    def _next(self) -> Any:
        try:
            batch = next(self.data)  # pyright: ignore[reportArgumentType, reportCallIssue]
        except StopIteration:
            raise ValueError(
                "`data` ended before the last step; make the iterator repeat its samples"
            ) from None
        for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
            expected = self.batch_size // (jax.process_count() if self.mesh is not None else 1)
            if np.ndim(leaf) == 0 or len(leaf) != expected:
                name = jax.tree_util.keystr(path, simple=True, separator="/") or "the batch"
                raise ValueError(
                    f"`data`: {name} has shape {np.shape(leaf)}; a batch has {expected} samples."
                )
        return batch

    def _placed(self, arrays: Any) -> Any:
        if self.mesh is None:
            return jax.device_put(arrays)
        split = NamedSharding(self.mesh, PartitionSpec(None, ZOO_AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(split, x), arrays)
