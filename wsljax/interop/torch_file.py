"""Reading and writing the files of `torch.save`, without torch and without running anything.

A torch file is a zip archive with one pickle and the raw bytes of each storage. The pickle goes to
the machine of `torch_pickle`, the archive to the checks of `torch_zip`; files of before torch 1.6
(pickles followed by raw storages) are read likewise.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.interop.torch_pickle import (
    Global,
    TorchFileError,
    UnknownGlobal,
    interpret,
)
from wsljax.interop.torch_tensors import (
    Storage,
    TensorMaker,
    native_bytes,
    plain_globals,
    torch_globals,
)
from wsljax.interop.torch_tree import finish
from wsljax.interop.torch_writer import write_torch
from wsljax.interop.torch_zip import Archive

__all__ = ["TorchFileError", "UnknownGlobal", "read_pickle", "read_torch", "write_torch"]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
Source = str | os.PathLike | bytes


def read_torch(
    source: Source,
    *,
    inert: Collection[str] | bool = (),
    trusted: bool = False,
    max_bytes: int = 2**34,
    max_ratio: float = 100.0,
    check_crc: bool = True,
    mmap: bool = False,
) -> Any:
    """The tree of arrays in a file that `torch.save` wrote.

    No code of the file runs. Tensors become read-only numpy arrays, views of the file's own bytes
    that share memory where the tensors shared a storage; bfloat16 and float8 are those of jax.
    Parameters become arrays, `torch.Size` a tuple, dtypes numpy's, devices and paths text,
    configurations of OmegaConf and namespaces dictionaries.

    Args:
        source: a path, or the bytes of the file.
        inert: dotted names of further classes, read as dictionaries of their attributes without
            importing them; True: all.
        trusted: hand the pickle to Python's own, which imports and runs what it names. Only for
            files that you made yourself.
        max_bytes: of all members together, and of all tensors together.
        max_ratio: how far one member may unpack (torch itself packs nothing).
        check_crc: compare checksums.
        mmap: map the file instead of reading it; it stays open while an array of it lives.

    Returns:
        Dictionaries, lists, tuples, sets, numbers, text and numpy arrays.

    Raises:
        UnknownGlobal: the pickle names a class or function that is not on the list.
        TorchFileError: the file is damaged, hostile, or none of torch's; the message names it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "model.pth")
        >>> write_torch({"weight": np.eye(2, dtype=np.float32), "epoch": 3}, path)
        >>> read_torch(path)
        {'weight': array([[1., 0.], [0., 1.]], dtype=float32), 'epoch': 3}
    """
    data, name = _bytes_of(source, mmap)
    with _named(name):
        if bytes(data[:4]) == b"PK\x03\x04":
            archive = Archive(data, max_bytes=max_bytes, max_ratio=max_ratio, check_crc=check_crc)
            return _read_archive(archive, TensorMaker(max_bytes), inert, trusted)
        return _read_legacy(data, TensorMaker(max_bytes), inert, trusted)


def read_pickle(
    source: Source,
    *,
    inert: Collection[str] | bool = (),
    trusted: bool = False,
    dill: bool = False,
) -> Any:
    """The object in a plain pickle: containers, numbers, text and numpy arrays; no code runs.

    Args:
        source: a path, or the bytes of the file.
        inert: as in `read_torch`.
        trusted: hand the pickle to Python's own; only for files that you made yourself.
        dill: if trusted, to dill, which must be installed.

    Raises:
        UnknownGlobal: the pickle names a class or function that is not on the list.
        TorchFileError: the file is damaged or hostile.

    Example:
        >>> read_pickle(pickle.dumps({"psnr": np.arange(3.0)}))
        {'psnr': array([0., 1., 2.])}
    """
    data, name = _bytes_of(source, False)
    with _named(name):
        if not trusted:
            return finish(interpret(data, plain_globals(), inert=_inert(inert))[0])
        if dill:
            from wsljax._compat import require

            return require("dill", extra="formats").loads(bytes(data))
        return pickle.loads(bytes(data))


# -- the two layouts -------------------------------------------------------------------------------


def _read_archive(archive: Archive, make: TensorMaker, inert: Any, trusted: bool) -> Any:
    pickles = [n for n in archive.members if n.endswith("/data.pkl") and n.count("/") == 1]
    if len(pickles) != 1:
        raise TorchFileError("it is a zip archive, but torch did not write it: no `*/data.pkl`.")
    top = pickles[0].removesuffix("data.pkl")
    if f"{top}constants.pkl" in archive.members:
        raise TorchFileError("it holds a program (TorchScript); save its `state_dict()` instead.")
    order = b"little"
    if f"{top}byteorder" in archive.members:
        order = bytes(archive.read(f"{top}byteorder"))
    if order not in (b"little", b"big"):
        raise TorchFileError(f"its byte order is {order[:20]!r}, neither little nor big.")
    storages: dict[tuple[str, Any], Storage] = {}

    def load(kind: Any, key: Any, count: Any, view: Any) -> Storage:
        if (
            not isinstance(key, str)
            or f"{top}data/{key}" not in archive.members
            or view is not None
        ):
            raise TorchFileError(f"no storage {str(key)[:40]!r}")
        if (key, kind) not in storages:
            data = archive.read(f"{top}data/{key}")
            if len(data) < count * (1 if kind is None else kind.itemsize):
                raise TorchFileError(f"storage {key!r} has {len(data)} bytes for {count} elements")
            swap = order != _machine_order()
            storages[key, kind] = Storage(native_bytes(data, kind, swap=swap), kind)
        return storages[key, kind]

    return _unpickle(archive.read(pickles[0]), 0, _persistent(load), make, inert, trusted)[0]


def _read_legacy(data: memoryview, make: TensorMaker, inert: Any, trusted: bool) -> Any:
    """Pickles of a magic number, a version and the machine; the object; the storages."""
    place, header = 0, []
    try:
        for _ in range(3):
            value, place = interpret(data, {}, start=place)
            header.append(value)
    except TorchFileError as error:
        raise TorchFileError(
            "it is no file of torch: neither a zip archive nor a legacy one."
        ) from error
    if header[0] != _MAGIC or header[1] != _PROTOCOL or not isinstance(header[2], dict):
        raise TorchFileError("it is a pickle, but torch did not write it; see `read_pickle`.")
    order = b"little" if header[2].get("little_endian", True) else b"big"
    storages: dict[str, Storage] = {}
    left = len(data)

    def load(kind: Any, key: Any, count: Any, view: Any) -> Storage:
        nonlocal left
        if not isinstance(key, str) or kind is None:
            raise TorchFileError("a storage without a name or a type")
        if key not in storages:
            left -= count * kind.itemsize
            if left < 0:
                raise TorchFileError(f"storage {key!r} of {count} elements is larger than the file")
            storages[key] = Storage(np.zeros(count * kind.itemsize, np.uint8), kind)
        whole = storages[key]
        if whole.dtype != kind or len(whole.data) < count * kind.itemsize:
            raise TorchFileError(f"storage {key!r} has two types or sizes")
        if view is None:
            return whole
        if not isinstance(view, tuple) or len(view) != 3:
            raise TorchFileError("a view of a storage without its bounds")
        _, start, size = view
        if not all(isinstance(n, int) and n >= 0 for n in (start, size)) or start + size > count:
            raise TorchFileError(f"a view beyond the end of storage {key!r}")
        return Storage(whole.data[start * kind.itemsize : (start + size) * kind.itemsize], kind)

    out, place = _unpickle(data, place, _persistent(load), make, inert, trusted)
    keys, place = interpret(data, {}, start=place)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise TorchFileError("its list of storages is not that of its tensors.")
    for key in keys:  # the views made above see what is filled in here
        storage = storages[key]
        assert storage.dtype is not None
        counted = bytes(data[place : place + 8])
        size = len(storage.data)
        end = place + 8 + size
        if len(counted) < 8 or end > len(data):
            raise TorchFileError(f"it is cut short in its storage {key!r}.")
        if (
            struct.unpack("<q" if order == b"little" else ">q", counted)[0] * storage.dtype.itemsize
            != size
        ):
            raise TorchFileError(f"its storage {key!r} has another size than its tensors say.")
        raw = native_bytes(data[place + 8 : end], storage.dtype, swap=order != _machine_order())
        storage.data[:] = np.frombuffer(raw, np.uint8)
        place = end
    return out


def _unpickle(
    data: memoryview, start: int, persistent: Any, make: TensorMaker, inert: Any, trusted: bool
) -> tuple[Any, int]:
    known = torch_globals(make)
    if trusted:
        return _run_pickle(data, start, persistent, known)
    known |= plain_globals()
    value, end = interpret(data, known, persistent=persistent, inert=_inert(inert), start=start)
    return finish(value), end


def _run_pickle(data: memoryview, start: int, persistent: Any, known: dict[str, Global]) -> Any:
    """Python's own pickle, for files that the caller trusts; torch itself is still not needed."""
    import io

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid):
            return persistent(pid)

        def find_class(self, module, name):
            found = known.get(f"{module}.{name}")
            if found is None:
                return super().find_class(module, name)
            return found.call or found.value or found

    stream = io.BytesIO(bytes(data[start:]))
    return Unpickler(stream).load(), start + stream.tell()


def _persistent(load: Callable[..., Storage]) -> Callable[[Any], Storage]:
    """Reads a persistent id of torch: `("storage", type, key, location, count[, view])`."""

    def read(pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise TorchFileError("a reference to something else than a storage")
        kind, key, _, count = pid[1:5]
        dtype = kind.value if isinstance(kind, Global) else kind
        if isinstance(kind, Global) and dtype is None:
            if not kind.name.endswith(".UntypedStorage"):
                raise TorchFileError(f"a storage of the type {kind.name!r}")
        elif not isinstance(dtype, np.dtype):
            raise TorchFileError("a storage without a type")
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise TorchFileError("a storage without a size")
        return load(dtype, key, count, pid[5] if len(pid) == 6 else None)

    return read


# -- small things ----------------------------------------------------------------------------------


def _bytes_of(source: Source, mmap: bool) -> tuple[memoryview, str]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return memoryview(source).cast("B"), "the bytes given"
    path = Path(source)
    if mmap and path.stat().st_size:
        return np.memmap(path, np.uint8, "r").data, str(path)
    return memoryview(path.read_bytes()), str(path)


class _named:
    """Errors inside say which file they are about."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, TorchFileError):
            error.args = (f"{self.name}: {error.args[0]}",)


def _inert(names: Collection[str] | bool) -> Any:
    return names if isinstance(names, bool) else frozenset(names)


def _machine_order() -> bytes:
    return b"little" if np.little_endian else b"big"
