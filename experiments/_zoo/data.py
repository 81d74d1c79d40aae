"""Data that zoos are trained on: what scikit-learn ships, or files of MNIST and its kin.

Sources: the digits of Alpaydin and Kaynak (8 x 8), Fisher's iris, the Wisconsin breast cancer data
(UCI repository) and two photographs, all shipped with scikit-learn; a folder with `mnist/`,
`fashion_mnist/` (idx files) and `cifar10/` (binary version) for the rest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsljax._compat import require
from wsljax.zoo.foreign.images import read_cifar, read_idx

VARIABLE = "WSLJAX_DATA"
DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10")


class Samples(NamedTuple):
    """Inputs in float32 and classes in int32, in two fixed parts.

    Images are `(n, height, width, channels)` in [0, 1], rows of a table `(n, features)`.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    source: str


def data_folder(given: str | os.PathLike | None = None) -> Path | None:
    """The folder of image files: the one given, or that of the variable WSLJAX_DATA, or none.

    Raises:
        FileNotFoundError: it is not there.
    """
    folder = given or os.environ.get(VARIABLE)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; --data and {VARIABLE} name one that holds mnist/, "
            "fashion_mnist/ or cifar10/."
        )
    return Path(folder)


def images(
    dataset: str, folder: Path | None, *, size: int | None = None, train: int | None = None,
    test: int | None = 1000,
) -> Samples:  # fmt: skip
    """Images with classes.

    Args:
        dataset: "digits", "mnist", "fashion_mnist" or "cifar10".
        folder: of files. None: the digits of scikit-learn stand in for grey images, crops of its
            two photographs for those in colour.
        size: they are resized to so many pixels a side.
        train, test: how many of each part, at most.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: the folder has no such files.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset {dataset!r}: there are {', '.join(DATASETS)}.")
    if dataset == "digits" or (folder is None and dataset != "cifar10"):
        found = _digits()
    elif folder is None:
        found = _photographs(size or 32)
    elif dataset == "cifar10":
        found = _cifar(folder)
    else:
        found = _idx(folder / dataset)
    tx, ty, vx, vy, source = found
    cut = Samples(tx[:train], ty[:train], vx[:test], vy[:test], source)
    if size is None or cut.train_x.shape[1] == size:
        return cut
    source = f"{source}, resized to {size} x {size}"
    resized = (resize(part, size) for part in (cut.train_x, cut.test_x))
    return cut._replace(**dict(zip(("train_x", "test_x"), resized)), source=source)


def resize(x: np.ndarray, size: int) -> np.ndarray:
    """Images `(n, h, w, c)` at `(n, size, size, c)`, bilinearly, corners on corners.

    >>> resize(np.array([[[[0.0], [1.0]], [[0.0], [1.0]]]]), 3)[0, 0, :, 0].tolist()
    [0.0, 0.5, 1.0]
    """
    rows, columns = (_interpolation(n, size) for n in x.shape[1:3])
    return np.einsum("ph,nhwc,qw->npqc", rows, x, columns, optimize=True).astype(np.float32)


def iris() -> Samples:
    """Fisher's iris, standardised: 120 to train on; all 150 are measured, as in the source."""
    require("sklearn", extra="experiments")
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    train = np.random.default_rng(42).permutation(len(x))[:120]
    x, y = _standardised(x, train), y.astype(np.int32)
    return Samples(x[train], y[train], x, y, "iris of scikit-learn; all 150 are the test part")


def breast_cancer() -> Samples:
    """The Wisconsin diagnoses, standardised, in parts of 80, 10 and 10 in 100; the second is unused."""
    require("sklearn", extra="experiments")
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(42).permutation(len(x))
    train, test = order[: int(0.8 * len(x))], order[int(0.9 * len(x)) :]
    x, y = _standardised(x, train), y.astype(np.int32)
    return Samples(x[train], y[train], x[test], y[test], "breast cancer data of scikit-learn")


def tetris(
    *, train: int = 800, test: int = 200, noise: float = 0.35, moved: bool = False, seed: int = 0
) -> Samples:
    """Grey 4 x 4 pictures of four tetromino shapes, `(n, 16)`: I, O, T and L, as many of each.

    A shape lies in the upper left corner or, if `moved`, is turned by quarters and put anywhere it
    fits; its cells have one brightness between 0.6 and 1, and all cells have normal noise.
    """
    shapes = [((0, 0), (0, 1), (0, 2), (0, 3)), ((0, 0), (0, 1), (1, 0), (1, 1)),
              ((0, 0), (0, 1), (0, 2), (1, 1)), ((0, 0), (1, 0), (2, 0), (2, 1))]  # fmt: skip
    rng, count = np.random.default_rng(seed), train + test
    y = (np.arange(count) % 4).astype(np.int32)
    x = noise * rng.standard_normal((count, 4, 4))
    for i, label in enumerate(y):
        cells = np.array(shapes[label])
        if moved:
            for _ in range(rng.integers(4)):
                cells = np.stack([cells[:, 1], -cells[:, 0]], axis=1)
            cells -= cells.min(0)
            cells += rng.integers(0, 4 - cells.max(0))
        x[i, cells[:, 0], cells[:, 1]] += rng.uniform(0.6, 1.0)
    x = x.reshape(count, 16).astype(np.float32)
    return Samples(x[:train], y[:train], x[train:], y[train:], "generated tetris shapes")


def text() -> str:
    """English text: what scikit-learn says of its data sets, in small letters."""
    require("sklearn", extra="experiments")
    from sklearn import datasets

    names = ("iris", "breast_cancer", "digits", "wine", "diabetes", "linnerud")
    raw = " ".join(getattr(datasets, f"load_{name}")().DESCR for name in names)
    return " ".join(raw.lower().split())


def _standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    return ((x - x[train].mean(0)) / x[train].std(0)).astype(np.float32)


def _digits(seed: int = 0) -> Samples:
    require("sklearn", extra="experiments")
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x = (x[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = y[order].astype(np.int32)
    return Samples(x[500:], y[500:], x[:500], y[:500], "digits of scikit-learn")


def _photographs(size: int, seed: int = 0) -> Samples:
    """Crops of two photographs; those of the right-most fifth are the test part."""
    require("sklearn", extra="experiments")
    require("PIL", extra="experiments")
    from sklearn.datasets import load_sample_images

    rng, parts = np.random.default_rng(seed), {"train": [], "test": []}
    for label, photo in enumerate(load_sample_images().images):
        height, width = photo.shape[0] - size, photo.shape[1] - size
        for part, count, low, high in (
            ("train", 1000, 0, width * 4 // 5 - size), ("test", 250, width * 4 // 5, width),
        ):  # fmt: skip
            places = zip(rng.integers(0, height, count), rng.integers(low, high, count))
            parts[part] += [(photo[i : i + size, j : j + size], label) for i, j in places]
    arrays = []
    for part in ("train", "test"):
        order = rng.permutation(len(parts[part]))
        crops, labels = zip(*(parts[part][i] for i in order))
        arrays += [np.stack(crops).astype(np.float32) / 255, np.array(labels, np.int32)]
    return Samples(*arrays, "crops of the photographs of scikit-learn")


def _idx(folder: Path) -> Samples:
    arrays = []
    for part in ("train", "t10k"):
        for kind, rank in (("images", 3), ("labels", 1)):
            arrays.append(read_idx(_file(folder, f"{part}-{kind}-idx{rank}-ubyte")))
    tx, ty, vx, vy = arrays
    tx, vx = ((x[..., None] / np.float32(255)).astype(np.float32) for x in (tx, vx))
    return Samples(tx, ty.astype(np.int32), vx, vy.astype(np.int32), folder.name)


def _cifar(folder: Path) -> Samples:
    """All batches there are; without a test batch, the last fifth is the test part."""
    places = [folder / "cifar10", folder / "cifar10_first4000"]
    files = [file for place in places for file in sorted(place.glob("*batch*.bin*"))]
    if not files:
        raise FileNotFoundError(
            f"neither {places[0]} nor {places[1]} holds *batch*.bin files of CIFAR-10 (binary "
            "version); put them there, or leave out --data for photographs that come along."
        )
    parts = {"train": [], "test": []}
    for file in files:
        parts["test" if "test" in file.name else "train"].append(read_cifar(file))
    x, y = (np.concatenate(arrays) for arrays in zip(*parts["train"]))
    x = (x / np.float32(255)).astype(np.float32)
    if parts["test"]:
        vx, vy = (np.concatenate(arrays) for arrays in zip(*parts["test"]))
        return Samples(x, y, (vx / np.float32(255)).astype(np.float32), vy, "cifar10")
    cut = len(x) * 4 // 5
    return Samples(x[:cut], y[:cut], x[cut:], y[cut:], f"cifar10, {len(x)} images")


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{folder / name}(.gz) is not there; put the idx files into {folder}, or leave out --data for "
        "the digits that come along."
    )


def _interpolation(count: int, size: int) -> np.ndarray:
    """The matrix `(size, count)` of linear interpolation."""
    places = np.linspace(0, count - 1, size)
    return np.stack([np.interp(places, np.arange(count), row) for row in np.eye(count)], axis=1)
