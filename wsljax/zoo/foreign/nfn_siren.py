"""The SIRENs of NFN (Zhou et al. 2023): folders by label, ten or twenty augmented copies beside."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import listed, matching, natural, subfolders
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import SPLITS, chosen, siren_params, siren_population
from wsljax.zoo.population import Population

FOLDER = r"(.+?)(?:_aug(\d+))?_(\d)s"
FILE = r"net(\d+)\.pth"
TRAIN, VALIDATION = 45_000, 50_000


def _matches(path: Path) -> bool:
    return path.is_dir() and any(
        next(matching(listed(folder, "net*.pth"), FILE), None)
        for folder, _ in matching(subfolders(path), FOLDER)
    )


@foreign_format("nfn_siren", _matches)
def read_nfn_siren(
    path: str | os.PathLike,
    prefix: str | None = None,
    augmented: bool | int = False,
    split: str | None = None,
) -> Population:
    """SIRENs of NFN: folders <prefix>[_aug<k>]_<label>s/net<i>.pth, i an index into train + test.

    Source: Zhou et al., "Permutation Equivariant Neural Functionals", 2023. Frequency 30, nothing
    added: outputs are images in [-1, 1] (`(y + 1) / 2` are pixels), drawn at `grid(n, n,
    order="ij")`. `index` counts the 60,000 (CIFAR: 50,000) training images first; `split` is the
    published one by index: train below 45,000, val below 50,000, test the rest, which for MNIST
    are 10,000 training images and the test images.

    Args:
        path: e.g. `siren_mnist_wts`.
        prefix: of the folders; "randinit_smaller", and by default the only one that there is.
        augmented: False: without the `_aug` folders, which the prefix also fits; True: with all of
            them; a number: that one alone.
        split: read only this part: "train", "val" or "test".

    Returns:
        SIRENs with columns `label`, `index`, `split`, `augmentation` (-1: none) and `run`, by
        augmentation and index.

    Raises:
        ForeignZooError: several prefixes, an index twice, or a file that does not fit; names it.
    """
    path, wanted = Path(path), chosen(split)
    files: dict[tuple[int, int], tuple[Path, int]] = {}
    prefixes = set()
    for folder, found in matching(subfolders(path), FOLDER):
        if prefix is not None and found[1] != prefix:
            continue
        number = -1 if found[2] is None else int(found[2])
        if not _is_wanted(number, augmented):
            continue
        prefixes.add(found[1])
        for file, match in matching(listed(folder, "net*.pth"), FILE):
            place = number, int(match[1])
            if place in files:
                raise ForeignZooError(f"{file} and {files[place][0]} are of the same image.")
            files[place] = file, int(found[3])
    if len(prefixes) > 1:
        raise ForeignZooError(f"{path} has folders of {sorted(prefixes)}; say which by `prefix=`.")
    if not files:
        there = sorted((p.name for p in subfolders(path)), key=natural)[:5]
        raise ForeignZooError(
            f"{path} has no networks of prefix {prefix!r}, augmented={augmented}; folders: {there}."
        )
    places = sorted(place for place in files if SPLITS[_split(place[1])] in wanted)
    names = [str(files[place][0]) for place in places]
    networks = [siren_params(read_torch(files[place][0]), str(files[place][0])) for place in places]
    index = np.array([i for _, i in places], np.int32)
    table = {
        "label": np.array([files[place][1] for place in places], np.int32),
        "index": index,
        "augmentation": np.array([number for number, _ in places], np.int32),
        "split": np.array([_split(i) for i in index], np.int32),
    }
    return siren_population(networks, names, table, offset=0.0, labels={"split": SPLITS})


def _is_wanted(number: int, augmented: bool | int) -> bool:
    if augmented is True:
        return True
    return number == (-1 if augmented is False else augmented)


def _split(index: int) -> int:
    return int(index >= TRAIN) + int(index >= VALIDATION)
