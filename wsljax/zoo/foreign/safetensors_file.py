"""Chosen arrays and the metadata of one safetensors file, without reading the rest.

Format: a length (8 bytes, little-endian), a JSON header of names, dtypes, shapes and places, the data.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from wsljax.zoo.foreign.registry import ForeignZooError

MAX_HEADER_BYTES = 10**8
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool_",
}


def read_arrays(
    path: Path, names: Collection[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays of a file, in the order of its header, and its metadata, which is all text.

    Args:
        path: of the file; mapped, so that only the chosen arrays are read.
        names: which arrays; None: all.

    Raises:
        ForeignZooError: a name that is not there, or a header that is no header or points beyond
            the file.
    """
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    size = int.from_bytes(bytes(data[:8]), "little")
    if len(data) < 8 or size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ForeignZooError(f"{path} is no safetensors file, or cut short.")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
        metadata = header.pop("__metadata__", {})
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ForeignZooError(f"{path} has a header that is no JSON object: {error}") from error
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ForeignZooError(f"{path} has metadata that is not text.")
    missing = sorted(set(names or ()) - set(header))
    if missing:
        raise ForeignZooError(f"{path} has no arrays {missing}; it has {sorted(header)[:20]}.")
    body = data[8 + size :]
    wanted = [name for name in header if names is None or name in names]
    return {name: _array(body, header[name], f"{path}: {name!r}") for name in wanted}, metadata


def literal(text: str, where: str) -> Any:
    """A list, number or text that was written as Python writes it; read, never evaluated.

    Raises:
        ForeignZooError: it is no literal.

    Example:
        >>> literal("['cat', 'dog']", "model 1")
        ['cat', 'dog']
    """
    if len(text) > 10**6:
        raise ForeignZooError(f"{where}: a text of {len(text)} characters.")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ForeignZooError(f"{where}: {text!r:.80} is no list of words or numbers.") from error


def _array(body: np.ndarray, entry: Any, where: str) -> np.ndarray:
    message = f"{where} has the header {entry!r:.120}, which does not fit the file."
    try:
        dtype = np.dtype(getattr(jnp, _DTYPES[entry["dtype"]]))
        shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ForeignZooError(message) from None
    natural = all(type(n) is int and n >= 0 for n in (*shape, start, end)) and len(shape) <= 32
    if not natural or end - start != math.prod(shape) * dtype.itemsize or end > len(body):
        raise ForeignZooError(message)
    if start == end:
        return np.zeros(shape, dtype)
    return np.frombuffer(bytes(body[start:end]), dtype).reshape(shape)
