"""SANE's preprocessed data sets (Schürholt et al. 2024): tokens, masks, positions, properties."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import listed, matching
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import SPLITS, chosen
from wsljax.zoo.foreign.stacking import population_of, stack
from wsljax.zoo.foreign.tables import read_json
from wsljax.zoo.population import Population

FILE = r"sample_(\d+)\.pt"


def _matches(path: Path) -> bool:
    return any((path / f"dataset_torch.{part}").is_dir() for part in SPLITS)


@foreign_format("sane_tokens", _matches)
def read_sane_tokens(path: str | os.PathLike, split: str | None = None) -> Population:
    """SANE preprocessed: dataset_torch.<split>/sample_<i>.pt with w, m, p, props.

    Source: Schürholt et al., "Towards Scalable and Versatile Weight Space Learning", 2024. A row is a
    network, or the window of one that preprocessing cut out.

    Args:
        path: the folder that holds `dataset_torch.*` and `dataset_info_*.json`.
        split: read only "train", "val" or "test".

    Returns:
        `{"tokens": (models, …, tokens, width)}` with columns `mask` (shaped like the tokens),
        `positions` `(models, …, tokens, 3)` (index, layer, channel), one for each property in the
        info file, `split` and `run`. No function.

    Raises:
        ForeignZooError: a sample that does not fit, or parts with different properties.
    """
    path = Path(path)
    samples, files, parts, words = [], [], [], None
    for part in chosen(split):
        folder = path / f"dataset_torch.{part}"
        found = [file for file, _ in matching(listed(folder), FILE)] if folder.is_dir() else []
        if not found:
            continue
        properties = _properties(path / f"dataset_info_{part}.json")
        if words not in (None, properties):
            raise ForeignZooError(f"{path}: {part} has the properties {properties}, not {words}.")
        words = properties
        samples += [_sample(file, len(properties)) for file in found]
        files += [str(file) for file in found]
        parts += [SPLITS.index(part)] * len(found)
    if not samples:
        raise ForeignZooError(f"{path} has no samples of split={split!r}.")
    stacked = stack(samples, files)
    table: dict[str, Any] = {"mask": stacked["m"], "positions": stacked["p"]}
    for i, name in enumerate(words or ()):
        table[name] = stacked["props"][..., i]
    table |= {"split": np.array(parts, np.int32), "run": np.arange(len(parts), dtype=np.int32)}
    roles = dict.fromkeys(words or (), "metric") | {"run": "lineage"}
    roles |= {"training_iteration": "step"} if "training_iteration" in table else {}
    return population_of({"tokens": stacked["w"]}, table, roles=roles, labels={"split": SPLITS})


def _properties(file: Path) -> list[str]:
    info = read_json(file) if file.is_file() else {}
    names = info.get("properties", []) if isinstance(info, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ForeignZooError(f"{file} has no list of properties.")
    return names


def _sample(file: Path, properties: int) -> dict[str, np.ndarray]:
    data = read_torch(file)
    if not isinstance(data, dict) or set(data) != {"w", "m", "p", "props"}:
        raise ForeignZooError(f"{file} has no w, m, p and props.")
    if not all(isinstance(value, np.ndarray) for value in data.values()):
        raise ForeignZooError(f"{file} has something else than arrays.")
    tokens, mask, positions, props = (data[name] for name in ("w", "m", "p", "props"))
    if tokens.shape != mask.shape or positions.shape != (*tokens.shape[:-1], 3):
        raise ForeignZooError(
            f"{file}: tokens {tokens.shape}, mask {mask.shape}, positions {positions.shape}."
        )
    if properties and props.shape[-1:] != (properties,):
        raise ForeignZooError(f"{file} has props {props.shape} for {properties} properties.")
    return data
