"""The Small Transformer Zoo (Tran et al. 2025): checkpoints of small vision and text transformers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import inside, listed, matching
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.stacking import jax_kernel, layers_of, population_of, stack
from wsljax.zoo.foreign.tables import cells_as_values, read_csv
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population

FILE = r"([^_]+)_([^_]+)(?:_(\d+))?\.pt"
_PROJECTIONS = {"queries": "query", "keys": "key", "values": "value"}
_ACCURACY = ("test_top1_accuracy", "test_accuracy")


def _matches(path: Path) -> bool:
    return (path / "metadata").is_dir() and any(
        (path / file.stem).is_dir() for file in listed(path / "metadata", "*.csv")
    )


@foreign_format("transformer_zoo", _matches)
def read_transformer_zoo(
    path: str | os.PathLike,
    task: str | None = None,
    epoch: int | str | None = 75,
    heads: int = 2,
) -> Population:
    """Small transformers: <task>/<run>_<epoch>_<accuracy x 1e4>.pt and metadata/<task>.csv.

    Source: Tran et al., "Equivariant Neural Functional Networks for Transformers", 2025. The
    networks are those of the released script: **no residual connections**, norms without weights
    (`plain_transformer`). Networks on text have embeddings in a file of their own, and no function.

    Args:
        path: the folder that holds `metadata` and the tasks.
        task: e.g. "mnist"; by default the only one.
        epoch: keep checkpoints of this epoch (75 in the published benchmark, or "best"); None: all.
        heads: of the attention, which the shapes do not tell.

    Returns:
        Networks with the columns of the table, `test_accuracy`, `step` (epoch; -1 for "best") and
        `run`.

    Raises:
        ForeignZooError: several tasks, a checkpoint that the table names and that is not there, or one
            that does not fit; names it.
    """
    path = Path(path)
    tasks = [file.stem for file in listed(path / "metadata", "*.csv")]
    if task is None and len(tasks) != 1:
        raise ForeignZooError(f"{path} has the tasks {tasks}; say which by `task=`.")
    task = task or tasks[0]
    if task not in tasks:
        raise ForeignZooError(f"{path} has no metadata/{task}.csv; there are {tasks}.")
    file = path / "metadata" / f"{task}.csv"
    table = {name: cells_as_values(cells) for name, cells in read_csv(file).items()}
    accuracy = next((name for name in _ACCURACY if name in table), None)
    if accuracy is None or not {"ckpt_file", "ckpt_epoch"} <= set(table):
        raise ForeignZooError(f"{file} has no columns ckpt_file, ckpt_epoch and {_ACCURACY[0]}.")
    epochs = [str(value) for value in table["ckpt_epoch"]]
    keep = [i for i, value in enumerate(epochs) if epoch is None or value == str(epoch)]
    networks, names, runs = [], [], {}
    for i in keep:
        checkpoint = inside(path, table["ckpt_file"][i], str(file))
        found = next(matching([checkpoint], FILE), None)
        if found is None or not checkpoint.is_file():
            raise ForeignZooError(f"{file} names {checkpoint.name}, which is not there.")
        networks.append(_params(read_torch(checkpoint), heads, str(checkpoint)))
        names.append(str(checkpoint))
        runs.setdefault(found[1][1], len(runs))
    columns: dict[str, Any] = {
        name: [values[i] for i in keep]
        for name, values in table.items()
        if name not in ("ckpt_file", "ckpt_epoch", accuracy)
    }
    hyper = list(columns)
    columns["test_accuracy"] = np.array([table[accuracy][i] for i in keep], np.float32)
    columns["step"] = np.array(
        [int(epochs[i]) if epochs[i].isdigit() else -1 for i in keep], np.int32
    )
    stems = [Path(name).name.split("_")[0] for name in names]
    columns["run"] = np.array([runs[stem] for stem in stems], np.int32)
    params = stack(networks, names)
    roles = dict.fromkeys(hyper, "hyper") | {"test_accuracy": "metric"}
    roles |= {"step": "step", "run": "lineage"}
    function = _function(params, names[0])
    return population_of(params, columns, function=function, roles=roles)


def _params(state: Any, heads: int, where: str) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for prefix, layer in layers_of(state, where):
        parts = prefix.split(".")
        if prefix == "embedding":
            params["positions"] = layer.pop("pos_embedding", None)
        elif prefix == "embedding.conv1":
            params["embed"] = _layer(layer)
        elif parts[0] == "embedding":
            params["tokens"] = layer["weight"]
            continue
        elif parts[0] == "encoder" and len(parts) in (3, 4) and parts[1].isdigit():
            block = params.setdefault(f"block_{parts[1]}", {})
            name = parts[-1]
            if name in _PROJECTIONS or name == "out_projection":
                _check_heads(layer, heads, f"{where}: {prefix}")
            if name in _PROJECTIONS:
                kernel = layer.pop("weight").T
                wide, inner = kernel.shape
                kernel = kernel.reshape(wide, heads, inner // heads)
                block[_PROJECTIONS[name]] = {"kernel": kernel}
            elif name == "out_projection":
                kernel = layer.pop("weight").T
                inner, wide = kernel.shape
                block["out"] = {"kernel": kernel.reshape(heads, inner // heads, wide)}
            elif name in ("fc1", "fc2"):
                block["up" if name == "fc1" else "down"] = _layer(layer)
        elif prefix in ("classifier.fc1", "classifier.fc2"):
            params["dense_0" if prefix.endswith("1") else "dense_1"] = _layer(layer)
        if layer:
            raise ForeignZooError(f"{where}: what is {prefix}.{'/'.join(layer)} is not known.")
    return {name: value for name, value in params.items() if value is not None}


def _layer(layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out = {"kernel": jax_kernel(layer.pop("weight"))}
    return out | ({"bias": layer.pop("bias")} if "bias" in layer else {})


def _check_heads(layer: Mapping[str, np.ndarray], heads: int, where: str) -> None:
    weight = layer.get("weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] % heads or weight.shape[1] % heads:
        shape = None if weight is None else weight.shape
        raise ForeignZooError(f"{where} has a weight {shape}, not to be split into {heads} heads.")


def _function(params: Mapping[str, Any], where: str) -> Function | None:
    blocks = sum(name.startswith("block_") for name in params)
    if "embed" not in params:
        return None
    needed = {"embed", "positions", "dense_0", "dense_1", *(f"block_{i}" for i in range(blocks))}
    parts = {"query", "key", "value", "out", "up", "down"}
    if set(params) != needed or any(set(params[f"block_{i}"]) != parts for i in range(blocks)):
        raise ForeignZooError(f"{where} has the layers {sorted(params)}; some are missing.")
    _, patch, _, channels, width = params["embed"]["kernel"].shape
    _, _, heads, _ = params["block_0"]["query"]["kernel"].shape
    side = math.isqrt(params["positions"].shape[1])
    settings = {
        "image_size": side * patch,
        "channels": channels,
        "patch": patch,
        "width": width,
        "heads": heads,
        "blocks": blocks,
        "forward": params["block_0"]["up"]["kernel"].shape[-1] // width,
        "outputs": params["dense_1"]["kernel"].shape[-1],
    }
    return Function("plain_transformer", settings)
