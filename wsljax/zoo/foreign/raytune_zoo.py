"""Zoos as ray tune leaves them: one folder a trial, one folder a checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.folders import matching, subfolders
from wsljax.zoo.foreign.modelzoo_nets import Net, activation_names, read_net
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.stacking import by_architecture, population_of, stack
from wsljax.zoo.foreign.tables import read_json, read_json_lines, table_of
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population

CHECKPOINT = r"checkpoint_(\d+)"
CONFIGS = ("params.json", "config.json")
_METRIC = r"(train|test|validation|val)_(loss|acc|accuracy)"


class _Checkpoint(NamedTuple):
    file: str
    net: Net
    config: Mapping[str, Any]
    row: dict[str, Any]


def _is_trial(path: Path) -> bool:
    return (path / "result.json").is_file() and any((path / name).is_file() for name in CONFIGS)


def _matches(path: Path) -> bool:
    return path.is_dir() and (_is_trial(path) or any(map(_is_trial, subfolders(path))))


@foreign_format("raytune_zoo", _matches)
def read_raytune_zoo(
    path: str | os.PathLike,
    epochs: str | int | Sequence[int] = "all",
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
) -> Any:
    """ModelZoos as trained: <trial>/{params.json, result.json, checkpoint_<epoch>/checkpoints}.

    Source: Schürholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network
    Models", 2022; phase-transition and ViT zoos have `config.json`. Trials are read in the order of
    their names. A checkpoint's metrics are those of its own epoch (`training_iteration`), whatever
    line they are on; where there is no such line they are NaN.

    The function is that of the small CNNs and MLPs: no padding, pooling before the activation, kernels
    of dense layers turned to channels-last. Other networks (ResNets, ViTs) are kept under torch's
    names, without a function.

    Args:
        path: the folder of trials, or one trial.
        epochs: "all", "last", an epoch or several.
        mean, std: what the zoo's images were standardised with (not in the files): 0.1307 and 0.3081
            for MNIST. By default the function takes images that are standardised already.

    Returns:
        A `Population` with a column for each scalar of the configuration (role "hyper") and of the
        results (metrics), `step` and `run`; or, if there are several architectures, a dictionary of
        populations.

    Raises:
        ForeignZooError: no trials, or files that do not fit; names them.
    """
    path = Path(path)
    trials = [path] if _is_trial(path) else [p for p in subfolders(path) if _is_trial(p)]
    if not trials:
        raise ForeignZooError(f"{path} has no folders with result.json and params.json.")
    found = [item for run, trial in enumerate(trials) for item in _read_trial(trial, run, epochs)]
    if not found:
        raise ForeignZooError(f"{path} has no checkpoints of epochs={epochs!r}.")
    groups = by_architecture(found, lambda item: item.net.key)
    out = {key: _population(items, mean, std) for key, items in groups.items()}
    return next(iter(out.values())) if len(out) == 1 else out


def _read_trial(trial: Path, run: int, epochs: Any) -> list[_Checkpoint]:
    config = read_json(next(trial / name for name in CONFIGS if (trial / name).is_file()))
    if not isinstance(config, dict):
        raise ForeignZooError(f"the configuration of {trial} is no JSON object.")
    results = {
        line.get("training_iteration"): line for line in read_json_lines(trial / "result.json")
    }
    folders = {int(m[1]): p for p, m in matching(subfolders(trial), CHECKPOINT)}
    out = []
    for epoch in _chosen(sorted(folders), epochs):
        file = _state_file(folders[epoch])
        net = read_net(read_torch(file), config, str(file))
        line = results.get(epoch, {})
        row = {n.replace("::", "."): v for n, v in config.items() if _is_scalar(v)}
        row |= {n: v for n, v in line.items() if _is_scalar(v) and not isinstance(v, str)}
        row |= {"step": epoch, "run": run}
        row.pop("model.nlin", None)
        out.append(_Checkpoint(str(file), net, config, row))
    return out


def _chosen(there: list[int], epochs: Any) -> list[int]:
    if epochs == "all":
        return there
    if epochs == "last":
        return there[-1:]
    if isinstance(epochs, str):
        raise ValueError(f"epochs: {epochs!r}; 'all', 'last', a number or several.")
    wanted = {epochs} if isinstance(epochs, int) else set(epochs)
    return [epoch for epoch in there if epoch in wanted]


def _state_file(folder: Path) -> Path:
    for name in ("checkpoints", "checkpoint.pt", "model.pt", "state_dict.pt"):
        if (folder / name).is_file():
            return folder / name
    raise ForeignZooError(f"{folder} has no file 'checkpoints'.")


def _population(items: list[_Checkpoint], mean: Any, std: Any) -> Population:
    params = stack([item.net.params for item in items], [item.file for item in items])
    table = table_of([item.row for item in items])
    configs = [item.config for item in items]
    function, labels = None, {}
    settings = items[0].net.settings
    if settings is not None:
        words = activation_names(configs, items[0].file)
        names = sorted(set(words))
        table["activation"] = np.array([names.index(word) for word in words], np.int32)
        labels["activation"] = names
        settings = settings | {"activation": names if len(names) > 1 else names[0]}
        function = Function("layered", settings | {"mean": mean, "std": std})
    hyper = {name.replace("::", ".") for config in configs for name in config} | {"activation"}
    roles = {name: "hyper" for name in table if name in hyper}
    roles |= {name: "metric" for name in table if re.fullmatch(_METRIC, name)}
    roles |= {"step": "step", "run": "lineage"}
    return population_of(params, table, function=function, roles=roles, labels=labels)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool)) and not (
        isinstance(value, str) and len(value) > 200
    )
