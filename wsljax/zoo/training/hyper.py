"""Hyperparameters of a population: columns, checked and completed with defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wsljax.zoo.training.optimisers import OPTIMISERS, Rule, optimiser_rules
from wsljax.zoo.training.schedules import SCHEDULES

#: Columns that `zoo.train` itself reads, and their defaults. Any other column is the user's own.
DEFAULTS = {
    "optimiser": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epsilon": 1e-8,
}


class Hyper(NamedTuple):
    """Checked hyperparameters.

    Attributes:
        columns: name -> array `(models, ...)`; what `init` and `loss` get one row of.
        rules: the optimiser of each network as coefficients, arrays `(models,)`.
        labels: the names behind integer codes, `{"optimiser": ...}` at least.
        count: number of networks.
    """

    columns: dict[str, np.ndarray]
    rules: Rule
    labels: dict[str, tuple[str, ...]]
    count: int


def complete_hyper(
    hyper: Mapping[str, Any],
    *,
    steps: int | None = None,
    words: Mapping[str, Sequence[str]] | None = None,
) -> Hyper:
    """Check the columns of a population to train, and fill in what is not given.

    Args:
        hyper: name -> one value a network. Read by `zoo.train`: `seed` (default 0, 1, ...),
            `steps`, `optimiser` (names, or codes into `zoo.OPTIMISERS`), `learning_rate`,
            `weight_decay`, `epsilon`, and where given `momentum`, `square_decay`, `schedule`
            (names of `zoo.SCHEDULES`) with `warmup` (steps), `clip_norm` (of gradients) and
            `data_fraction` (share of the samples that the network sees). Others may have any shape
            `(models, ...)` and are handed to `init` and `loss`. A column of words becomes codes.
        steps: training length of networks without a `steps` column.
        words: for columns of words, all those that a code may stand for, in order; those that occur,
            sorted, if they are not given.

    Returns:
        A `Hyper`.

    Raises:
        ValueError: no columns, different lengths, an unknown optimiser, schedule or word, NaN where
            numbers are needed, a negative or fractional number of steps, a share outside [0, 1]; the
            column is named.

    Example:
        >>> hyper = complete_hyper({"learning_rate": [0.1, 0.01]}, steps=100)
        >>> hyper.count, hyper.columns["steps"], hyper.columns["seed"]
        (2, array([100, 100], dtype=int32), array([0, 1], dtype=int32))
    """
    columns = {name: np.asarray(column) for name, column in hyper.items()}
    if not columns:
        raise ValueError("`hyper` is empty; give one column at least, e.g. {'seed': range(64)}.")
    count = _common_length(columns)
    for name, value in DEFAULTS.items():
        columns.setdefault(name, np.full(count, value))
    columns.setdefault("seed", np.arange(count))
    if "steps" not in columns:
        if steps is None:
            raise ValueError("give `steps`, either as an option or as a column of `hyper`.")
        columns["steps"] = np.full(count, steps)
    names = _optimiser_names(columns.pop("optimiser"))
    labels: dict[str, tuple[str, ...]] = {"optimiser": tuple(OPTIMISERS)}
    words = {"schedule": SCHEDULES, **(words or {})}
    for name, column in columns.items():
        if column.dtype.kind in "UT" or column.dtype == object:
            labels[name] = tuple(words.get(name) or sorted({str(word) for word in column}))
            column = _codes(name, column, labels[name])
        columns[name] = _numbers(name, column)
    for name in ("seed", "steps", "warmup"):
        if name in columns:
            columns[name] = _counts(name, columns[name])
    for name in ("data_fraction", "label_noise", "dropout"):
        if np.any(columns.get(name, 0.5) < 0) or np.any(columns.get(name, 0.5) > 1):
            raise ValueError(f"hyper column {name!r} holds shares, from 0 to 1.")
    rules = optimiser_rules(
        names, momentum=columns.get("momentum"), square_decay=columns.get("square_decay")
    )
    codes = [list(OPTIMISERS).index(name) for name in names]
    columns["optimiser"] = np.array(codes, np.int32)
    return Hyper(columns, rules, labels, count)


def _common_length(columns: Mapping[str, np.ndarray]) -> int:
    lengths = {}
    for name, column in columns.items():
        if column.ndim == 0:
            raise ValueError(
                f"hyper column {name!r} is a scalar; give one value a network, an array (models,)."
            )
        lengths[name] = len(column)
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the columns of `hyper` have different lengths: {lengths}.")
    count = next(iter(lengths.values()))
    if count == 0:
        raise ValueError("the columns of `hyper` are empty: a population has one network at least.")
    return count


def _optimiser_names(column: np.ndarray) -> Sequence[str]:
    names = list(OPTIMISERS)
    if column.ndim != 1:
        raise ValueError(f"hyper column 'optimiser' has shape {column.shape}; it is one a network.")
    if column.dtype.kind in "iu":
        outside = [int(code) for code in column if not 0 <= code < len(names)]
        if outside:
            raise ValueError(
                f"hyper column 'optimiser' has the code {outside[0]}; codes are 0 to "
                f"{len(names) - 1}, for {names}."
            )
        return [names[code] for code in column]
    return [str(name) for name in column]


def _codes(name: str, column: np.ndarray, known: Sequence[str]) -> np.ndarray:
    unknown = sorted({str(word) for word in column.ravel()} - set(known))
    if unknown:
        raise ValueError(f"hyper column {name!r} has {unknown[0]!r}; known are {', '.join(known)}.")
    code = {word: i for i, word in enumerate(known)}
    return np.array([code[str(word)] for word in column.ravel()], np.int32).reshape(column.shape)


def _numbers(name: str, column: np.ndarray) -> np.ndarray:
    """The column in 32 bits, as jax holds it by default."""
    if column.dtype.kind not in "iufb":
        raise ValueError(f"hyper column {name!r} holds {column.dtype}, neither numbers nor words.")
    if column.dtype.kind == "f":
        if not np.all(np.isfinite(column)):
            bad = int(np.argwhere(~np.isfinite(column))[0][0])
            raise ValueError(f"hyper column {name!r} is not finite for network {bad}.")
        return column.astype(np.float32)
    return column if column.dtype.kind == "b" else column.astype(np.int32)


def _counts(name: str, column: np.ndarray) -> np.ndarray:
    if column.ndim != 1 or np.any(column < 0) or np.any(column != np.floor(column)):
        raise ValueError(f"hyper column {name!r} must hold one integer >= 0 a network.")
    return column.astype(np.int32)
