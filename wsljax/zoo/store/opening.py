"""Opening a zoo: what is looked at before anything is read."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from wsljax.zoo.evaluation.verify import verify
from wsljax.zoo.store.files import check_folder
from wsljax.zoo.store.index import read_index
from wsljax.zoo.store.shards import RESIDENT, Shards
from wsljax.zoo.store.stored import StoredZoo
from wsljax.zoo.store.tensor_file import DamagedFile


def open(
    folder: str | os.PathLike,
    *,
    check: int = 8,
    damaged: str = "raise",
    like: Any = None,
    resident: int = RESIDENT,
) -> StoredZoo:
    """Open a zoo that `save` or `Writer` wrote, also while a writer appends to it.

    Args:
        folder: of the zoo.
        check: how many networks are run again and compared with the metrics recorded of them, if an
            evaluation was stored; 0: none.
        damaged: "raise", which refuses a zoo with a missing or truncated shard, and a shard with
            other bytes when it is first used; or "skip", which reads all shards now and leaves out
            those that are damaged: `stored.damaged` says which and why.
        like: the parameters of one network, arrays or ShapeDtypeStructs; needed where they are
            named tuples or modules, or hold functions.
        resident: bytes of the files that may stay mapped between reads. They are the system's cache,
            which it takes back when memory is short, but count as memory of the process. Reads in
            random order are slower where this is far less than the zoo.

    Returns:
        The zoo as it is now; what is appended later is seen when it is opened again.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder, or no zoo in it.
        ValueError: the index is damaged or of a newer version; `like` is needed or does not fit.
        DamagedFile: a shard, or the evaluation, is not what was written; names it.
        FunctionMismatch: a network, run again, does not have the metrics recorded of it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from wsljax.zoo import Population, store
        >>> folder = tempfile.mkdtemp()
        >>> params = {"kernel": np.ones((100, 4, 2), np.float32)}
        >>> store.save(Population(params, {"loss": np.arange(100)}), folder)
        >>> stored = store.open(folder)
        >>> len(stored), stored[7]["kernel"].shape, stored.take([5, 3]).columns["loss"]
        (100, (4, 2), array([5, 3]))
    """
    if damaged not in ("raise", "skip"):
        raise ValueError(f"`damaged` is {damaged!r}; it is 'raise' or 'skip'.")
    path = check_folder(folder, create=False)
    index = read_index(path)
    found = Shards(path, index).find_damaged(read=damaged == "skip")
    if found and damaged == "raise":
        raise DamagedFile("\n".join(found.values()))
    if found:
        left = (shard for number, shard in enumerate(index.shards) if number not in found)
        index = replace(index, shards=tuple(left))
    shards = Shards(path, index, resident)
    if damaged == "skip":
        shards.trust()
    stored = StoredZoo(shards, like=jax.tree.map(_abstract, like), damaged=tuple(found.values()))
    if check and len(stored) and index.evaluation is not None:
        verify(_Checked(stored), stored.evaluation, sample=check)  # pyright: ignore[reportArgumentType]
    return stored


class _Checked:
    """A zoo for `verify`, which asks what columns there are: it need not read them all for that."""

    def __init__(self, stored: StoredZoo):
        self.columns = dict.fromkeys(stored.column_names)
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)


def _abstract(leaf: Any) -> Any:
    """Arrays as shapes: `like` goes to other processes with the zoo."""
    is_array = hasattr(leaf, "shape") and not isinstance(leaf, np.generic)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array else leaf
