"""Folders of safetensors: one file, or shards with an index; read and written without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._compat import require

FILE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


def read_safetensors(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """Every tensor of a folder, or of a single ``.safetensors`` file.

    Args:
        folder: holds ``model.safetensors``, or shards and ``model.safetensors.index.json``; or one file.

    Returns:
        ``{name: array}``; bfloat16 as jax's numpy dtype of that name.

    Raises:
        FileNotFoundError: there is no such file, or a shard is missing. Names it.
        ValueError: a file is damaged, or shards and index contradict each other.

    Example:
        >>> import numpy as np, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_safetensors({"w": np.ones((2, 3), "float32")}, folder)
        ...     read_safetensors(folder)["w"].shape
        (2, 3)
    """
    folder = Path(folder)
    if folder.is_file():
        return _read_file(folder)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if (folder / FILE).is_file():
        return _read_file(folder / FILE)
    remedy = "give the folder that `save_pretrained` wrote"
    if any(folder.glob("pytorch_model*.bin")):
        remedy = "it has torch's pickles only: write them anew by `save_pretrained`, which writes safetensors"
    raise FileNotFoundError(f"{folder} has neither {FILE} nor {INDEX}; {remedy}")


def write_safetensors(
    tensors: Mapping[str, np.ndarray],
    folder: str | os.PathLike,
    *,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write ``model.safetensors``, or shards with an index where one file would be too large.

    Each file is written under another name first and then renamed, so a killed writer leaves no half file.

    Args:
        tensors: name -> array.
        folder: made if it is missing.
        max_shard_bytes: how much one file may hold; a single larger tensor has a file of its own.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, np.ndarray]] = [{}]
    room = max_shard_bytes
    for name, array in tensors.items():
        if array.nbytes > room and shards[-1]:
            shards.append({})
            room = max_shard_bytes
        shards[-1][name] = array
        room -= array.nbytes
    for old in (folder / INDEX, folder / FILE, *folder.glob("model-?????-of-?????.safetensors")):
        old.unlink(missing_ok=True)  # what was here before must not be read along
    if len(shards) == 1:
        _write_file(folder / FILE, shards[0])
        return
    where = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        _write_file(folder / file, shard)
        where |= dict.fromkeys(shard, file)
    total = sum(array.nbytes for array in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file; raises FileNotFoundError or ValueError with the file's name."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; give the folder that `save_pretrained` wrote")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds {type(found).__name__}, not an object")
    return found


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object under another name, then rename."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(file)


def _read_file(file: Path) -> dict[str, np.ndarray]:
    require("safetensors", extra="data")
    import safetensors

    try:
        with safetensors.safe_open(str(file), framework="np") as source:
            return {name: source.get_tensor(name) for name in source.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged or no safetensors file: {error}") from error


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    index = read_json(folder / INDEX)
    where = index.get("weight_map")
    if not isinstance(where, dict) or not where:
        raise ValueError(f"{folder / INDEX} has no `weight_map` of names and files")
    tensors: dict[str, np.ndarray] = {}
    for file in dict.fromkeys(where.values()):
        if not isinstance(file, str) or Path(file).name != file:
            raise ValueError(f"{folder / INDEX} names {file!r}, which is not a file of the folder")
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file}, named by {INDEX}, is missing")
        shard = _read_file(folder / file)
        wanted = {name for name, at in where.items() if at == file}
        if wanted - set(shard):
            raise ValueError(
                f"{folder / file} lacks {sorted(wanted - set(shard))[0]!r}, which {INDEX} places there; the "
                "shards are not of one model, or were not copied whole"
            )
        tensors |= {name: shard[name] for name in shard if name in wanted}
    return tensors


def _write_file(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    require("safetensors", extra="data")
    import safetensors.numpy

    temporary = file.with_name(file.name + ".tmp")
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in tensors.items()}
    safetensors.numpy.save_file(arrays, str(temporary), metadata={"format": "pt"})
    temporary.replace(file)
