"""What the formats of SIRENs share: one state dict of dense layers a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.zoo.foreign.registry import ForeignZooError
from wsljax.zoo.foreign.stacking import dense_params, layers_of, population_of, stack, widths_of
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population

SPLITS = ("train", "val", "test")
INR_ROLES = {"run": "lineage", "parent": "lineage", "psnr": "metric"}


def siren_params(state: Any, where: str) -> dict[str, dict[str, np.ndarray]]:
    """Dense layers of a state dict, in the order of the numbers in their names."""
    layers = layers_of(state, where)
    numbers = [[int(part) for part in name.split(".") if part.isdigit()] for name, _ in layers]
    if any(len(found) != 1 for found in numbers):
        raise ForeignZooError(
            f"{where}: layers {[name for name, _ in layers]}; one number in each."
        )
    order = sorted(range(len(layers)), key=lambda i: numbers[i])
    return dense_params([layers[i] for i in order], where)


def siren_population(
    networks: Sequence[Any],
    names: Sequence[str],
    rows: Mapping[str, Any],
    *,
    offset: float,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Population:
    """INRs as a population with their function: omega_0 = 30 and an offset of the output."""
    params = stack(networks, names)
    function = Function("siren", {"widths": widths_of(params), "frequency": 30.0, "offset": offset})
    table = {**rows, "run": np.arange(len(networks), dtype=np.int32)}
    return population_of(params, table, function=function, roles=INR_ROLES, labels=labels)


def split_codes(words: Sequence[str], where: str | Path) -> np.ndarray:
    """Parts of a data set as codes of `SPLITS`.

    Raises:
        ForeignZooError: a part of another name.
    """
    unknown = sorted(set(words) - set(SPLITS))
    if unknown:
        raise ForeignZooError(f"{where} has parts {unknown}; they are {', '.join(SPLITS)}.")
    return np.array([SPLITS.index(word) for word in words], np.int32)


def chosen(given: str | None) -> tuple[str, ...]:
    """The parts to read: one, or all.

    Raises:
        ValueError: an unknown part.
    """
    if given is not None and given not in SPLITS:
        raise ValueError(f"split: {given!r}; one of {', '.join(SPLITS)}, or None for all.")
    return SPLITS if given is None else (given,)
