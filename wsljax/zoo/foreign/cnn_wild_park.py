"""The CNN Wild Park (Kofinas et al. 2024): CNNs of many architectures, with residual connections."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import inside, natural
from wsljax.zoo.foreign.modelzoo_nets import ACTIVATION_NAMES
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import SPLITS, chosen, split_codes
from wsljax.zoo.foreign.stacking import by_architecture, jax_kernel, layers_of, population_of, stack
from wsljax.zoo.foreign.tables import read_json, table_of
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population

SPLITS_FILE = "cnn_park_splits.json"
_LISTS = ("channels", "kernel_size", "stride", "padding", "residual", "activation")


class _Checkpoint(NamedTuple):
    file: str
    params: dict[str, Any]
    steps: list[dict[str, Any]]
    row: dict[str, Any]
    key: str


def _matches(path: Path) -> bool:
    if not path.is_dir():
        return False
    if (path / SPLITS_FILE).is_file():
        return True
    depths = ("*", "*/*", "*/*/*")  # a zoo, its folder, the folder above
    return any(True for d in depths for _ in path.glob(f"{d}/checkpoint_*/checkpoint.pt"))


@foreign_format("cnn_wild_park", _matches)
def read_cnn_wild_park(
    path: str | os.PathLike, split: str | None = None, image_size: int = 32
) -> dict[str, Population]:
    """The CNN Wild Park: <zoo>/<run>/checkpoint_<step>/checkpoint.pt and cnn_park_splits.json.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", 2024. The function honours the `residual` list, which a published loader
    leaves out (three quarters of the networks have residuals): the output of the source layer is
    added to the first channels that both have, before the activation; each layer has its own
    activation; then the mean over positions and a dense layer. Inputs are CIFAR-10 images as the
    zoo's data file had them (its normalisation is not in the files).

    Args:
        path: the folder that holds the splits file or the zoo.
        split: read only this part of the splits file: "train", "val" or "test".
        image_size: side of the images.

    Returns:
        One population for each architecture, under a name that spells it out, with columns
        `test_accuracy`, `test_loss`, `step`, `run`, and `split` if there is a splits file.

    Raises:
        ForeignZooError: a checkpoint or configuration that does not fit; names it.
    """
    path, wanted = Path(path), chosen(split)
    listed_in = None
    if (path / SPLITS_FILE).is_file():
        listed_in = _read_splits(path / SPLITS_FILE, path)
    elif split is not None:
        raise ForeignZooError(f"{path} has no {SPLITS_FILE}, so there is no split {split!r}.")
    files = (
        sorted(path.rglob("checkpoint.pt"), key=natural) if listed_in is None else list(listed_in)
    )
    runs: dict[Path, int] = {}
    items = []
    for file in files:
        run = runs.setdefault(file.parent.parent, len(runs))
        extra: dict[str, Any] = {"run": run}
        if listed_in is not None:
            part, score, step = listed_in[file]
            if part not in wanted:
                continue
            extra["split"] = part
        item = _read_checkpoint(file, extra)
        if listed_in is not None and _differ(item.row, score, step):
            raise ForeignZooError(f"{file} is of step {item.row['step']}, not as in {SPLITS_FILE}.")
        items.append(item)
    if not items:
        raise ForeignZooError(f"{path} has no checkpoint.pt.")
    groups = by_architecture(items, lambda item: item.key)
    return {key: _population(group, image_size) for key, group in groups.items()}


def _read_checkpoint(file: Path, extra: Mapping[str, Any]) -> _Checkpoint:
    data = read_torch(file)
    if not isinstance(data, Mapping) or not {"model", "config"} <= set(data):
        raise ForeignZooError(f"{file} has no 'model' and 'config'.")
    config = _config(data["config"], file)
    layers = dict(layers_of(data["model"], str(file)))
    params = {}
    for i in range(len(config["kernel_size"])):
        kernel = config["kernel_size"][i]
        shape = (*config["channels"][i : i + 2][::-1], kernel, kernel)
        params[f"conv_{i}"] = _layer(layers.pop(f"layers.{i}", {}), shape, f"{file}: layers.{i}")
    shape = (config["n_classes"], config["channels"][-1])
    params["dense_0"] = _layer(layers.pop("fc", {}), shape, f"{file}: fc")
    if layers:
        raise ForeignZooError(f"{file} has further layers {sorted(layers)}.")
    last = data.get("last_result") or {}
    row = {
        "test_accuracy": last.get("test/acc"),
        "test_loss": last.get("test/loss"),
        "step": data.get("iteration", -1),
        **extra,
    }
    key = "; ".join(f"{name} {'-'.join(map(str, config[name]))}" for name in _LISTS)
    return _Checkpoint(str(file), params, _steps(config), row, key)


def _layer(layer: Mapping[str, np.ndarray], shape: tuple[int, ...], where: str) -> dict[str, Any]:
    if set(layer) != {"weight", "bias"} or layer["weight"].shape != shape:
        found = {name: array.shape for name, array in layer.items()}
        raise ForeignZooError(f"{where}: {found}; its configuration says a weight of {shape}.")
    if layer["bias"].shape != shape[:1]:
        raise ForeignZooError(f"{where}: a bias of {layer['bias'].shape} for {shape[0]} outputs.")
    return {"kernel": jax_kernel(layer["weight"]), "bias": layer["bias"]}


def _config(config: Any, file: Path) -> dict[str, Any]:
    if not isinstance(config, Mapping) or not {*_LISTS, "n_classes"} <= set(config):
        raise ForeignZooError(f"{file}: its configuration lacks one of {', '.join(_LISTS)}.")
    out = {name: list(config[name]) for name in _LISTS}
    count = len(out["kernel_size"])
    for name in _LISTS:
        words = name == "activation"
        if not all(isinstance(v, str if words else int) for v in out[name]):
            raise ForeignZooError(f"{file}: {name} is {out[name]}.")
        if len(out[name]) != count + (name == "channels"):
            raise ForeignZooError(
                f"{file}: {name} has {len(out[name])} entries for {count} layers."
            )
    unknown = set(out["activation"]) - set(ACTIVATION_NAMES)
    if unknown or any(source >= i for i, source in enumerate(out["residual"])):
        raise ForeignZooError(
            f"{file}: activation {out['activation']}, residual {out['residual']}."
        )
    return out | {"n_classes": config["n_classes"]}


def _steps(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    ends: list[int] = []
    for i, source in enumerate(config["residual"]):
        steps.append(
            {
                "kind": "conv",
                "name": f"conv_{i}",
                "out": config["channels"][i + 1],
                "kernel": config["kernel_size"][i],
                "stride": config["stride"][i],
                "padding": config["padding"][i],
            }
        )
        if source >= 0:
            steps.append({"kind": "add", "step": ends[source]})
        steps.append({"kind": "activation", "of": ACTIVATION_NAMES[config["activation"][i]]})
        ends.append(len(steps) - 1)
    return [
        *steps,
        {"kind": "mean"},
        {"kind": "dense", "name": "dense_0", "out": config["n_classes"]},
    ]


def _population(items: Sequence[_Checkpoint], image_size: int) -> Population:
    params = stack([item.params for item in items], [item.file for item in items])
    table = table_of([item.row for item in items])
    labels = {}
    if "split" in table:
        table["split"] = split_codes(table["split"], SPLITS_FILE)
        labels["split"] = SPLITS
    shape = (image_size, image_size, items[0].params["conv_0"]["kernel"].shape[2])
    function = Function("layered", {"input_shape": shape, "steps": items[0].steps})
    roles = {"test_accuracy": "metric", "test_loss": "metric", "step": "step", "run": "lineage"}
    return population_of(params, table, function=function, roles=roles, labels=labels)


def _differ(row: Mapping[str, Any], score: Any, step: Any) -> bool:
    if row["step"] != step:
        return True
    return row["test_accuracy"] is not None and abs(row["test_accuracy"] - score) > 1e-4


def _read_splits(file: Path, root: Path) -> dict[Path, tuple[str, float, int]]:
    data = read_json(file)
    if not isinstance(data, dict):
        raise ForeignZooError(f"{file} is no splits file.")
    split_codes(list(data), file)
    out: dict[Path, tuple[str, float, int]] = {}
    for part, entries in data.items():
        lists = [entries.get(name, []) for name in ("path", "score", "step")]
        if not all(isinstance(v, list) for v in lists) or len({len(v) for v in lists}) != 1:
            raise ForeignZooError(f"{file}: {part!r} needs lists path, score, step of one length.")
        for name, score, step in zip(*lists):
            checkpoint = inside(root, name, str(file))
            if checkpoint in out:
                raise ForeignZooError(f"{file} lists {name} twice.")
            out[checkpoint] = part, score, step
    return out
