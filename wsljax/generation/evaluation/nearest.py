"""Nearest networks: by Euclidean distance, and in any matrix of distances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

AT_ONCE = 2**23
"""Numbers in a matrix of distances that is worked on at once."""


class Nearest(NamedTuple):
    """For each network the nearest of some others.

    Attributes:
        distance: `(models,)`; infinite where there is none to compare with.
        index: which one it is; -1 where there is none.
        exact: whether no other that was left out can be nearer.
    """

    distance: np.ndarray
    index: np.ndarray
    exact: np.ndarray


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distances of all rows `(a, size)` to all rows `(b, size)`, in float64.

    Pairs that are so close that squares lose their digits are subtracted.

    Example:
        >>> euclidean(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[5.0, 0.0]]
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    centre = y.mean(axis=0) if len(y) else 0.0
    x, y = x - centre, y - centre
    size = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    square = size - 2 * (x @ y.T)
    for i, j in np.argwhere(square <= 1e-9 * size):
        square[i, j] = ((x[i] - y[j]) ** 2).sum()
    return np.sqrt(np.maximum(square, 0))


def nearest_rows(
    x: np.ndarray,
    y: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> Nearest:
    """For each row of `x` the nearest row of `y`; exact.

    Args:
        x, y: `(a, size)` and `(b, size)`.
        groups: one value for each row of either; rows of one value are not compared (networks of one
            training run, or a network and itself).

    Example:
        >>> x = np.array([[0.0], [1.0], [5.0]])
        >>> nearest_rows(x, x, (np.arange(3), np.arange(3))).distance.tolist()
        [1.0, 1.0, 4.0]
    """
    rows = max(1, AT_ONCE // max(1, len(y)))
    found = [
        nearest_of(
            euclidean(x[i : i + rows], y),
            None if groups is None else (groups[0][i : i + rows], groups[1]),
        )
        for i in range(0, len(x), rows)
    ]
    return Nearest(*(np.concatenate(part) for part in zip(*found, strict=True)))


def nearest_of(
    distances: np.ndarray, groups: tuple[np.ndarray, np.ndarray] | None = None
) -> Nearest:
    """The smallest entry of each row of a matrix `(a, b)`; `groups` as in `nearest_rows`."""
    if groups is not None:
        distances = np.where(groups[0][:, None] == groups[1][None], np.inf, distances)
    index = distances.argmin(axis=1)
    found = distances[np.arange(len(distances)), index]
    return Nearest(found, np.where(np.isfinite(found), index, -1), np.ones(len(found), bool))
