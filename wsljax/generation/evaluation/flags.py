"""What a reader of an evaluation must know: claims that the networks do not carry."""

from __future__ import annotations

import numpy as np

from ...zoo.population import Population
from .copying import Copying
from .nearest import Nearest
from .networks import RUN, runs_of

SATURATED = 0.97


def flags_of_populations(training: Population, held_out: Population) -> tuple[str, ...]:
    """About the runs that networks come from."""
    found = []
    if RUN not in training.columns:
        found.append(
            "runs_unknown: the training networks have no column `run`; each is taken for a run of its own"
        )
    elif len(np.unique(runs_of(training))) == 1:
        found.append(
            "single_run: all training networks come from one run, where even a copy with little noise is "
            "far from its neighbours in steps; distances are no evidence of novelty"
        )
    if RUN in training.columns and RUN in held_out.columns:
        shared = np.intersect1d(runs_of(training), runs_of(held_out))
        if len(shared):
            found.append(
                f"shared_runs: {len(shared)} runs are in training and held-out networks; split by run "
                "(`zoo.split`)"
            )
    return tuple(found)


def flags_of_samples(
    finite: np.ndarray, rows: np.ndarray, ratios: np.ndarray, copy: float, usual: float
) -> tuple[str, ...]:
    """About the networks themselves.

    Args:
        finite: which networks are finite, `(samples,)`.
        rows: their weights, `(finite samples, size)`.
        ratios: distance to the nearest training network, in units of `usual`.
        copy: networks nearer than this are copies.
        usual: the unit, of distances of weights.
    """
    found = []
    broken = int((~finite).sum())
    if broken:
        found.append(
            f"not_finite: {broken} of {len(finite)} networks have NaN or infinite weights; they count as "
            "neither new nor good, and have no distances"
        )
    twins = duplicates(rows, copy * usual if np.isfinite(usual) else 0.0)
    if twins:
        found.append(f"duplicates: {twins} of {len(finite)} networks repeat another one")
    copies = int((ratios < copy).sum())
    if copies:
        found.append(f"copies: {copies} of {len(finite)} networks are training networks")
    return tuple(found)


def flags_of_measures(test: Copying, nearest: Nearest, overlap: float | None) -> tuple[str, ...]:
    """About numbers that do not say what they seem to."""
    found = []
    if abs(test.z) >= SATURATED * abs(test.least):
        found.append(
            f"z_u_saturated: Z_U is at its end ({test.least:.1f} for so many networks); read the ratio"
        )
    if overlap is not None and overlap >= SATURATED:
        found.append(
            f"overlap_saturated: held-out networks overlap by {overlap:.3f} in what they get wrong; the "
            "overlap tells nothing here"
        )
    open_ = 1 - nearest.exact.mean() if len(nearest.exact) else 0.0
    if open_ > 0:
        found.append(
            f"candidates: for {open_:.0%} of the networks a nearer one may exist than those that were "
            "matched; `candidates=None` matches all that could be"
        )
    return tuple(found)


def duplicates(rows: np.ndarray, within: float) -> int:
    """How many rows repeat another one: equal, or no further than `within`.

    Example:
        >>> duplicates(np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]]), 0.0)
        2
    """
    from .nearest import nearest_rows

    if len(rows) < 2:
        return 0
    own = np.arange(len(rows))
    return int((nearest_rows(rows, rows, (own, own)).distance <= within).sum())
