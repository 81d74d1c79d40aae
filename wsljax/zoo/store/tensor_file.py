"""Files of named tensors that are checksummed while they are written.

The layout is that of safetensors (https://github.com/huggingface/safetensors, README, "Format"): eight
bytes with the length of the header, a JSON header with dtype, shape and place of every tensor, and the
tensors, one after another. Any reader of safetensors reads them. The CRC-32 of each tensor is kept in
the header's metadata and that of the header in the index of the zoo, so every byte is covered.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
CODES = {name: code for code, name in DTYPES.items()}
PIECE = 2**20  # bytes read or written at a time: what fits a cache is checksummed for little
LARGEST_HEADER = 100_000_000  # as safetensors has it
ALIGNMENT = 64
WRITE_BEHIND = 2**24  # bytes after which the disk is set to work, while the rest is prepared


class DamagedFile(ValueError):
    """A file that is not what was written; says what is wrong with it."""


class Written(NamedTuple):
    """What an index keeps of a file: its sizes in bytes and the CRC-32 of its header."""

    bytes: int
    header_bytes: int
    header_crc32: int


class Tensor(NamedTuple):
    """Where a tensor is in its file: the first byte, and the CRC-32 of its bytes."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    crc32: int

    @property
    def nbytes(self) -> int:
        return _count(self.shape) * self.dtype.itemsize


def write_tensors(file: FileIO, tensors: Mapping[str, np.ndarray]) -> Written:
    """Write tensors into an empty, unbuffered, seekable file.

    Nothing is copied but what is not contiguous, one tensor at a time.
    """
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)  # keeps all aligned
    checksums = [0] * len(order)
    header = _header(tensors, order, checksums)
    _write(file, header)
    total, flushed = len(header), 0
    for number, name in enumerate(order):
        data = _bytes(tensors[name])
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            checksums[number] = zlib.crc32(piece, checksums[number])
            _write(file, piece)
            total += len(piece)
            if total - flushed >= WRITE_BEHIND:
                _start_flushing(file, flushed, total)
                flushed = total
    header = _header(tensors, order, checksums)  # of the same length: checksums have eight digits
    file.seek(0)
    _write(file, header)
    return Written(total, len(header), zlib.crc32(header))


def read_header(path: Path, written: Written) -> dict[str, Tensor]:
    """The places of the tensors of a file, in the order of their bytes.

    Nothing is allocated that the file is not large enough to fill.

    Raises:
        DamagedFile: the file is missing, or of another size, or its header is not that which was
            written, or does not describe the bytes that follow.
    """
    try:
        size = os.stat(path).st_size
        if size != written.bytes:
            what = "truncated" if size < written.bytes else "too long"
            raise DamagedFile(f"it is {what}: {size} bytes, not {written.bytes}")
        if not 8 <= written.header_bytes <= min(size, LARGEST_HEADER + 8):
            raise DamagedFile(f"its header cannot have {written.header_bytes} of {size} bytes")
        with path.open("rb") as file:
            header = file.read(written.header_bytes)
    except OSError as e:
        raise DamagedFile(f"it cannot be read ({e.strerror or e})") from e
    if zlib.crc32(header) != written.header_crc32:
        raise DamagedFile("its header fails its checksum")
    try:
        return _parse(header, size)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as e:
        raise DamagedFile(f"its header is not one that was written here ({e!r})") from e


def check_tensor(file: FileIO, name: str, tensor: Tensor) -> None:
    """Read the bytes of a tensor, from a file opened without buffer, a piece at a time.

    Raises:
        DamagedFile: they fail their checksum.
    """
    checksum, left = 0, tensor.nbytes
    piece = memoryview(bytearray(min(PIECE, left)))
    file.seek(tensor.start)
    while left:
        count = file.readinto(piece[:left])
        if not count:
            raise DamagedFile(f"it ends within tensor {name!r}")
        checksum = zlib.crc32(piece[:count], checksum)
        left -= count
    if checksum != tensor.crc32:
        raise DamagedFile(
            f"tensor {name!r} fails its checksum: {checksum:08x}, not {tensor.crc32:08x}"
        )


def check_tensors(path: Path, header: Mapping[str, Tensor]) -> None:
    """As `check_tensor`, for all tensors of a file."""
    try:
        with path.open("rb", buffering=0) as file:
            for name, tensor in header.items():
                check_tensor(file, name, tensor)
    except OSError as e:
        raise DamagedFile(f"it cannot be read ({e.strerror or e})") from e


def map_file(path: Path) -> mmap.mmap:
    """The file as memory, read only."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def view(buffer: Any, tensor: Tensor) -> np.ndarray:
    """A tensor as an array over the bytes of its file."""
    count = _count(tensor.shape)
    if count == 0:
        return np.empty(tensor.shape, tensor.dtype)
    return np.frombuffer(buffer, tensor.dtype, count, tensor.start).reshape(tensor.shape)


def dtype_name(dtype: Any) -> str | None:
    """The name of a dtype that can be stored, else None."""
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        return None
    return name if name in CODES else None


def _header(tensors: Mapping[str, np.ndarray], order: list[str], checksums: list[int]) -> bytes:
    entries: dict[str, Any] = {
        "__metadata__": {"crc32": " ".join(f"{checksum:08x}" for checksum in checksums)}
    }
    end = 0
    for name in order:
        array = tensors[name]
        start, end = end, end + array.nbytes
        entries[name] = {
            "dtype": CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parse(header: bytes, size: int) -> dict[str, Tensor]:
    if int.from_bytes(header[:8], "little") != len(header) - 8:
        raise ValueError("its length is wrong")
    entries = json.loads(header[8:])
    checksums = entries.pop("__metadata__")["crc32"].split()
    if len(checksums) != len(entries):
        raise ValueError(f"{len(checksums)} checksums of {len(entries)} tensors")
    found, place = {}, len(header)
    for (name, entry), checksum in zip(entries.items(), checksums, strict=True):
        shape = tuple(entry["shape"])
        if any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"tensor {name!r} has the shape {shape}")
        tensor = Tensor(jnp.dtype(DTYPES[entry["dtype"]]), shape, place, int(checksum, 16))
        place += tensor.nbytes
        if entry["data_offsets"] != [tensor.start - len(header), place - len(header)]:
            raise ValueError(f"tensor {name!r} is not where its shape puts it")
        found[name] = tensor
    if place != size:
        raise ValueError(f"the tensors end at byte {place} of {size}")
    return found


def _bytes(array: np.ndarray) -> memoryview:
    if array.nbytes == 0:
        return memoryview(b"")
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data  # as numbers: bfloat16 has no buffer of its own


def _write(file: FileIO, data: Any) -> None:
    left = memoryview(data)
    while len(left):
        left = left[file.write(left) :]


def _start_flushing(file: FileIO, start: int, stop: int) -> None:
    """Have the system write a range to the disk without waiting for it; fsync comes at the end."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, stop - start, os.POSIX_FADV_DONTNEED)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
