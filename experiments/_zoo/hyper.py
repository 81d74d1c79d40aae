"""Hyperparameters of a zoo, drawn as its config says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from configs.zoo._config import Choice, Grid, LogUniform, Uniform, Where

DRAWS = (Choice, Uniform, LogUniform, Grid, Where)


def draw_hyper(
    hyper: Mapping[str, Any], count: int, *, seed: int, start: int = 0
) -> dict[str, np.ndarray]:
    """Columns for `count` networks.

    Args:
        hyper: name -> a constant, or a draw of `configs.zoo._config`. The grids are gone through
            together, all their combinations in turn; of fewer networks than combinations, each has
            another one, chosen at random.
        count: networks.
        seed: of the draws; each column has a stream of its own, so that one column more does not
            change the others.
        start: the first of the seeds that networks get where `hyper` draws none.

    Returns:
        name -> array `(count,)`, with a column `seed`.

    Raises:
        ValueError: there is no network to draw for, or a `Where` about a column that does not come
            before it.

    Example:
        >>> drawn = draw_hyper({"activation": Grid(("relu", "tanh")), "seed": Grid((1, 2))}, 4, seed=0)
        >>> drawn["activation"].tolist(), drawn["seed"].tolist()
        (['relu', 'relu', 'tanh', 'tanh'], [1, 2, 1, 2])
    """
    if count < 1:
        raise ValueError(f"`models` is {count}; it is 1 or more.")
    columns: dict[str, np.ndarray] = _grids(hyper, count, seed)
    for name, draw in hyper.items():
        if name not in columns:
            columns[name] = _draw(name, draw, columns, count, _stream(seed, name))
    columns.setdefault("seed", np.arange(start, start + count))
    return {name: columns[name] for name in (*hyper, "seed")}


def _grids(hyper: Mapping[str, Any], count: int, seed: int) -> dict[str, np.ndarray]:
    grids = {name: draw.values for name, draw in hyper.items() if isinstance(draw, Grid)}
    if not grids:
        return {}
    total = math.prod(map(len, grids.values()))
    if count < total:
        chosen = np.sort(_stream(seed, "grids").choice(total, count, replace=False))
    else:
        chosen = np.arange(count) % total
    combinations = list(itertools.product(*grids.values()))
    rows = [combinations[index] for index in chosen]
    return {name: np.array(values) for name, values in zip(grids, zip(*rows))}


def _draw(name: str, draw: Any, columns: Mapping[str, np.ndarray], count: int, rng) -> np.ndarray:
    if isinstance(draw, Choice):
        return np.array(draw.values)[rng.integers(0, len(draw.values), count)]
    if isinstance(draw, Uniform):
        return rng.uniform(draw.low, draw.high, count)
    if isinstance(draw, LogUniform):
        return np.exp(rng.uniform(np.log(draw.low), np.log(draw.high), count))
    if isinstance(draw, Where):
        if draw.column not in columns:
            raise ValueError(f"{name!r} is drawn by {draw.column!r}, which is to come before it.")
        cases = {word: _draw(name, d, columns, count, rng) for word, d in draw.cases.items()}
        out = np.array(_draw(name, draw.otherwise, columns, count, rng))
        for word, values in cases.items():
            out = np.where(columns[draw.column] == word, values, out)
        return out
    return np.full(count, draw)


def _stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])
