"""The Fashion-MNIST INRs that go with DWSNets: folders train and test of numbered files."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import inside, listed, matching
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import SPLITS, chosen, siren_params, siren_population, split_codes
from wsljax.zoo.foreign.tables import read_json
from wsljax.zoo.population import Population

FILE = r"model_(\d+)\.pth"
TOP, PARTS = "fmnist_inrs", ("train", "test")


def _matches(path: Path) -> bool:
    root = path / TOP if (path / TOP).is_dir() else path
    return any(next(matching(listed(root / part), FILE), None) for part in PARTS)


@foreign_format("fmnist_inr", _matches)
def read_fmnist_inr(path: str | os.PathLike, split: str | None = None) -> Population:
    """Fashion-MNIST INRs: {train,test}/model_<i>.pth with the label in the file, and splits.json.

    Source: Navon et al. 2023 (data), Kofinas et al. 2024 (splits). The same SIRENs as of MNIST:
    frequency 30, 0.5 added to the output, drawn at `grid(28, 28, order="xy")`.

    Args:
        path: the folder `fmnist_inrs`, or the one above it.
        split: read only this part of `splits.json`: "train", "val" or "test".

    Returns:
        SIRENs with columns `label`, `index` (the number in the file name), `part` (folder), `run`,
        and `split` if there is a `splits.json` (its paths may be those of another machine: the last
        two parts count).

    Raises:
        ForeignZooError: a file that does not fit the layout; names it.
    """
    path, wanted = Path(path), chosen(split)
    root = path / TOP if (path / TOP).is_dir() else path
    file = root / "splits.json"
    listed_in = _read_splits(file, root) if file.is_file() else None
    if listed_in is None and split is not None:
        raise ForeignZooError(f"{root} has no splits.json, so there is no split {split!r}.")
    networks, names, rows = [], [], []
    for part in PARTS:
        for checkpoint, found in matching(listed(root / part), FILE):
            row: dict[str, Any] = {"index": int(found[1]), "part": PARTS.index(part)}
            if listed_in is not None:
                row["split"] = listed_in.get(f"{part}/{checkpoint.name}")
                if row["split"] not in wanted:
                    continue
            state = read_torch(checkpoint)
            if not isinstance(state, dict) or "label" not in state:
                raise ForeignZooError(f"{checkpoint} has no 'label' beside its weights.")
            row["label"] = _label(state["label"], checkpoint)
            weights = {name: value for name, value in state.items() if name != "label"}
            networks.append(siren_params(weights, str(checkpoint)))
            names.append(str(checkpoint))
            rows.append(row)
    table: dict[str, Any] = {
        name: [row[name] for row in rows] for name in (rows[0] if rows else {})
    }
    labels: dict[str, Any] = {"part": PARTS}
    if "split" in table:
        table["split"] = split_codes(table["split"], file)
        labels["split"] = SPLITS
    return siren_population(networks, names, table, offset=0.5, labels=labels)


def _label(value: Any, where: Path) -> int:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iu":
        raise ForeignZooError(f"{where} has the label {value!r:.60}, no integer.")
    return int(array.reshape(()))


def _read_splits(file: Path, root: Path) -> dict[str, str]:
    data = read_json(file)
    if not isinstance(data, dict):
        raise ForeignZooError(f"{file} is no splits file.")
    split_codes(list(data), file)
    out: dict[str, str] = {}
    for part, entries in data.items():
        entries = entries.get("path") if isinstance(entries, dict) else entries
        if not isinstance(entries, list) or not all(isinstance(name, str) for name in entries):
            raise ForeignZooError(f"{file}: {part!r} is no list of paths.")
        for name in entries:
            short = "/".join(PurePosixPath(name.replace("\\", "/")).parts[-2:])
            inside(root, short, str(file))
            if short in out:
                raise ForeignZooError(f"{file} lists {short} twice.")
            out[short] = part
    return out
