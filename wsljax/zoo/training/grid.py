"""Populations of several architectures: one compiled training for each, one table for all."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wsljax.train.logs import Log
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population
from wsljax.zoo.training.hyper import complete_hyper
from wsljax.zoo.training.train import total_work, train


def function_grid(architecture: str, **settings: Sequence[Any]) -> list[Function]:
    """A function for each combination of settings, each given as the values it takes.

    Raises:
        ValueError: a setting that the architecture does not know, or a combination that it refuses.

    Example:
        >>> grid = function_grid("mlp", widths=[(4, 8, 2), (4, 8, 8, 2)], activation=["relu", "tanh"])
        >>> len(grid), grid[-1]
        (4, Function(mlp, activation='tanh', widths=(4, 8, 8, 2)))
    """
    names, values = list(settings), list(settings.values())
    return [
        Function(architecture, dict(zip(names, chosen, strict=True)))
        for chosen in itertools.product(*values)
    ]


def train_grid(
    functions: Sequence[Function],
    loss: str,
    data: Any,
    hyper: Mapping[str, Any],
    *,
    key: jax.Array,
    log: Log | None = None,
    folder: str | Path | None = None,
    steps: int | None = None,
    chunk: int | None = None,
    **options: Any,
) -> list[Population]:
    """Train networks of several architectures: row i of `hyper` is a network of `functions[i]`.

    Rows of one function are trained together, functions one after another.

    Args:
        functions: one for each row; any number of them may be equal.
        loss, data, hyper, key, log, folder, steps, chunk, **options: as of `zoo.train`.

    Returns:
        A population for each function that occurs, in the order of its first row; the column `row`
        is the row of `hyper`. A network is the same as if it had been trained by `zoo.train` with
        its own seed.

    Raises:
        ValueError: as `zoo.train`, or not one function for each row.

    Example:
        >>> import jax.numpy as jnp
        >>> grid = function_grid("mlp", widths=[(2, 3, 2), (2, 5, 2)])
        >>> data = jnp.eye(2), jnp.array([0, 1])
        >>> zoos = train_grid([grid[0], grid[1], grid[0]], "cross_entropy", data,
        ...                   {"seed": [0, 1, 2]}, steps=5, key=jax.random.key(0))
        >>> [(len(zoo), zoo.columns["row"].tolist()) for zoo in zoos]
        [(2, [0, 2]), (1, [1])]
    """
    complete = complete_hyper(hyper, steps=steps, words=_words(functions))
    if len(functions) != complete.count:
        raise ValueError(f"{len(functions)} functions for {complete.count} rows of `hyper`.")
    buckets: dict[Function, list[int]] = {}
    for row, function in enumerate(functions):
        buckets.setdefault(function, []).append(row)
    done, populations = 0, []
    for number, (function, rows) in enumerate(buckets.items()):
        mine = {name: column[np.array(rows)] for name, column in complete.columns.items()}

        def report(step, metrics, before=done, number=number):
            if log is not None:
                log(before + step, {**metrics, "architecture": f"{number + 1}/{len(buckets)}"})

        place = None if folder is None else Path(folder) / f"architecture_{number:04d}"
        population = train(
            function, loss, data, mine, key=key, log=report, folder=place, chunk=chunk, **options
        )
        done += total_work(mine, chunk=chunk)
        row = np.array(rows, np.int32)[np.asarray(population.columns["run"])]
        labels = {name: words for name, words in complete.labels.items() if name in mine}
        populations.append(
            population.with_columns({"row": row}, labels=labels, roles={"row": "lineage"})
        )
    return populations


def _words(functions: Sequence[Function]) -> dict[str, tuple[str, ...]]:
    """The names that codes stand for; they must be the same for all functions."""
    words: dict[str, tuple[str, ...]] = {}
    for function in dict.fromkeys(functions):
        for name in function.reads:
            mine = tuple(function.settings[name])
            if words.setdefault(name, mine) != mine:
                raise ValueError(
                    f"the functions choose column {name!r} from {words[name]} and from {mine}; give "
                    "them the same names."
                )
    return words
