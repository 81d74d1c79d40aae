"""Training, validation and test networks, with all networks of one run on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from wsljax.zoo.population import Population


class Split(NamedTuple):
    """Indices of networks, each part in increasing order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    runs: int | Sequence[int] | np.ndarray | Population,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    *,
    key: jax.Array,
    groups: Sequence[Any] | np.ndarray | None = None,
    stratify: Sequence[Any] | np.ndarray | None = None,
) -> Split:
    """Split a population so that no run is on two sides.

    Networks that come from one training run (its checkpoints, its fine-tuned copies) resemble each
    other; put into two parts they would leak. Whole runs are shuffled and cut.

    Args:
        runs: how many networks, if each is a run of its own; else the run of each network, as
            integers; or a `Population`, whose columns `run` and `parent` say it where it has them.
        fractions: of the runs, for training, validation and test; they sum to 1.
        key: a typed key.
        groups: what else must stay on one side, one value a network: whole architectures are held
            out where it is the architecture of each. Runs and groups that share a network join.
        stratify: what must be in every part in the same proportion, one value a network, such as its
            architecture: the runs of each value are shuffled and cut by themselves.

    Returns:
        A `Split`; each part holds at least one run (of each value of `stratify`).

    Raises:
        ValueError: fractions that are not three, not positive or do not sum to 1, fewer runs than
            parts, a run with two values of `stratify`, or columns of other lengths.

    Example:
        >>> parts = split([0, 0, 1, 1, 2, 2], key=jax.random.key(0))
        >>> [len(part) for part in parts]
        [2, 2, 2]
        >>> sizes = [16, 16, 16, 32, 32, 32]
        >>> [sorted(sizes[i] for i in p) for p in split(6, key=jax.random.key(0), stratify=sizes)]
        [[16, 32], [16, 32], [16, 32]]
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"`fractions` is {tuple(fractions)}; give three positive ones, sum 1.")
    own = _runs(runs)
    if groups is not None:
        own = _join(own, _column(groups, len(own), "groups"))
    if stratify is None:
        return Split(*(np.flatnonzero(np.isin(own, part)) for part in _cut(own, fractions, key)))
    values = _column(stratify, len(own), "stratify")
    names, strata = np.unique(values, return_inverse=True)
    _check_strata(own, strata, names)
    parts: list[list[np.ndarray]] = [[], [], []]
    for number, name in enumerate(names):
        inside = own[strata == number]
        where = f" with `stratify` {name.item()!r}"
        for out, part in zip(
            parts, _cut(inside, fractions, jax.random.fold_in(key, number), where)
        ):
            out.append(part)
    return Split(*(np.flatnonzero(np.isin(own, np.concatenate(part))) for part in parts))


def split_populations(
    populations: Sequence[Population],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    *,
    key: jax.Array,
    hold_out: bool = False,
) -> tuple[Split, ...]:
    """Split several populations, one architecture each, together.

    Args:
        populations: of any architectures; a run is known within its population only.
        fractions: for training, validation and test.
        key: a typed key.
        hold_out: whole populations go to one part (three or more are needed), so that the test
            architectures were never seen; else every architecture is in every part.

    Returns:
        A `Split` of each population; with `hold_out` two of its parts are empty.

    Raises:
        ValueError: as `split`.

    Example:
        >>> small, wide = ({"w": np.zeros((10, n))} for n in (4, 8))
        >>> zoos = [Population(small, {}), Population(wide, {})]
        >>> [[len(part) for part in s] for s in split_populations(zoos, key=jax.random.key(0))]
        [[6, 2, 2], [6, 2, 2]]
    """
    lengths = [len(population) for population in populations]
    number = np.repeat(np.arange(len(populations)), lengths)
    runs, start = [], 0
    for population in populations:
        _, own = np.unique(_runs(population), return_inverse=True)
        runs.append(own + start)
        start += len(population)
    grouped = {"groups": number} if hold_out else {"stratify": number}
    parts = split(np.concatenate(runs), fractions, key=key, **grouped)
    ends = np.cumsum([0, *lengths])
    return tuple(
        Split(*(part[(part >= a) & (part < b)] - a for part in parts))
        for a, b in zip(ends[:-1], ends[1:])
    )


def last_checkpoints(
    runs: Sequence[int] | np.ndarray, steps: Sequence[float] | np.ndarray
) -> np.ndarray:
    """The network of each run with the most steps, in increasing order of the networks.

    Many results are on final networks alone: split all checkpoints, then keep those in both.

    >>> last_checkpoints([0, 0, 1, 1, 1], [10, 20, 10, 30, 20]).tolist()
    [1, 3]
    """
    own = np.asarray(runs)
    order = np.lexsort((_column(steps, len(own), "steps"), own))
    last = np.append(own[order][1:] != own[order][:-1], True)
    return np.sort(order[last])


def _cut(runs: np.ndarray, fractions: Sequence[float], key: jax.Array, where: str = "") -> list:
    """The runs of each part."""
    names = np.unique(runs)
    if len(names) < 3:
        raise ValueError(
            f"{len(names)} runs{where} cannot be split into three parts without overlap."
        )
    order = names[np.asarray(jax.random.permutation(key, len(names)))]
    test = max(1, round(fractions[2] * len(names)))
    validation = max(1, round(fractions[1] * len(names)))
    train = max(1, len(names) - test - validation)
    return np.split(order, [train, train + validation])


def _runs(runs: int | Sequence[int] | np.ndarray | Population) -> np.ndarray:
    """The run of each network, related ones joined."""
    if isinstance(runs, Population):
        columns, count = runs.columns, len(runs)
        own = np.asarray(columns["run"]) if "run" in columns else np.arange(count)
        if "parent" not in columns:
            return own
        parent = np.asarray(columns["parent"])
        if parent.max(initial=-1) >= count:
            raise ValueError(
                f"the column `parent` names row {parent.max()} of a population of {count}; give the "
                "runs themselves."
            )
        family = np.arange(count)
        for _ in range(count):  # every network to its eldest ancestor
            older = np.where(parent[family] >= 0, parent[family], family)
            if (older == family).all():
                return _join(own, family)
            family = older
        raise ValueError("the column `parent` has a network among its own ancestors.")
    return np.arange(runs) if isinstance(runs, int) else np.asarray(runs)


def _join(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels of the classes that two partitions generate together."""
    (_, label), (_, other) = (np.unique(x, return_inverse=True) for x in (first, second))
    while True:
        before = label
        for part in (other, np.unique(first, return_inverse=True)[1]):
            least = np.full(part.max(initial=-1) + 1, len(label))
            np.minimum.at(least, part, label)
            label = least[part]
        if (label == before).all():
            return label


def _column(values: Sequence[Any] | np.ndarray, count: int, what: str) -> np.ndarray:
    column = np.asarray(values)
    if column.shape != (count,):
        raise ValueError(f"`{what}` has shape {column.shape}; there are {count} networks.")
    return column


def _check_strata(runs: np.ndarray, strata: np.ndarray, names: np.ndarray) -> None:
    pairs = np.unique(np.stack([runs, strata]), axis=1)
    found, counts = np.unique(pairs[0], return_counts=True)
    if (counts > 1).any():
        run = found[counts > 1][0]
        both = [names[k].item() for k in pairs[1][pairs[0] == run]]
        raise ValueError(f"run {run} has several values of `stratify`: {both}.")
