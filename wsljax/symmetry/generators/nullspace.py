"""Null spaces of small matrices, with exponents that can be read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

LARGEST_DENOMINATOR = 12
PIVOT, ZERO, NEAR = 1e-9, 1e-8, 1e-5
LOOSER, GAP = 30, 1e4


def null_vectors(columns: np.ndarray, tolerance: float) -> np.ndarray:
    """A sparse basis of ``{v: columns @ v = 0}``, one vector a row.

    Columns are first brought to length one; those that are zero must have been taken out.

    Args:
        columns: ``(rows, n)`` with more rows than columns.
        tolerance: singular values below it, relative to the largest, are zero.
    """
    norms = np.linalg.norm(columns, axis=0)
    if np.any(norms == 0):
        raise ValueError("a column is zero")
    _, sizes, rows = np.linalg.svd(columns / norms, full_matrices=False)
    zero = sizes <= tolerance * sizes[0]
    below = np.flatnonzero(sizes <= LOOSER * tolerance * sizes[0])
    if len(below) and (below[0] == 0 or sizes[below[0] - 1] > GAP * sizes[below[0]]):
        zero[below] = True  # a wide gap above what is a little too large to be rounding alone
    return reduced(rows[zero] / norms, tolerance)


def reduced(rows: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Reduced row echelon form, without the zero rows; entries near simple fractions are these.

    Args:
        rows: ``(n, m)``.
        tolerance: what of the entries is rounding, where that is more than in float64.
    """
    pivot_at_least, zero, near = (max(x, tolerance) for x in (PIVOT, ZERO, NEAR))
    a = np.array(rows, np.float64)
    done = 0
    for k in range(a.shape[1] if a.size else 0):
        if done == len(a):
            break
        scale = np.max(np.abs(a))
        pivot = done + int(np.argmax(np.abs(a[done:, k])))
        if abs(a[pivot, k]) <= pivot_at_least * scale:
            a[done:, k] = 0
            continue
        a[[done, pivot]] = a[[pivot, done]]
        a[done] /= a[done, k]
        others = np.arange(len(a)) != done
        a[others] -= np.outer(a[others, k], a[done])
        done += 1
    if not done:
        return a[:0]
    return np.vectorize(lambda x: _simple(x, zero, near), otypes=[float])(a[:done])


def _simple(x: float, zero: float, near: float) -> float:
    if abs(x) < zero:
        return 0.0
    simple = float(Fraction(x).limit_denominator(LARGEST_DENOMINATOR))
    return simple if abs(simple - x) < near * abs(x) else float(x)


def rank(rows: np.ndarray, tolerance: float = 1e-8) -> int:
    """Number of independent rows."""
    if not rows.size:
        return 0
    sizes = np.linalg.svd(rows, compute_uv=False)
    return int(np.sum(sizes > tolerance * max(sizes[0], 1e-300)))


def sketch(rows: np.ndarray, k: int) -> np.ndarray:
    """Sums of the rows with random signs, enough of them to have the same null space; few rows stay."""
    most = 4 * rows.shape[1] + 64
    if len(rows) <= 2 * most:
        return rows
    random = np.random.default_rng([k, len(rows), 29])
    order = random.permutation(len(rows))
    signed = rows[order] * random.choice([-1.0, 1.0], len(rows))[:, None]
    return np.add.reduceat(signed, np.linspace(0, len(rows), most, endpoint=False).astype(int))
