"""Writing a zoo, a shard at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from wsljax.zoo.chunks import is_stacked
from wsljax.zoo.evaluation.verify import Evaluation
from wsljax.zoo.population import Population
from wsljax.zoo.store import describing
from wsljax.zoo.store.files import (
    INDEX,
    WriterLock,
    check_folder,
    new_generation,
    remove_leftovers,
    shard_name,
    write_atomically,
)
from wsljax.zoo.store.index import Index, Shard, read_index, tensor_names, write_index
from wsljax.zoo.store.kept_evaluation import save_evaluation
from wsljax.zoo.store.tensor_file import write_tensors

SHARD_BYTES = 64 * 2**20
MOST_MODELS = 2**20  # in one shard, however small they are


class Writer:
    """Writes networks to a folder as they come; a context manager.

    Networks are gathered until a shard is full. The shard is then written beside its place, flushed
    to the disk, put in its place, and listed in the index. A writer that is killed leaves all shards
    but the open one, and no more memory than that of one shard is used. Leaving the `with` block
    writes the last, shorter shard, also when it is left by an exception.

    Args:
        folder: made if it is not there.
        function: what the networks compute; default that of the first population.
        spec: their symmetry; default that of the first population.
        labels: of columns; added to those of the first population.
        roles: of columns; added to those of the first population.
        evaluation: what metrics were measured on; `zoo.open` runs networks on it again.
        shard_bytes: how large a shard may become (one network at least).
        append: add to the zoo in the folder, if there is one.

    Raises:
        FileExistsError: the folder holds a zoo, and `append` is not given.
        NotADirectoryError: `folder` is a file.
        BlockingIOError: another writer is at work in this folder.
        ValueError: what is given contradicts what the zoo has.

    Example:
        >>> import tempfile
        >>> from wsljax.zoo import Population, store
        >>> folder = tempfile.mkdtemp()
        >>> with Writer(folder, shard_bytes=1000) as writer:
        ...     for seed in range(3):
        ...         params = {"w": np.full((50, 4), seed, np.float32)}
        ...         writer.write(Population(params, {"seed": np.full(50, seed)}))
        >>> with Writer(folder, append=True) as writer:
        ...     writer.write(Population(params, {"seed": np.full(50, 3)}))
        >>> stored = store.open(folder)
        >>> len(stored), stored.columns["seed"][::50]
        (200, array([0, 1, 2, 3]))
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        function: Any = None,
        spec: Any = None,
        labels: Mapping[str, Sequence[str]] | Sequence[tuple[str, tuple[str, ...]]] = (),
        roles: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        evaluation: Evaluation | None = None,
        shard_bytes: int = SHARD_BYTES,
        append: bool = False,
    ):
        if shard_bytes < 1:
            raise ValueError(f"`shard_bytes` is {shard_bytes}; give a number of bytes.")
        self.folder = check_folder(folder, create=True)
        self._lock = WriterLock(self.folder)
        self._thread = threading.Lock()
        self._shard_bytes, self._publish = shard_bytes, True
        words = {name: tuple(map(str, names)) for name, names in dict(labels).items()}
        self._given = describing.Given(function, spec, words, dict(roles))
        self._buffers: dict[str, np.ndarray] = {}
        self._filled = 0
        try:
            self._begin(append, evaluation)
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, append: bool, evaluation: Evaluation | None) -> None:
        exists = (self.folder / INDEX).exists()
        if exists and not append:
            raise FileExistsError(
                f"{self.folder} holds a zoo; `append=True` adds to it, "
                "`zoo.save(..., overwrite=True)` replaces it."
            )
        self._index = read_index(self.folder) if exists else Index(new_generation())
        remove_leftovers(self.folder, self._index.files)
        self._index = replace(describing.add_given(self._index, self._given), complete=False)
        if evaluation is not None:
            if self._index.evaluation is not None:
                raise ValueError(f"{self.folder} has an evaluation; give none when appending.")
            self._keep_evaluation(evaluation)

    def _keep_evaluation(self, evaluation: Evaluation) -> None:
        kept = save_evaluation(self.folder, self._index.generation, evaluation)
        self._index = replace(self._index, evaluation=kept)

    def write(self, population: Population) -> None:
        """Add networks; they are in the zoo once their shard is full, or the writer closed.

        Args:
            population: of the same parameters and columns each time.

        Raises:
            ValueError: other parameters, columns, labels, function or spec than in the zoo; names
                what differs. Nothing of the population is written then.
            OSError: the disk is full; what was finished before is whole.
            RuntimeError: the writer is closed.
        """
        with self._thread:
            self._require_open()
            index = describing.describe_population(self._index, population, self._given)
            describing.check_evaluation(index)
            self._index = index
            leaves = [leaf for leaf in jax.tree.leaves(population.params) if is_stacked(leaf)]
            names, columns = tensor_names(self._index)
            sources = dict(zip(names, leaves, strict=True))
            sources |= {columns[name]: population.columns[name] for name in columns}
            self._add(sources, len(population))

    def flush(self) -> None:
        """Finish the open shard now, however small it is."""
        with self._thread:
            self._require_open()
            self._finish({name: buffer[: self._filled] for name, buffer in self._buffers.items()})
            self._filled = 0

    def close(self, *, complete: bool = True) -> None:
        """Finish the last shard and let other writers in; `complete` is kept in the index."""
        if self._lock is None:
            return
        try:
            self.flush()
            self._index = replace(self._index, complete=complete)
            write_index(self.folder, self._index)
            remove_leftovers(self.folder, self._index.files)  # of a zoo that was replaced
        finally:
            self._stop()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None and not self._keep_after_failure():
            self._abandon()
        self.close(complete=kind is None)

    def _keep_after_failure(self) -> bool:
        """Whether there are networks to finish, or a zoo that was there before."""
        return self._index.structure is not None or (self.folder / INDEX).exists()

    def _abandon(self) -> None:
        """Leave nothing of what was begun."""
        ours = self._index.generation
        others = {path.name for path in self.folder.iterdir() if ours not in path.name}
        remove_leftovers(self.folder, others)
        self._stop()

    def _require_open(self) -> None:
        if self._lock is None:
            raise RuntimeError(f"this writer of {self.folder} is closed, or failed before.")

    def _add(self, sources: Mapping[str, Any], count: int) -> None:
        full, start = self._models_a_shard(), 0
        while start < count:
            stop = min(count, start + full - self._filled)
            rows = {name: _on_host(source, start, stop) for name, source in sources.items()}
            if self._filled == 0 and stop - start == full:
                self._finish(rows)  # a whole shard goes to the file as it is
            else:
                self._gather(rows, full, stop - start)
            start = stop

    def _gather(self, rows: Mapping[str, np.ndarray], full: int, count: int) -> None:
        if not self._buffers:
            self._buffers = {n: np.empty((full, *a.shape[1:]), a.dtype) for n, a in rows.items()}
        for name, array in rows.items():
            self._buffers[name][self._filled : self._filled + count] = array
        self._filled += count
        if self._filled == full:
            self._finish(self._buffers)
            self._filled = 0

    def _finish(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Write a shard, then the index that lists it."""
        models = len(next(iter(tensors.values()), ()))
        if not models:
            return
        index = self._index
        try:
            name = shard_name(index.generation, len(index.shards))
            written = write_atomically(self.folder / name, lambda f: write_tensors(f, tensors))
            index = replace(index, shards=(*index.shards, Shard(name, models, written)))
            if self._publish:
                write_index(self.folder, index)
        except BaseException:
            self._stop()  # the open shard is lost; the zoo is as it was before it
            raise
        self._index = index

    def _models_a_shard(self) -> int:
        return max(
            1, min(self._shard_bytes // max(1, describing.row_bytes(self._index)), MOST_MODELS)
        )

    def _stop(self) -> None:
        self._buffers, self._filled = {}, 0
        if self._lock is not None:
            self._lock.release()
        self._lock = None


def save(
    population: Population,
    folder: str | os.PathLike,
    *,
    evaluation: Evaluation | None = None,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
) -> None:
    """Write a population to a folder, to be read by `zoo.open`.

    Args:
        population: with its columns, labels, roles, spec and function.
        folder: made if it is not there.
        evaluation: what its metrics were measured on.
        shard_bytes: how large a file may become.
        overwrite: replace the zoo in the folder. It stays as it is until the new one is whole.

    Raises:
        FileExistsError: the folder holds a zoo, and `overwrite` is not given.
        NotADirectoryError: `folder` is a file.
        BlockingIOError: another writer is at work in this folder.
        ValueError: weights or columns that cannot be stored; names them.
        OSError: the disk is full.

    Example: see `zoo.open`.
    """
    options = {"evaluation": evaluation, "shard_bytes": shard_bytes}
    writer = _Replacer(folder, **options) if overwrite else Writer(folder, **options)
    with writer:
        writer.write(population)


class _Replacer(Writer):
    """A writer whose index takes the place of another when all is written, and not before."""

    def _begin(self, append: bool, evaluation: Evaluation | None) -> None:
        self._publish = False
        self._index = Index(new_generation())
        if evaluation is not None:
            self._keep_evaluation(evaluation)

    def _keep_after_failure(self) -> bool:
        return False  # the zoo that was there stays, with nothing of this one


def _on_host(source: Any, start: int, stop: int) -> np.ndarray:
    """Rows of an array as numpy, in the byte order of this machine; no more of it is brought here."""
    if isinstance(source, jax.Array):
        if not source.is_fully_addressable:
            raise ValueError(
                "the population is spread over several processes; let each write its own networks "
                "to a folder of its own, or gather them first."
            )
        devices = list(source.devices())
        if len(devices) > 1 or devices[0].platform != "cpu":
            return np.asarray(jax.lax.dynamic_slice_in_dim(source, start, stop - start))
    # of an array on one CPU, this is no copy
    rows = np.asarray(source)[start:stop]
    return rows if rows.dtype.isnative else rows.astype(rows.dtype.newbyteorder("="))
