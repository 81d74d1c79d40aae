"""Folders of LoRAs in safetensors: of ProbeX (A, B and a class), and of diffusers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from wsljax.zoo.foreign.folders import listed, subfolders
from wsljax.zoo.foreign.registry import foreign_format
from wsljax.zoo.foreign.safetensors_file import read_arrays
from wsljax.zoo.foreign.stacking import population_of, stack
from wsljax.zoo.foreign.tables import cells_as_values
from wsljax.zoo.population import Population

DIFFUSERS = "pytorch_lora_weights.safetensors"


def _files(path: Path) -> list[Path]:
    return [
        file for folder in (path, *subfolders(path)) for file in listed(folder, "*.safetensors")
    ]


def _matches(path: Path) -> bool:
    # a folder of one model has its file at the top, one of many has them one level down
    return path.is_dir() and any(listed(folder, "*.safetensors") for folder in subfolders(path))


@foreign_format("lora", _matches)
def read_lora(path: str | os.PathLike) -> Population:
    """LoRAs: <subset>/*.safetensors with A and B, or */pytorch_lora_weights.safetensors.

    Source: Horwitz et al. 2025 (10,000 LoRAs of Stable Diffusion, one ImageNet class each);
    Dravid et al. 2024 for LoRAs of diffusers. Texts of the metadata (`imagenet_class_id`) become
    columns, parsed as numbers or kept as words, never evaluated.

    Args:
        path: the folder of subsets, or of one folder for each LoRA.

    Returns:
        Arrays under the names of the files (`A` is `(rank, in)`, `B` `(out, rank)`), one column for
        each text of the metadata, `subset` (the folder) and `run`. No function: that needs the base
        model.

    Raises:
        ForeignZooError: no files, or LoRAs of different shapes; names the file.
    """
    files = _files(Path(path))
    found = [read_arrays(file) for file in files]
    texts = sorted({name for _, metadata in found for name in metadata})
    table: dict[str, object] = {
        name: cells_as_values([metadata.get(name, "") for _, metadata in found]) for name in texts
    }
    table["subset"] = [file.parent.name for file in files]
    table["run"] = np.arange(len(files), dtype=np.int32)
    params = stack([arrays for arrays, _ in found], [str(file) for file in files])
    return population_of(params, table, roles={"run": "lineage"})  # pyright: ignore
