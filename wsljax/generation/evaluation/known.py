"""`Known`: what is compared of networks, measured once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .quotient import Settled


class Known(NamedTuple):
    """Networks with all that is compared: everything has one row for each finite network.

    Attributes:
        rows: weights `(models, size)`.
        settled: for the quotient.
        outputs: `(models, n, ...)`, or None.
        classes: `(models, n)`, where it is classification, else None.
        scores: `{name: (models,)}`.
        runs: of each.
    """

    rows: np.ndarray
    settled: Settled
    outputs: np.ndarray | None
    classes: np.ndarray | None
    scores: dict[str, np.ndarray]
    runs: np.ndarray

    def take(self, index: np.ndarray) -> Known:
        of = lambda x: None if x is None else x[index]  # noqa: E731
        scores = {n: x[index] for n, x in self.scores.items()}
        return Known(
            self.rows[index], self.settled.take(index), of(self.outputs), of(self.classes), scores,
            self.runs[index],
        )  # fmt: skip
