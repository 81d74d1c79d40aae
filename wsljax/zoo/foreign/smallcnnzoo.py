"""The Small CNN Zoo (Unterthiner et al. 2020): one matrix of weights, one table of metrics."""

from __future__ import annotations

import ast
import math
import os
import random
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from wsljax.zoo.foreign.folders import the_only
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.stacking import population_of
from wsljax.zoo.foreign.tables import cells_as_values, read_csv
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.split import Split

WEIGHTS = ("weights.npy", "all_weights.npy")
METRICS = ("metrics.csv.gz", "metrics.csv", "all_metrics.csv", "all_metrics.csv.gz")
METRIC_ROLES = {
    name: "metric" for name in ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
}


def _matches(path: Path) -> bool:
    return (path / "layout.csv").is_file() and any((path / name).is_file() for name in WEIGHTS)


@foreign_format("smallcnnzoo", _matches)
def read_smallcnnzoo(
    path: str | os.PathLike,
    step: int | None = None,
    rows: slice | None = None,
    image_size: int | None = None,
) -> Population:
    """The Small CNN Zoo: weights.npy, metrics.csv.gz and layout.csv.

    Source: Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020. The vectors
    have the bias of a layer before its kernel; kernels are HWIO and (in, out) already.

    The function: three 3 x 3 convolutions of stride 2 **without padding** (Keras' default; a
    published pipeline pads and so runs other networks), the activation of the column `activation`,
    the mean over positions, a dense layer. Inputs are grey images with values in [0, 1]; the function
    takes them to the [-1, 1] that the networks were trained on.

    Args:
        path: the folder of one zoo.
        step: keep only checkpoints of this step; 86 are the final ones. All: nine a run.
        rows: of the files, to read a part of them (the matrix is memory-mapped).
        image_size: side of the images; by default 32 if the folder is called after CIFAR or SVHN,
            else 28. The weights are the same for both.

    Returns:
        A population with the columns of the table (`config.` taken off their names), `step`, and
        `run`, the same for all checkpoints of one training run.

    Raises:
        ForeignZooError: files of different lengths, or a layout that does not cover the vectors.
    """
    path = Path(path)
    matrix = _load_matrix(
        the_only([path / n for n in WEIGHTS if (path / n).is_file()], "matrix", path)
    )
    file = the_only([path / n for n in METRICS if (path / n).is_file()], "table of metrics", path)
    table = {name: cells_as_values(cells) for name, cells in read_csv(file).items()}
    count = len(next(iter(table.values())))
    if count != len(matrix):
        raise ForeignZooError(f"{path} has {len(matrix)} rows of weights and {count} of metrics.")
    runs = _runs(table, count)
    keep = np.arange(count)[slice(None) if rows is None else rows]
    if step is not None:
        if "step" not in table:
            raise ForeignZooError(f"{file} has no column 'step'.")
        keep = keep[np.array([table["step"][i] == step for i in keep], bool)]
    if not len(keep):
        raise ForeignZooError(f"{path} has no rows left with step={step}, rows={rows}.")
    params = _params(np.asarray(matrix[keep]), path / "layout.csv")
    columns, roles = {}, dict(METRIC_ROLES) | {"step": "step", "run": "lineage"}
    for name, values in table.items():
        if name in ("", "modeldir") or _is_path(values):
            continue
        short = name.removeprefix("config.")
        if short in columns:
            raise ForeignZooError(f"{file} has columns {short!r} and 'config.{short}'.")
        columns[short] = [values[i] for i in keep]
        if short != name:
            roles[short] = "hyper"
    columns["run"] = runs[keep]
    if image_size is None:
        image_size = 32 if any(name in path.resolve().name for name in ("cifar", "svhn")) else 28
    function = _function(params, columns, file, image_size)
    return population_of(params, columns, function=function, roles=roles)


def nfn_split(
    steps: Any, file: str | os.PathLike, *, step: int = 86, published: bool = True
) -> Split:
    """The split of the Small CNN Zoo that NFN introduced, as rows of the unfiltered zoo.

    Source: Zhou et al. 2023; used likewise by neural graphs, monomial networks, ProbeGen and
    ScaleGMN. The file has one row number a line under a header "0", but all five read it without a
    header: row 0 occurs twice. After the filter for final checkpoints that is without effect as long
    as row 0 is none, which is so in zoos sorted by step. Then the second half is for testing, and
    the first, shuffled by Python's `Random(0)`, is cut 80:20.

    Args:
        steps: the column `step` of the whole zoo.
        file: the CSV file of row numbers.
        step: of the checkpoints that are kept.
        published: with row 0 twice, as published; False: every row once.

    Returns:
        A `Split`; parts in the order of the file (training and validation: of the shuffle), not
        increasing.

    Raises:
        ForeignZooError: a line that is no row number of the zoo.
    """
    steps, file = np.asarray(steps), Path(file)
    lines = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    wrong = [line for line in lines if not line.isdigit() or int(line) >= len(steps)]
    if wrong:
        raise ForeignZooError(
            f"{file} has a line {wrong[0]!r:.40}; row numbers below {len(steps)}."
        )
    if not published and lines[:1] == ["0"] and lines.count("0") > 1:
        lines = lines[1:]
    order = np.array([int(line) for line in lines], np.int64)
    order = order[steps[order] == step]
    half = int(0.5 * len(order))
    first = list(range(half))
    cut = int(0.8 * half)
    random.Random(0).shuffle(first)
    return Split(order[first[:cut]], order[first[cut:]], order[half:])


def _load_matrix(file: Path) -> np.ndarray:
    try:
        matrix = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ForeignZooError(f"{file} cannot be read: {error}") from error
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise ForeignZooError(
            f"{file} is {matrix.dtype}{matrix.shape}; a matrix of numbers is due."
        )
    return matrix


def _params(vectors: np.ndarray, file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Layers by the layout: `conv_i` of four axes, `dense_i` of two, each with its bias."""
    layout = read_csv(file)
    missing = {"varname", "start_idx", "end_idx", "shape"} - set(layout)
    if missing:
        raise ForeignZooError(f"{file} has no columns {sorted(missing)}.")
    layers: dict[str, dict[str, np.ndarray]] = {}
    spans = []
    cells = zip(layout["varname"], layout["start_idx"], layout["end_idx"], layout["shape"])
    for name, start, end, shape in cells:
        sizes = _shape(shape)
        if sizes is None or not (start.isdigit() and end.isdigit()):
            raise ForeignZooError(
                f"{file}: {name!r:.60} from {start!r:.20} of shape {shape!r:.60}."
            )
        first, last = int(start), int(end)
        if last - first != math.prod(sizes) or last > vectors.shape[1]:
            raise ForeignZooError(f"{file}: {name!r:.60} of shape {sizes} from {first} to {last}.")
        layer, _, kind = name.rpartition("/")
        kind = kind.partition(":")[0]
        if kind not in ("kernel", "bias") or kind in layers.get(layer, {}):
            raise ForeignZooError(f"{file}: {name!r:.60} is no kernel or bias, or is there twice.")
        spans.append((first, last))
        layers.setdefault(layer, {})[kind] = vectors[:, first:last].reshape(-1, *sizes)
    spans.sort()
    edges = [0, *(end for _, end in spans)]
    if [start for start, _ in spans] != edges[:-1] or edges[-1] != vectors.shape[1]:
        raise ForeignZooError(f"{file} does not cover vectors of {vectors.shape[1]} weights once.")
    kinds = {5: "conv", 3: "dense"}
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, layer in layers.items():
        kind = kinds.get(layer["kernel"].ndim) if "kernel" in layer else None
        if kind is None:
            raise ForeignZooError(f"{file}: {name!r:.60} is neither a convolution nor dense.")
        number = sum(other.startswith(kind) for other in params)
        params[f"{kind}_{number}"] = {
            part: layer[part] for part in ("kernel", "bias") if part in layer
        }
    return params


def _shape(text: str) -> tuple[int, ...] | None:
    """A tuple of sizes, as Python writes it; read as a literal, never evaluated."""
    if len(text) > 100:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    value = (value,) if isinstance(value, int) else value
    good = isinstance(value, tuple) and all(type(n) is int and 0 < n < 2**31 for n in value)
    return value if good else None


def _function(
    params: Mapping[str, Any], columns: Mapping[str, Any], file: Path, size: int
) -> Function:
    shapes = {name: layer["kernel"].shape[1:] for name, layer in params.items()}
    convolutions = [shape for name, shape in shapes.items() if name.startswith("conv")]
    if "activation" not in columns:
        raise ForeignZooError(f"{file} has no column 'config.activation'.")
    names = sorted({str(value) for value in columns["activation"]})
    if not convolutions:
        raise ForeignZooError(f"{file.parent} has no convolutions.")
    return Function(
        "cnn",
        {
            "input_shape": (size, size, convolutions[0][2]),
            "channels": [shape[-1] for shape in convolutions],
            "kernel": [shape[0] for shape in convolutions],
            "stride": 2,
            "padding": "VALID",
            "head": "mean",
            "dense_widths": [s[-1] for name, s in shapes.items() if name.startswith("dense")],
            "activation": names[0] if len(names) == 1 else names,
            "mean": 0.5,
            "std": 0.5,
        },
    )


def _is_path(values: list[Any]) -> bool:
    return isinstance(values[0], str) and "ckpt" in values[0]


def _runs(table: Mapping[str, list[Any]], count: int) -> np.ndarray:
    """The run of each row: the folder of its checkpoint."""
    paths = next((values for values in table.values() if _is_path(values)), None)
    if paths is not None:
        names = [str(PurePosixPath(str(value)).parent) for value in paths]
    elif "modeldir" in table:
        names = [str(value) for value in table["modeldir"]]
    else:
        return np.arange(count, dtype=np.int32)
    first: dict[str, int] = {}
    return np.array([first.setdefault(name, len(first)) for name in names], np.int32)
