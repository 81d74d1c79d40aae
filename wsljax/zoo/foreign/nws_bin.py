"""NWS (Eilertsen et al. 2020): raw vectors of CNNs of many architectures, twenty snapshots each."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsljax.zoo.foreign.folders import inside
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.stacking import by_architecture, population_of, stack
from wsljax.zoo.foreign.tables import cells_as_values, read_csv, table_of
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population

SNAPSHOTS = 20
_SIZES = ("filter_size", "depth_conv", "depth_fc", "width_conv", "width_fc")
_HYPER = (*_SIZES, "lrate", "batch_size", "batch_norm", "augmentation", "optimizer", "activation")
_ACTIVATIONS = ("relu", "elu", "sigmoid", "tanh")
_OUTPUTS, _SIDE, _BLOCKS = 20, 32, 3


class _Network(NamedTuple):
    file: str
    params: dict[str, Any]
    row: dict[str, Any]
    sizes: tuple[int, ...]


def _matches(path: Path) -> bool:
    if path.suffix != ".csv" or not path.is_file():
        return False
    with path.open(errors="replace") as file:
        return {"path", "weightn_conv", "weightn_fc"} <= set(file.readline().strip().split(","))


@foreign_format("nws_bin", _matches)
def read_nws_bin(
    path: str | os.PathLike,
    snapshots: tuple[int, ...] = (SNAPSHOTS,),
    root: str | os.PathLike | None = None,
) -> dict[str, Population]:
    """NWS: a CSV file of networks, and for each <path>/weights/<k>.bin, error.bin and stat.bin.

    Source: Eilertsen et al., "Classifying the classifier: dissecting the weight space of neural
    networks", 2020. Vectors of float64, one kernel after the other with outputs and inputs before
    rows and columns; after each layer its bias and four vectors of batch normalisation.

    The function: 32 x 32 x 3 images in [0, 1] (MNIST: resized), convolutions with padding "SAME" in
    three blocks with max pooling; normalisation before the activation in convolutions, after it in
    dense layers, and **by the batch's own statistics**, also in evaluation, as in their script.

    Args:
        path: the CSV file.
        snapshots: which of the 20 (1: initial, 20: final).
        root: folder that the column `path` is relative to; by default that of the CSV file.

    Returns:
        One population for each architecture, with the columns of the table, `train_error`,
        `validation_error` and `test_error` in percent, `step` (snapshot) and `run`.

    Raises:
        ForeignZooError: files that do not fit the table; names them.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    cells = {name: cells_as_values(values) for name, values in read_csv(path).items()}
    missing = {"path", "weightn_conv", "weightn_fc", "activation", *_SIZES} - set(cells)
    if missing:
        raise ForeignZooError(f"{path} has no columns {sorted(missing)}.")
    if not snapshots or not all(1 <= k <= SNAPSHOTS for k in snapshots):
        raise ValueError(f"snapshots: {snapshots}; numbers from 1 to {SNAPSHOTS}.")
    items = []
    for run in range(len(cells["path"])):
        row = {name: values[run] for name, values in cells.items()}
        folder = inside(base, row.pop("path"), str(path))
        items += _read_run(folder, row, run, snapshots)
    groups = by_architecture(items, lambda item: "-".join(map(str, item.sizes)))
    return {f"nws {key}": _population(group) for key, group in groups.items()}


def _read_run(
    folder: Path, row: Mapping[str, Any], run: int, snapshots: tuple[int, ...]
) -> list[_Network]:
    sizes = tuple(row[name] for name in _SIZES)
    if not all(isinstance(size, int) and 0 < size < 10_000 for size in sizes):
        raise ForeignZooError(f"{folder} has the sizes {dict(zip(_SIZES, sizes))}.")
    conv, fc = _layout(sizes)
    told = row["weightn_conv"], row["weightn_fc"]
    if (counts := (_count(conv), _count(fc))) != told:
        raise ForeignZooError(
            f"{folder} should have {counts} weights (convolutions, dense) by its sizes; the table "
            f"says {told}."
        )
    errors = _errors(folder)
    out = []
    for snapshot in snapshots:
        file = folder / "weights" / f"{snapshot:03d}.bin"
        vector = _vector(file)
        if len(vector) != sum(told):
            raise ForeignZooError(f"{file} has {len(vector)} numbers; the table says {sum(told)}.")
        extra = dict(zip(("train_error", "validation_error", "test_error"), errors[snapshot - 1]))
        extra = {name: float(value) for name, value in extra.items()} | {
            "step": snapshot,
            "run": run,
        }
        out.append(_Network(str(file), _params(vector, conv + fc), {**row, **extra}, sizes))
    return out


def _layout(sizes: tuple[int, ...]) -> tuple[list, list]:
    """`(layer, part, shape)` in the order of the file: convolutions, and dense layers."""
    kernel, conv_depth, fc_depth, conv_width, fc_width = sizes
    per_block = _per_block(conv_depth)
    layers, last, conv = [], 3, 0
    for block, count in enumerate(per_block):
        wide = conv_width * 2**block
        for _ in range(count):
            layers.append((f"conv_{conv}", (kernel, kernel, last, wide), True))
            conv, last = conv + 1, wide
    wides = [*(fc_width // 2**i for i in range(fc_depth)), _OUTPUTS]
    last *= (_SIDE // 2**_BLOCKS) ** 2
    for i, wide in enumerate(wides):
        layers.append((f"dense_{i}", (last, wide), i < fc_depth))
        last = wide
    parts = [[], []]
    for name, shape, normed in layers:
        target = parts[name.startswith("dense")]
        target += [(name, "kernel", shape), (name, "bias", shape[-1:])]
        norm = ("offset", "scale", "mean", "variance") if normed else ()
        target += [(f"norm_{name}", part, shape[-1:]) for part in norm]
    return parts[0], parts[1]


def _per_block(depth: int) -> list[int]:
    """Convolutions of each block; what is over goes to the last blocks."""
    counts = [depth // _BLOCKS] * _BLOCKS
    for i in range(depth % _BLOCKS):
        counts[_BLOCKS - 1 - i] += 1
    return counts


def _count(parts: list) -> int:
    return sum(math.prod(shape) for *_, shape in parts)


def _params(vector: np.ndarray, parts: list) -> dict[str, dict[str, np.ndarray]]:
    params: dict[str, dict[str, np.ndarray]] = {}
    place = 0
    for layer, part, shape in parts:
        size = math.prod(shape)
        piece = vector[place : place + size].astype(np.float32)
        if len(shape) == 4:  # written kernel by kernel: out, in, rows, columns
            piece = piece.reshape(shape[3], shape[2], *shape[:2]).transpose(2, 3, 1, 0)
        elif len(shape) == 2:
            piece = piece.reshape(shape[::-1]).T
        params.setdefault(layer, {})[part] = piece
        place += size
    return params


def _population(items: list[_Network]) -> Population:
    params = stack([item.params for item in items], [item.file for item in items])
    table = table_of([item.row for item in items])
    codes = table["activation"]
    if not all(isinstance(code, int) and 0 <= code < len(_ACTIVATIONS) for code in codes):
        raise ForeignZooError(f"{items[0].file}: the activation of a network is no code 0 to 3.")
    table["activation"] = np.array(codes, np.int32)
    function = Function(
        "layered",
        {
            "input_shape": (_SIDE, _SIDE, 3),
            "steps": _steps(items[0].sizes),
            "activation": _ACTIVATIONS,
        },
    )
    roles = {name: "hyper" for name in _HYPER} | {"dataset": "hyper", "initialization": "hyper"}
    roles |= {name: "metric" for name in table if name.endswith("_error")}
    roles |= {"step": "step", "run": "lineage"}
    labels = {"activation": _ACTIVATIONS}
    return population_of(params, table, function=function, roles=roles, labels=labels)


def _steps(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    kernel, conv_depth, fc_depth, conv_width, fc_width = sizes
    norm = {"kind": "batch_norm", "statistics": "batch"}
    steps: list[dict[str, Any]] = []
    number = 0
    for block, count in enumerate(_per_block(conv_depth)):
        for _ in range(count):
            name, out = f"conv_{number}", conv_width * 2**block
            conv = {"kind": "conv", "name": name, "out": out, "kernel": kernel, "padding": "SAME"}
            steps += [conv, norm | {"name": f"norm_{name}"}, {"kind": "activation"}]
            number += 1
        steps.append({"kind": "max_pool", "size": 2})
    steps.append({"kind": "flatten"})
    for i in range(fc_depth):
        steps.append({"kind": "dense", "name": f"dense_{i}", "out": fc_width // 2**i})
        steps += [{"kind": "activation"}, norm | {"name": f"norm_dense_{i}"}]
    return [*steps, {"kind": "dense", "name": f"dense_{fc_depth}", "out": _OUTPUTS}]


def _errors(folder: Path) -> np.ndarray:
    """Training, validation and test error in percent at each snapshot, `(20, 3)`."""
    errors, stat = _vector(folder / "error.bin"), _vector(folder / "stat.bin")
    epochs = int(stat[0]) if len(stat) else 0
    if len(errors) % 5 or not 0 < epochs <= len(errors) // 5:
        raise ForeignZooError(f"{folder} has {len(errors)} errors and {epochs} epochs.")
    chosen = np.round(np.linspace(0, epochs - 1, SNAPSHOTS)).astype(int)
    return errors.reshape(-1, 5)[chosen, 1:4]


def _vector(file: Path) -> np.ndarray:
    if not file.is_file() or file.stat().st_size % 8:
        raise ForeignZooError(f"{file} is missing, or no vector of float64.")
    return np.fromfile(file, "<f8")
