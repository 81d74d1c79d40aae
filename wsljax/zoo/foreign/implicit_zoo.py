"""The Implicit-Zoo (Ma et al. 2024): SIRENs of CIFAR images with their PSNR."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import listed, matching, subfolders
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import siren_params, siren_population
from wsljax.zoo.foreign.tables import read_json
from wsljax.zoo.population import Population

FILE = r"(\d{6})_(\d{7})\.ckpt"


def _matches(path: Path) -> bool:
    folder = path / "ckpts"
    return folder.is_dir() and any(
        next(matching(listed(label, "*.ckpt"), FILE), None) for label in subfolders(folder)
    )


@foreign_format("implicit_zoo", _matches)
def read_implicit_zoo(path: str | os.PathLike) -> Population:
    """SIRENs of the Implicit-Zoo: ckpts/<label>/<index>_<seed>.ckpt and <start>_<end>.json.

    Source: Ma et al., "Implicit Zoo", 2024. Frequency 30; outputs are images standardised with the
    mean and deviation of the data set, as the zoo's configuration has them (not in the files).
    The JSON file maps `index` to PSNR; where an image has several seeds it is the last one's, and the
    others have NaN. `index` counts from `start`.

    Args:
        path: the folder that holds `ckpts`.

    Returns:
        SIRENs with columns `label`, `index`, `seed`, `psnr` and `run`.

    Raises:
        ForeignZooError: a file that does not fit, or an index that differs from its name.
    """
    path = Path(path)
    found = sorted(
        (int(match[1]), int(match[2]), int(folder.name), file)
        for folder, _ in matching(subfolders(path / "ckpts"), r"\d+")
        for file, match in matching(listed(folder, "*.ckpt"), FILE)
    )
    psnr = {}
    for file, _ in matching(listed(path, "*.json"), r"\d+_\d+\.json"):
        for index, value in read_json(file).items():
            if not str(index).isdigit() or not isinstance(value, (int, float)):
                raise ForeignZooError(
                    f"{file} has {index!r:.40}: {value!r:.40}, no index and PSNR."
                )
            if int(index) in psnr:
                raise ForeignZooError(f"{file} has the image {index} of another file once more.")
            psnr[int(index)] = float(value)
    networks, values = [], []
    for i, (index, _, _, file) in enumerate(found):
        data = read_torch(file)
        if not isinstance(data, dict) or set(data) != {"image_idx", "params"}:
            raise ForeignZooError(f"{file} is no checkpoint of the Implicit-Zoo.")
        if data["image_idx"] != index:
            raise ForeignZooError(f"{file} is of the image {data['image_idx']!r:.40}.")
        networks.append(siren_params(data["params"], str(file)))
        last = i + 1 == len(found) or found[i + 1][0] != index
        values.append(psnr.get(index) if last else None)
    columns = {
        "label": np.array([label for _, _, label, _ in found], np.int32),
        "index": np.array([index for index, *_ in found], np.int32),
        "seed": np.array([seed for _, seed, *_ in found], np.int32),
        "psnr": np.array([np.nan if v is None else v for v in values], np.float32),
    }
    return siren_population(networks, [str(f) for *_, f in found], columns, offset=0.0)
