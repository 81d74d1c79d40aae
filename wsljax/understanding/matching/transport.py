"""Optimal transport between two sets of units, of any two sizes: hard and soft plans, as averages.

Each of ``n`` units of one network is given units of another, such that all of these are used alike: the
transport problem with uniform marginals (G. Peyré, M. Cuturi, "Computational Optimal Transport", 2019, section
2.3). Its exact solutions are assignments of copies: a plan with marginals ``1/n`` and ``1/m`` is a mean of
matchings between ``lcm(n, m)`` copies of both. Soft ones come from the Sinkhorn iteration (section 4.2).
"""

from __future__ import annotations

from math import lcm

import numpy as np

from .assignment import assign_on_host

MARGINALS = ("uniform", "free")
COPIES_UP_TO = 8192
"""Exact plans between more copies than this would take minutes."""


def transport_plan(
    gains: np.ndarray, *, temperature: float = 0.0, marginals: str = "uniform", steps: int = 300
) -> np.ndarray:
    """For each row the share of every column in it, so that the total gain is largest.

    Args:
        gains: ``(..., n, m)``.
        temperature: 0 for exact plans, otherwise the weight of the plan's entropy (Sinkhorn), relative
            to the deviation of the gains.
        marginals: ``"uniform"``, every row and every column is used alike; ``"free"``, the larger side goes
            wherever it gains most, as long as all of the smaller one is used (exact plans only).
        steps: Sinkhorn iterations.

    Returns:
        ``(..., n, m)``; rows sum to one. With uniform marginals columns sum to ``n / m``.

    Raises:
        ValueError: for unknown marginals, a negative temperature, free marginals with a temperature, or
            exact plans between sizes whose least common multiple is too large.

    Example:
        >>> transport_plan(np.array([[3.0, 3.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])).tolist()
        [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
        >>> transport_plan(np.array([[3.0], [1.0]])).tolist()
        [[1.0], [1.0]]
    """
    if marginals not in MARGINALS:
        raise ValueError(f"`marginals` must be one of {MARGINALS}, got {marginals!r}")
    if temperature < 0:
        raise ValueError(f"`temperature` must not be negative, got {temperature}")
    if marginals == "free":
        if temperature:
            raise ValueError("plans with free marginals are exact: leave `temperature` at 0")
        return _free_plan(gains)
    return _sinkhorn_plan(gains, temperature, steps) if temperature else _exact_plan(gains)


def _exact_plan(gains: np.ndarray) -> np.ndarray:
    n, m = gains.shape[-2:]
    copies = lcm(n, m)
    if copies > COPIES_UP_TO:
        raise ValueError(
            f"an exact plan between {n} and {m} units is a matching of {copies} copies of both, more than "
            f"{COPIES_UP_TO}: give a `temperature` for a soft one"
        )
    wide = np.repeat(np.repeat(gains, copies // n, -2), copies // m, -1)
    chosen = assign_on_host(wide, maximise=True) // (copies // m)
    shares = np.zeros((*gains.shape[:-2], copies, m), gains.dtype)
    np.put_along_axis(shares, chosen[..., None].astype(np.int64), 1, -1)
    return shares.reshape(*gains.shape[:-1], copies // n, m).mean(-2)


def _free_plan(gains: np.ndarray) -> np.ndarray:
    """Each of the larger side where it gains most, but that all of the smaller side is used."""
    n, m = gains.shape[-2:]
    if n > m:
        flipped = _free_plan(gains.swapaxes(-1, -2)).swapaxes(-1, -2)
        return (flipped > 0).astype(gains.dtype)
    best = gains.argmax(-2)
    # what it costs that column j is kept back for row i
    kept = assign_on_host(gains - gains.max(-2, keepdims=True), maximise=True)
    rows = np.broadcast_to(np.arange(n), kept.shape)
    np.put_along_axis(best, kept.astype(np.int64), rows, -1)
    plan = (best[..., None, :] == np.arange(n)[:, None]).astype(gains.dtype)
    return plan / plan.sum(-1, keepdims=True)


def _sinkhorn_plan(gains: np.ndarray, temperature: float, steps: int) -> np.ndarray:
    n, m = gains.shape[-2:]
    spread = gains.std((-2, -1), keepdims=True)
    x = gains / (temperature * np.where(spread > 0, spread, 1))
    for _ in range(steps):
        x = x - _total(x, -2) + np.log(n / m)
        x = x - _total(x, -1)
    return np.exp(x)


def _total(x: np.ndarray, axis: int) -> np.ndarray:
    """The logarithm of the sum of exponentials."""
    top = x.max(axis, keepdims=True)
    return top + np.log(np.exp(x - top).sum(axis, keepdims=True))
