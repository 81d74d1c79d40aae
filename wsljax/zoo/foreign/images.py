"""Files of images: idx (MNIST and its kin) and the binary records of CIFAR."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsljax.zoo.foreign.registry import ForeignZooError
from wsljax.zoo.foreign.tables import read_bytes

_IDX = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike, *, max_bytes: int = 2**31) -> np.ndarray:
    """The array in an idx file, packed with gzip or not.

    Source: Y. LeCun, C. Cortes, C. Burges, the MNIST database, "the idx file format".

    Args:
        path: ends in `.gz` if it is packed.
        max_bytes: what it may unpack to.

    Returns:
        An array in the machine's byte order: uint8 `(n, 28, 28)` for the images of MNIST.

    Raises:
        ForeignZooError: it is no idx file, or shorter or longer than its header says.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "labels-idx1-ubyte")
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        >>> read_idx(path).tolist()
        [7, 2, 1]
    """
    path = Path(path)
    data = read_bytes(path, max_bytes)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX:
        raise ForeignZooError(f"{path} is no idx file: it begins with {data[:4].hex()!r}.")
    rank, dtype = data[3], np.dtype(_IDX[data[2]])
    start = 4 + 4 * rank
    if len(data) < start or rank > 32:
        raise ForeignZooError(f"{path} ends within its header.")
    shape = struct.unpack(f">{rank}I", data[4:start])
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    if len(data) - start != expected:
        raise ForeignZooError(
            f"{path} has {len(data) - start} bytes; its header says {shape} of {dtype.name}, {expected}."
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


class LabelledImages(NamedTuple):
    """Images uint8 `(n, height, width, channels)` and their labels int32 `(n,)`."""

    images: np.ndarray
    labels: np.ndarray


def read_cifar(
    path: str | os.PathLike, *, label_bytes: int = 1, max_bytes: int = 2**31
) -> LabelledImages:
    """The images of a CIFAR file, "binary version", packed with gzip or not.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009: records of
    a label and 1,024 red, green and blue bytes, row by row.

    Args:
        path: ends in `.gz` if it is packed.
        label_bytes: 1 for CIFAR-10; 2 for CIFAR-100 (coarse, fine; the last one is given).
        max_bytes: what it may unpack to.

    Returns:
        `LabelledImages`, channels last.

    Raises:
        ForeignZooError: the file is not a whole number of records.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "data_batch_1.bin")
        >>> _ = path.write_bytes(bytes([3]) + bytes(1024) + bytes([255]) * 1024 + bytes(1024))
        >>> images, labels = read_cifar(path)
        >>> images.shape, labels.tolist(), images[0, 0, 0].tolist()
        ((1, 32, 32, 3), [3], [0, 255, 0])
    """
    path = Path(path)
    if label_bytes not in (1, 2):
        raise ValueError(f"label_bytes: {label_bytes}; 1 for CIFAR-10, 2 for CIFAR-100.")
    data = read_bytes(path, max_bytes)
    record = label_bytes + 3072
    if not data or len(data) % record:
        raise ForeignZooError(f"{path} has {len(data)} bytes, no multiple of records of {record}.")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return LabelledImages(np.ascontiguousarray(images), rows[:, label_bytes - 1].astype(np.int32))
