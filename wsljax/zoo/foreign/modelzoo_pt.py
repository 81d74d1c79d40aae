"""ModelZoos preprocessed: a torch file with pickled data sets of checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.interop.torch_file import read_torch
from wsljax.zoo.foreign.modelzoo_nets import activation_names, read_net
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import SPLITS, chosen
from wsljax.zoo.foreign.stacking import population_of, stack
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population

PARTS = {"train": "trainset", "val": "valset", "test": "testset"}


def _matches(path: Path) -> bool:
    return path.is_file() and path.name.startswith("dataset") and path.suffix == ".pt"


@foreign_format("modelzoo_pt", _matches)
def read_modelzoo_pt(
    path: str | os.PathLike,
    plain: bool = False,
    trusted: bool = False,
    split: str | None = None,
    activation: str | None = None,
) -> Population:
    """ModelZoos preprocessed: dataset_*.pt with trainset, valset, testset; a pickle, to be opted in.

    Source: Schürholt et al. 2022. The file holds objects of a class of theirs. `plain=True` reads
    their attributes without importing the class or running anything; `trusted=True` lets pickle
    import the class, which must be installed.

    Args:
        path: the file.
        plain: read the pickle as plain data.
        trusted: run the pickle. Only for files that you made yourself.
        split: read only "train", "val" or "test".
        activation: of the networks ("tanh", "gelu", …), if the properties do not have "model::nlin";
            without it there is no function.

    Returns:
        Networks with the columns of their `properties`, `step` (epoch), `run` (by path) and `split`.
        Data sets in mode "vector" give `{"weights": (models, size)}` without a function.

    Raises:
        ForeignZooError: not opted in, or no such data sets in the file.
    """
    path, wanted = Path(path), chosen(split)
    if not plain and not trusted:
        raise ForeignZooError(
            f"{path} is a pickle of objects. `plain=True` reads their attributes and runs nothing; "
            "`trusted=True` lets pickle run it, only for files that you made yourself."
        )
    data = read_torch(path, inert=True, trusted=trusted)
    parts = [
        part for part in wanted if isinstance(data, Mapping) and data.get(PARTS[part]) is not None
    ]
    if not parts:
        raise ForeignZooError(f"{path} has none of {', '.join(PARTS[part] for part in wanted)}.")
    networks, names, configs = [], [], []
    table: dict[str, Any] = {}
    settings = None
    sets = [(part, _attributes(data[PARTS[part]], path)) for part in parts]
    for part, attributes in sets:
        states = attributes.get("data_in")
        if not isinstance(states, (list, np.ndarray)):
            raise ForeignZooError(f"{path}: {PARTS[part]} has no list `data_in`.")
        rows = len(states)
        columns: dict[str, Any] = {"split": [SPLITS.index(part)] * rows}
        properties = attributes.get("properties") or {}
        columns |= {str(name): list(values) for name, values in properties.items()}
        columns["step"] = list(attributes.get("epochs") or [-1] * rows)
        columns["run"] = [str(value) for value in attributes.get("paths") or range(rows)]
        wrong = [name for name, values in columns.items() if len(values) != rows]
        if wrong:
            raise ForeignZooError(f"{path}: {PARTS[part]} has {wrong[0]!r} not of length {rows}.")
        for name, values in columns.items():
            table.setdefault(name, []).extend(values)
        for i, state in enumerate(states):
            where = f"{path}: {PARTS[part]}[{i}]"
            names.append(where)
            if isinstance(state, np.ndarray):
                networks.append({"weights": state})
                continue
            config = {"model::nlin": properties.get("model::nlin", [activation] * rows)[i]}
            net = read_net(state, config, where)
            networks.append(net.params)
            settings = net.settings
            configs.append(config)
    runs = {run: i for i, run in enumerate(dict.fromkeys(table["run"]))}
    table["run"] = np.array([runs[run] for run in table["run"]], np.int32)
    table["split"] = np.array(table["split"], np.int32)
    table.pop("model::nlin", None)
    labels: dict[str, Any] = {"split": SPLITS}
    function = None
    if settings is not None and all(config["model::nlin"] is not None for config in configs):
        words = activation_names(configs, str(path))
        labels["activation"] = sorted(set(words))
        table["activation"] = np.array([labels["activation"].index(w) for w in words], np.int32)
        kinds = labels["activation"]
        settings = settings | {"activation": kinds if len(kinds) > 1 else kinds[0]}
        function = Function("layered", settings)
    metrics = {name: "metric" for name in table if name.endswith(("_acc", "_loss", "ggap"))}
    roles = metrics | {"step": "step", "run": "lineage", "activation": "hyper"}
    return population_of(
        stack(networks, names), table, function=function, roles=roles, labels=labels
    )


def _attributes(value: Any, path: Path) -> Mapping[str, Any]:
    found = value if isinstance(value, Mapping) else getattr(value, "__dict__", None)
    if found is None:
        raise ForeignZooError(f"{path} holds a {type(value).__name__} instead of a data set.")
    return found
