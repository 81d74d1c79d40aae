"""The MNIST INRs of DWSNets (Navon et al. 2023): one folder for each SIREN."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import inside, listed, matching, subfolders, the_only
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import SPLITS, chosen, siren_params, siren_population, split_codes
from wsljax.zoo.foreign.tables import read_json
from wsljax.zoo.population import Population

FOLDER = r"mnist_png_(training|testing)_(\d+)_(\d+)"
TOP = "mnist-inrs"


def _matches(path: Path) -> bool:
    if not path.is_dir():
        return False
    root = path / TOP if (path / TOP).is_dir() else path
    return any(re.fullmatch(FOLDER, p.name) for p in (root, *root.iterdir()))


@foreign_format("dws_inr", _matches)
def read_dws_inr(
    path: str | os.PathLike, splits: str | os.PathLike | None = None, split: str | None = None
) -> Population:
    """MNIST INRs of DWSNets: folders mnist_png_<part>_<label>_<index>/checkpoints/*.pth.

    Source: Navon et al., "Equivariant Architectures for Learning in Deep Weight Spaces", 2023. The
    label and the part are those of the folder's own name, never a word anywhere in the path.

    The function is what the files leave out: frequency 30, 0.5 added to the output. Images are drawn
    at `grid(28, 28, order="xy")`; `index` is that of the image in MNIST's training or test set.

    Args:
        path: the folder `mnist-inrs`, the one above it, or one network's own folder.
        splits: the file `mnist_splits.json`; found by itself beside or in the folder.
        split: read only this part of it: "train", "val" or "test".

    Returns:
        SIRENs with columns `label`, `index`, `part` (of MNIST: "training", "testing"), `run`, and
        `split` if there is a splits file.

    Raises:
        ForeignZooError: a folder or file that does not fit the layout; names it.
    """
    path, wanted = Path(path), chosen(split)
    root = path / TOP if (path / TOP).is_dir() else path
    if re.fullmatch(FOLDER, root.name):
        folders = [root]
    else:
        folders = [folder for folder, _ in matching(subfolders(root), FOLDER)]
    file = _splits_file(root, splits)
    if file is None and split is not None:
        raise ForeignZooError(f"{root} has no mnist_splits.json, so there is no split {split!r}.")
    listed_in = None if file is None else _read_splits(file, root)
    networks, names, rows = [], [], []
    for folder in folders:
        found = re.fullmatch(FOLDER, folder.name)
        assert found is not None
        row: dict[str, Any] = {
            "label": int(found[2]),
            "index": int(found[3]),
            "part": found[1],
        }
        if listed_in is not None:
            if folder.name not in listed_in:
                continue
            row["split"], label = listed_in[folder.name]
            if label != row["label"]:
                raise ForeignZooError(f"{file} says label {label} of {folder.name}.")
            if row["split"] not in wanted:
                continue
        checkpoint = the_only(listed(folder / "checkpoints", "*.pth"), "checkpoints/*.pth", folder)
        networks.append(siren_params(read_torch(checkpoint), str(checkpoint)))
        names.append(str(checkpoint))
        rows.append(row)
    table: dict[str, Any] = {
        name: [row[name] for row in rows] for name in (rows[0] if rows else {})
    }
    labels: dict[str, Any] = {}
    if "split" in table:
        table["split"] = split_codes(table["split"], str(file))
        labels["split"] = SPLITS
    if "part" in table:
        table["part"] = np.array([part == "testing" for part in table["part"]], np.int32)
        labels["part"] = ("training", "testing")
    return siren_population(networks, names, table, offset=0.5, labels=labels)


def _splits_file(root: Path, given: str | os.PathLike | None) -> Path | None:
    if given is not None:
        return Path(given)
    for folder in (root, root.parent):
        if (folder / "mnist_splits.json").is_file():
            return folder / "mnist_splits.json"
    return None


def _read_splits(file: Path, root: Path) -> dict[str, tuple[str, int]]:
    """Folder name -> part and label; the file has labels as text, and paths of its own folder."""
    out: dict[str, tuple[str, int]] = {}
    data = read_json(file)
    if not isinstance(data, dict):
        raise ForeignZooError(f"{file} is no splits file.")
    split_codes(list(data), file)
    for part, entries in data.items():
        paths, labels = _lists(file, part, entries, ("path", "label"))
        for name, label in zip(paths, labels):
            folder = inside(root, name, str(file)).parts
            own = [piece for piece in folder if re.fullmatch(FOLDER, piece)]
            if len(own) != 1:
                raise ForeignZooError(f"{file} has a path {name!r:.100} to no folder of an INR.")
            if own[0] in out:
                raise ForeignZooError(f"{file} lists {own[0]} twice.")
            if not str(label).isdigit():
                raise ForeignZooError(f"{file} has the label {label!r:.40} for {own[0]}.")
            out[own[0]] = part, int(label)
    return out


def _lists(file: Path, part: str, entries: Any, names: tuple[str, ...]) -> list[list[Any]]:
    """Lists of one length out of one part of a splits file."""
    values = [entries.get(name) if isinstance(entries, dict) else None for name in names]
    found = [value for value in values if isinstance(value, list)]
    if len(found) != len(names) or len({len(value) for value in found}) != 1:
        raise ForeignZooError(f"{file}: {part!r} needs lists {', '.join(names)} of one length.")
    return found
