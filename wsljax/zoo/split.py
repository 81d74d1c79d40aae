"""Training, validation and test networks, with all networks of one run on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np


class Split(NamedTuple):
    """Indices of networks, each part in increasing order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    runs: int | Sequence[int],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    *,
    key: jax.Array,
) -> Split:
    """Split a population so that no run is on two sides.

    Networks that come from one training run (its checkpoints, its fine-tuned copies) resemble each
    other; put into two parts they would leak. Whole runs are shuffled and cut.

    Args:
        runs: how many networks, if each is a run of its own; else the run of each network, as
            integers.
        fractions: of the runs, for training, validation and test; they sum to 1.
        key: a typed key.

    Returns:
        A `Split`; each part holds at least one run.

    Raises:
        ValueError: fractions that are not three, not positive or do not sum to 1, or fewer runs
            than parts.

    Example:
        >>> parts = split([0, 0, 1, 1, 2, 2], key=jax.random.key(0))
        >>> [len(part) for part in parts]
        [2, 2, 2]
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"`fractions` is {tuple(fractions)}; give three positive ones, sum 1.")
    runs = np.arange(runs) if isinstance(runs, int) else np.asarray(runs)
    names = np.unique(runs)
    if len(names) < 3:
        raise ValueError(f"{len(names)} runs cannot be split into three parts without overlap.")
    order = names[np.asarray(jax.random.permutation(key, len(names)))]
    test = max(1, round(fractions[2] * len(names)))
    validation = max(1, round(fractions[1] * len(names)))
    train = max(1, len(names) - test - validation)
    cuts = np.split(order, [train, train + validation])
    return Split(*(np.flatnonzero(np.isin(runs, part)) for part in cuts))
