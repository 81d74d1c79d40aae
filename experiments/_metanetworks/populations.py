"""The populations that the studies read: built once by `experiments.build_zoo`, then opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.build_zoo import CONFIGS, build, load_config
from wsljax import symmetry, zoo

INPUTS = 16
"""Inputs at which symmetry is looked for."""


def population(
    name: str,
    *,
    size: str,
    folder: str | Path,
    data: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    quiet: bool = False,
    kinds: Sequence[str] | None = None,
) -> zoo.Population:
    """A zoo of `configs/zoo`, in memory; built in `folder` unless it is there.

    Args:
        name: of the config.
        size: of the zoo: "tiny", "small" or "full".
        folder: where zoos are kept.
        data: a folder of image files.
        changes: options of the config that are to be others.
        quiet: no bars and tables.
        kinds: of symmetry, as in `symmetry.infer`, found at a network of the population and at inputs
            that it was measured at. The stored spec, which is the default, was found from shapes: it
            has permutations only.
    """
    config, where = _changed(name, size, folder, changes or {})
    build(config, where, data=data, quiet=quiet)
    stored = zoo.open(where / "networks")
    found = stored.population()
    return found if kinds is None else found.with_spec(_inferred(found, stored.evaluation, kinds))


def _inferred(networks: zoo.Population, measured: Any, kinds: Sequence[str]) -> Any:
    """The symmetry of the first network at some of the inputs that it was measured at."""
    row = networks.row(0)
    inputs = measured.inputs[:: max(1, len(measured.inputs) // INPUTS)][:INPUTS]
    return symmetry.infer(
        lambda params, x: networks.function.apply(params, x, row), networks[0], inputs,
        kinds=tuple(kinds),
    )  # fmt: skip


def place(name: str, size: str, folder: str | Path, changes: Mapping[str, Any]) -> Path:
    """The folder that `population` keeps a zoo in: a word for each option that is another one."""
    return _changed(name, size, folder, changes)[1]


def _changed(name: str, size: str, folder: str | Path, changes: Mapping[str, Any]):
    config, changes = load_config(CONFIGS / f"{name}.py", size), dict(changes)
    if "options" in changes:
        changes["options"] = {**config.options, **changes["options"]}
    words = [name, size, *(f"{k}{v}" for k, v in _words(changes))]
    return dataclasses.replace(config, **changes), Path(folder) / "_".join(words)


def _words(changes: Mapping[str, Any]) -> list[tuple[str, str]]:
    out = []
    for name, value in sorted(changes.items()):
        if isinstance(value, Mapping):
            out += [(k, str(v)) for k, v in sorted(value.items())]
        else:
            out.append((name, str(value)))
    return out
