"""weights2weights (Dravid et al. 2024): LoRAs as rows of a matrix, and its principal components."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.stacking import population_of
from wsljax.zoo.population import Population

ROWS = ("all_weights.pt", "proj_1000pc.pt")


class Components(NamedTuple):
    """The space of weights: `weights = (coordinates @ directions.T) * std + mean`.

    Attributes:
        mean, std: `(size,)`. Some entries of the published `std` are negative (bfloat16; the authors
            left them so); coordinates were made with them, so the signs cancel.
        directions: `(size, components)`.
    """

    mean: np.ndarray
    std: np.ndarray
    directions: np.ndarray

    def weights(self, coordinates: np.ndarray) -> np.ndarray:
        """Vectors of weights `(n, size)` from coordinates `(n, k)` of the first `k` components."""
        directions = self.directions[:, : coordinates.shape[-1]]
        return coordinates @ directions.T * self.std + self.mean


def _matches(path: Path) -> bool:
    return any((path / name).is_file() for name in ROWS) and (path / "mean.pt").is_file()


@foreign_format("weights2weights", _matches)
def read_weights2weights(path: str | os.PathLike, rows: str | None = None) -> Population:
    """weights2weights: all_weights.pt or proj_1000pc.pt, one LoRA a row.

    Source: Dravid et al., "Interpreting the Weight Space of Customized Diffusion Models", 2024. Rows
    are in alphanumeric order of the LoRAs' folders. Files are mapped, not read as a whole.

    Args:
        path: the folder.
        rows: "weights" or "coordinates"; by default weights if they are there.

    Returns:
        `{"weights": (models, size)}` or `{"coordinates": (models, components)}` with `run`. No
        function: that needs the base model. `read_components` gives the space itself.

    Raises:
        ForeignZooError: the file is missing or no matrix.
    """
    path = Path(path)
    names = dict(zip(("weights", "coordinates"), ROWS))
    if rows is None:
        rows = "weights" if (path / ROWS[0]).is_file() else "coordinates"
    if rows not in names:
        raise ValueError(f"rows: {rows!r}; 'weights' or 'coordinates'.")
    matrix = _load(path / names[rows], 2)
    table = {"run": np.arange(len(matrix), dtype=np.int32)}
    return population_of({rows: matrix}, table, roles={"run": "lineage"})


def read_components(path: str | os.PathLike) -> Components:
    """The space of weights2weights: mean.pt, std.pt and V.pt of a folder.

    Raises:
        ForeignZooError: a file is missing, or sizes differ.
    """
    path = Path(path)
    mean, std = (_load(path / f"{name}.pt", None).reshape(-1) for name in ("mean", "std"))
    directions = _load(path / "V.pt", 2)
    if not len(mean) == len(std) == len(directions):
        raise ForeignZooError(
            f"{path}: mean {mean.shape}, std {std.shape} and V {directions.shape} do not fit."
        )
    return Components(mean, std, directions)


def _load(file: Path, rank: int | None) -> np.ndarray:
    if not file.is_file():
        raise ForeignZooError(f"there is no {file}")
    array = read_torch(file, mmap=True, max_bytes=2**40, check_crc=file.stat().st_size < 2**30)
    if not isinstance(array, np.ndarray) or rank not in (None, array.ndim):
        raise ForeignZooError(f"{file} is no array of {rank} axes.")
    return array
