"""How new networks are: their distance to the nearest training network, in units of that of training networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .nearest import Nearest

COPY = 1e-3
"""A network nearer than this share of the usual distance is a copy."""


class Novelty(NamedTuple):
    """Distances to the nearest training network.

    Attributes:
        nearest: of the samples.
        usual: the median distance of a training network to the nearest one of another run: the unit.
        held_out: the distances of held-out networks.
    """

    nearest: Nearest
    usual: float
    held_out: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """Of each sample, `(samples,)`: 0 for a copy, about 1 for a held-out network."""
        return (
            self.nearest.distance / self.usual
            if self.usual > 0
            else np.full(len(self.nearest.distance), np.nan)
        )

    @property
    def held_out_ratio(self) -> float:
        """The median of held-out networks."""
        return float(np.median(self.held_out) / self.usual) if self.usual > 0 else float("nan")


def usual_distance(among: Nearest) -> float:
    """The median distance of training networks to each other's nearest, of those that have one."""
    found = among.distance[np.isfinite(among.distance)]
    return float(np.median(found)) if found.size else float("nan")


def new_and_good(ratios: np.ndarray, quality: np.ndarray, ratio: float, bar: float) -> np.ndarray:
    """N&P: which networks are at least so new, and at least so good.

    Args:
        ratios: distance to the nearest training network over the usual distance, `(models,)`; NaN for
            networks that have none, which are not new.
        quality: larger is better, `(models,)`.
        ratio: least ratio.
        bar: least quality, a quantile of that of training networks.

    Returns:
        `(models,)` of 0 and 1; the mean is the share.

    Example:
        >>> new_and_good(np.array([0.0, 1.2, 1.2]), np.array([0.9, 0.9, 0.1]), 1.0, 0.8).tolist()
        [0.0, 1.0, 0.0]
    """
    with np.errstate(invalid="ignore"):
        return ((ratios >= ratio) & (quality >= bar)).astype(np.float64)
