"""Writing trees of arrays as the files that `torch.load(..., weights_only=True)` reads.

The layout of torch 2: a zip archive whose members are not packed, storages on multiples of 64
bytes, one pickle of protocol 2. The pickle is put together here, opcode by opcode, so that torch's
functions can be named without torch.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.interop.torch_tensors import DTYPES, STORAGES

_STORAGE_OF = {name: kind for kind, name in STORAGES.items()}
_ALIGNMENT = 64


def write_torch(tree: Any, path: str | os.PathLike) -> None:
    """Write a tree of arrays as a torch file; `read_torch` and torch itself read it back.

    Arrays of numpy and jax become tensors; the same array in two places is stored once. The file
    is written beside its place and then moved there, so that it is never there in part.

    Args:
        tree: dictionaries, lists, tuples, numbers, text, None and arrays.
        path: of the file.

    Raises:
        TypeError: something that torch would not read back as data; names where it is.

    Example:
        >>> import tempfile, zipfile
        >>> path = Path(tempfile.mkdtemp(), "net.pth")
        >>> write_torch({"w": np.zeros((2, 3), np.float32)}, path)
        >>> sorted(zipfile.ZipFile(path).namelist())
        ['net/.data/serialization_id', 'net/byteorder', 'net/data.pkl', 'net/data/0', 'net/version']
    """
    path = Path(path)
    pickled = _Pickle()
    pickled.put(tree, "the tree")
    top = path.stem or "archive"
    members = [("data.pkl", b"\x80\x02" + bytes(pickled.code) + b".")]
    members += [("byteorder", b"little")]
    members += [(f"data/{i}", data) for i, data in enumerate(pickled.storages)]
    members += [("version", b"3\n"), (".data/serialization_id", b"0" * 40)]
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
            for name, data in members:
                _add(file, f"{top}/{name}", data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _add(file: zipfile.ZipFile, name: str, data: Any) -> None:
    info = zipfile.ZipInfo(name)  # dated 1980, so that equal weights give equal files
    start = file.start_dir + 30 + len(name.encode()) + 4
    padding = -start % _ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    file.writestr(info, data)


class _Pickle:
    """The code of a pickle, and the storages that it refers to."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.storages: list[memoryview] = []
        self.keys: dict[int, tuple[int, Any]] = {}

    def put(self, value: Any, where: str) -> None:
        if value is None:
            self.code += b"N"
        elif isinstance(value, (bool, np.bool_)):
            self.code += b"\x88" if value else b"\x89"
        elif isinstance(value, (int, np.integer)):
            self.put_int(int(value))
        elif isinstance(value, (float, np.floating)):
            self.code += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            text = value.encode("utf-8", "surrogatepass")
            self.code += b"X" + struct.pack("<I", len(text)) + text
        elif isinstance(value, Mapping):
            self.put_dict(value, where)
        elif isinstance(value, (list, tuple)):
            self.code += b"](" if isinstance(value, list) else b"("
            for i, item in enumerate(value):
                self.put(item, f"{where}[{i}]")
            self.code += b"e" if isinstance(value, list) else b"t"
        elif hasattr(value, "__array__") and hasattr(value, "dtype"):
            self.put_array(value, where)
        else:
            raise TypeError(
                f"{where} is a {type(value).__name__}, which a file of weights cannot hold; give "
                "arrays, numbers, text and containers of them."
            )

    def put_int(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.code += b"J" + struct.pack("<i", value)
            return
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if len(data) > 255:
            raise TypeError(f"an integer of {len(data)} bytes")
        self.code += b"\x8a" + bytes([len(data)]) + data

    def put_dict(self, value: Mapping[Any, Any], where: str) -> None:
        self.code += b"ccollections\nOrderedDict\n)R(" if isinstance(value, OrderedDict) else b"}("
        for key, item in value.items():
            if not isinstance(key, (str, int, float, np.integer)):
                raise TypeError(f"{where} has a key {key!r} that is neither text nor a number.")
            self.put(key, where)
            self.put(item, f"{where}[{key!r}]")
        self.code += b"u"

    def put_array(self, value: Any, where: str) -> None:
        key, array = self.keep(value, where)
        name = "bool" if array.dtype == bool else array.dtype.name
        typed = name in _STORAGE_OF
        function = "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3"
        kind = f"torch\n{_STORAGE_OF[name]}" if typed else "torch.storage\nUntypedStorage"
        self.code += f"ctorch._utils\n{function}\n((".encode()
        self.put("storage", where)
        self.code += f"c{kind}\n".encode()
        self.put(str(key), where)
        self.put("cpu", where)
        self.put(array.size if typed else array.nbytes, where)
        self.code += b"tQ"
        self.put(0, where)
        self.put(array.shape, where)
        strides = np.cumprod((1, *array.shape[:0:-1]), dtype=object)[::-1] if array.ndim else ()
        self.put(tuple(map(int, strides)), where)
        self.code += b"\x89ccollections\nOrderedDict\n)R"
        self.code += b"" if typed else f"ctorch\n{name}\n".encode()
        self.code += b"tR"

    def keep(self, value: Any, where: str) -> tuple[int, np.ndarray]:
        """The number of an array's storage, and the array."""
        if id(value) in self.keys:
            key, (_, array) = self.keys[id(value)]
            return key, array
        array = np.asarray(value)
        array = np.ascontiguousarray(array).reshape(array.shape)  # the former lifts scalars to 1-d
        name = "bool" if array.dtype == bool else array.dtype.name
        if name not in DTYPES:
            raise TypeError(f"{where} has the dtype {array.dtype}, for which torch has no tensors.")
        if array.dtype.byteorder == ">" or not np.little_endian:
            array = array.astype(array.dtype.newbyteorder("<"))
        key = len(self.storages)
        self.storages.append(array.reshape(-1).view(np.uint8).data)
        self.keys[id(value)] = key, (value, array)
        return key, array
