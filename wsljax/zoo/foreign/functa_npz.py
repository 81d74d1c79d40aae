"""functa (Dupont et al. 2022): modulation vectors in files called npz that are dill pickles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wsljax.interop.torch_file import read_pickle
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.stacking import population_of
from wsljax.zoo.population import Population

PARTS = ("train", "test")


def _matches(path: Path) -> bool:
    return path.is_file() and path.suffix == ".npz" and "modulations" in path.name


@foreign_format("functa_npz", _matches)
def read_functa_npz(
    path: str | os.PathLike, plain: bool = False, trusted: bool = False
) -> Population:
    """functa's modulations: <data>_modulations_<size>_latents.npz, a dill pickle, to be opted in.

    Source: Dupont et al., "From data to functa", 2022. The file is a pickle of dictionaries of numpy
    arrays. `plain=True` reads that without running anything; `trusted=True` has dill run it.

    Args:
        path: the file.
        plain: read the pickle as plain data.
        trusted: run the pickle. Only for files that you made yourself.

    Returns:
        `{"modulation": (models, size)}` with columns `psnr`, `split` and `run`. No function: the
        base network is in another file, a pickle of Haiku's.

    Raises:
        ForeignZooError: not opted in, or no modulations in the file.
        ImportError: trusted, and dill is not installed; names the extra.
    """
    path = Path(path)
    if not plain and not trusted:
        raise ForeignZooError(
            f"{path} is a pickle that dill wrote, whatever its name says. `plain=True` reads arrays "
            "out of it and runs nothing; `trusted=True` has dill run it, only for your own files."
        )
    data = read_pickle(path, trusted=trusted, dill=trusted)
    if not isinstance(data, Mapping) or not all(isinstance(data.get(p), Mapping) for p in PARTS):
        raise ForeignZooError(f"{path} has no parts {', '.join(PARTS)}.")
    arrays = {
        name: [np.asarray(data[part].get(name)) for part in PARTS]
        for name in ("modulation", "psnr")
    }
    ranks = {name: [array.ndim for array in parts] for name, parts in arrays.items()}
    counts = [[a.shape[0] if a.ndim else -1 for a in parts] for parts in arrays.values()]
    if ranks != {"modulation": [2, 2], "psnr": [1, 1]} or counts[0] != counts[1]:
        raise ForeignZooError(
            f"{path} has modulations and PSNRs of ranks {ranks}, lengths {counts}."
        )
    table = {
        "psnr": np.concatenate(arrays["psnr"]),
        "split": np.repeat(np.arange(2, dtype=np.int32), counts[0]),
        "run": np.arange(sum(counts[0]), dtype=np.int32),
    }
    params = {"modulation": np.concatenate(arrays["modulation"])}
    roles = {"psnr": "metric", "run": "lineage"}
    return population_of(params, table, roles=roles, labels={"split": PARTS})
