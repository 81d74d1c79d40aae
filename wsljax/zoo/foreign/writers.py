"""Our INRs in the layouts of DWSNets and NFN, so that the loaders of others read them."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.interop.torch_file import write_torch
from wsljax.zoo.foreign.sirens import SPLITS
from wsljax.zoo.foreign.stacking import torch_kernel
from wsljax.zoo.population import Population

FREQUENCY = 30.0


def write_dws(
    population: Population, folder: str | os.PathLike, *, label: str = "label", index: str = "index"
) -> Path:
    """Write INRs as DWSNets keeps them, with `mnist_splits.json`.

    The layout has no place for frequency and offset: its readers take 30 and 0.5. Weights are
    converted so that, read so, they are the same functions (`sin(w (x W + b))` by the ratio of
    frequencies, the offset by the last bias).

    Args:
        population: SIRENs with columns `label`, `index` and, if they are in several parts, `part`
            ("training", "testing") and `split` ("train", "val", "test"), both with labels. Without
            `part`, those of the split "test" are for testing; without either, all are for training.
        folder: made if it is not there; gets `mnist-inrs` and the splits file.
        label, index: the names of the columns.

    Returns:
        The folder of the networks.

    Raises:
        ValueError: no SIRENs, a column is missing, or two networks of one part, label and index.

    Example:
        >>> import tempfile
        >>> from wsljax.zoo.function import Function
        >>> layer = {"kernel": np.ones((2, 2, 1), np.float32), "bias": np.zeros((2, 1), np.float32)}
        >>> net = Function("siren", {"widths": (2, 1), "offset": 0.5})
        >>> inrs = Population({"dense_0": layer}, {"label": [7, 1], "index": [0, 2]}, function=net)
        >>> written = write_dws(inrs, tempfile.mkdtemp())
        >>> sorted(path.name for path in written.iterdir())
        ['mnist_png_training_1_2', 'mnist_png_training_7_0']
    """
    layers = _siren_layers(population, offset=0.5)
    labels, numbers = _integers(population, label), _integers(population, index)
    splits = _words(population, "split", SPLITS)
    parts = _words(population, "part", ("training", "testing"))
    if parts is None:
        parts = [
            "testing" if word == "test" else "training"
            for word in splits or ["train"] * len(labels)
        ]
    if splits is None:
        splits = ["test" if part == "testing" else "train" for part in parts]
    names = [f"mnist_png_{p}_{c}_{i}" for p, c, i in zip(parts, labels, numbers)]
    _check_unique(names)
    root = Path(folder) / "mnist-inrs"
    table: dict[str, dict[str, list[str]]] = {w: {"path": [], "label": []} for w in SPLITS}
    for row, name in enumerate(names):
        place = root / name / "checkpoints"
        place.mkdir(parents=True, exist_ok=True)
        write_torch(_state(layers, row, "seq.{}"), place / "model_final.pth")
        table[splits[row]]["path"].append(f"mnist-inrs/{name}/checkpoints/model_final.pth")
        table[splits[row]]["label"].append(str(labels[row]))
    _write_json(Path(folder) / "mnist_splits.json", table)
    return root


def write_nfn(
    population: Population,
    folder: str | os.PathLike,
    *,
    prefix: str = "randinit_smaller",
    label: str = "label",
    index: str = "index",
) -> Path:
    """Write INRs as NFN keeps them: <prefix>[_aug<k>]_<label>s/net<index>.pth.

    The frequency becomes 30 and the offset 0, as in `write_dws`. NFN's loaders take `index` for the
    place in training + test images, expect all of 0 to n - 1, and images in [-1, 1].

    Args:
        population: SIRENs of two layers or more with columns `label` (0 to 9), `index` and, for
            augmented copies, `augmentation` (-1: none).
        folder: made if it is not there.
        prefix: of the folders.
        label, index: the names of the columns.

    Returns:
        The folder.

    Raises:
        ValueError: no SIRENs, a column is missing, labels of two digits, or an index twice.
    """
    layers = _siren_layers(population, offset=0.0)
    labels, numbers = _integers(population, label), _integers(population, index)
    if not all(0 <= value <= 9 for value in labels):
        raise ValueError(f"labels {sorted(set(labels))}; this layout has one digit for them.")
    copies = [-1] * len(labels)
    if "augmentation" in population.columns:
        copies = _integers(population, "augmentation")
    _check_unique([f"augmentation {copy}, index {i}" for copy, i in zip(copies, numbers)])
    root = Path(folder)
    for row, (copy, digit, number) in enumerate(zip(copies, labels, numbers)):
        augmented = "" if copy < 0 else f"_aug{copy}"
        place = root / f"{prefix}{augmented}_{digit}s"
        place.mkdir(parents=True, exist_ok=True)
        write_torch(_state(layers, row, "net.{}.linear", "net.{}"), place / f"net{number}.pth")
    return root


def _siren_layers(population: Population, *, offset: float) -> list[dict[str, np.ndarray]]:
    """Stacked layers of the same functions at frequency 30 and this offset."""
    function = population.function
    if function is None or function.architecture != "siren":
        what = "says nothing" if function is None else f"is a {function.architecture!r}"
        raise ValueError(f"this layout is for SIRENs; the population's function {what}.")
    settings = function.settings
    if settings.get("output", "linear") != "linear":
        raise ValueError(f"this layout has linear outputs, not {settings['output']!r}.")
    widths = settings.get("widths", (2, 32, 32, 1))
    own = settings.get("frequency", FREQUENCY)
    first = settings.get("first_frequency")
    speeds = [own if first is None else first] + [own] * (len(widths) - 2)
    names = [f"dense_{i}" for i in range(len(widths) - 1)]
    params: Mapping[str, Any] = population.params
    layers = []
    for i, name in enumerate(names):
        kernel, bias = (np.asarray(params[name][part]) for part in ("kernel", "bias"))
        if i < len(names) - 1:
            ratio = kernel.dtype.type(speeds[i] / FREQUENCY)
            kernel, bias = kernel * ratio, bias * ratio
        else:
            bias = bias + bias.dtype.type(settings.get("offset", 0.0) - offset)
        layers.append({"kernel": kernel, "bias": bias})
    return layers


def _state(
    layers: list[dict[str, np.ndarray]], row: int, name: str, last: str | None = None
) -> Any:
    state = OrderedDict()
    for i, layer in enumerate(layers):
        prefix = (last if last and i == len(layers) - 1 else name).format(i)
        state[f"{prefix}.weight"] = np.ascontiguousarray(torch_kernel(layer["kernel"][row]))
        state[f"{prefix}.bias"] = layer["bias"][row]
    return state


def _integers(population: Population, name: str) -> list[int]:
    if name not in population.columns:
        raise ValueError(
            f"the population has no column {name!r}; it has {sorted(population.columns)}."
        )
    column = np.asarray(population.columns[name])
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise ValueError(f"column {name!r} is {column.dtype}{column.shape}; integers are due.")
    return column.tolist()


def _words(population: Population, name: str, known: tuple[str, ...]) -> list[str] | None:
    if name not in population.columns:
        return None
    words = population.label(name)
    if set(words) - set(known):
        raise ValueError(f"column {name!r} has {sorted(set(words))}; they are {', '.join(known)}.")
    return words


def _check_unique(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two networks would be written as {name}.")
        seen.add(name)


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)
