"""Whether two sets of networks look alike, from distances alone: 1-NNA, coverage, MMD, energy distance.

`within` is the matrix of distances among samples, `reference` that among reference networks, `across` that
from samples (rows) to reference networks (columns). Distances may be of weights, in the quotient, or of
outputs. None of these numbers sees copying: drawing training networks with replacement does well in
coverage and MMD.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def nearest_neighbour_accuracy(
    within: np.ndarray, reference: np.ndarray, across: np.ndarray
) -> np.ndarray:
    """1-NNA: whether the nearest neighbour of each network, of both sets, is of its own set.

    The mean is 1/2 where the sets cannot be told apart, 1 where they are apart, 0 where samples are copies
    of the reference; it needs sets of one size. Ties count half.

    Returns:
        `(samples + references,)` of 0, 1/2 and 1.

    Reference:
        D. Lopez-Paz, M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017; G. Yang et al.,
        "PointFlow", ICCV 2019, equation 12.

    Example:
        >>> near, far = np.array([[0.0, 1.0], [1.0, 0.0]]), np.full((2, 2), 9.0)
        >>> nearest_neighbour_accuracy(near, near, far).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    own = [_off_diagonal(x).min(axis=1) for x in (within, reference)]
    other = [across.min(axis=1), across.min(axis=0)]
    found = [np.where(a < b, 1.0, np.where(a == b, 0.5, 0.0)) for a, b in zip(own, other)]
    return np.concatenate(found)


def coverage(across: np.ndarray) -> np.ndarray:
    """Which reference networks are the nearest one of some sample, `(references,)` of 0 and 1.

    Reference:
        P. Achlioptas et al., "Learning representations and generative models for 3D point clouds", ICML
        2018, section 3.

    Example:
        >>> coverage(np.array([[0.0, 1.0], [0.0, 1.0]])).tolist()
        [1.0, 0.0]
    """
    return np.isin(np.arange(across.shape[1]), across.argmin(axis=1)).astype(np.float64)


def minimum_matching(across: np.ndarray) -> np.ndarray:
    """The distance of each reference network to the nearest sample; its mean is MMD (Achlioptas 2018)."""
    return across.min(axis=0)


class TwoSample(NamedTuple):
    """Attributes:
    statistic: the energy distance, at least 0 (for distances of negative type, as Euclidean ones).
    p: how likely it is to be so large if both sets came from one distribution.
    """

    statistic: float
    p: float


def energy_test(
    within: np.ndarray,
    reference: np.ndarray,
    across: np.ndarray,
    *,
    seed: int = 0,
    permutations: int = 999,
) -> TwoSample:
    """The two-sample test of energy distance, its level by permutation.

    ``E = 2 mean(across) - mean(within) - mean(reference)``, all pairs counted, also a network and itself.

    Args:
        within, reference, across: see the module.
        seed: of the permutations.
        permutations: how many; the smallest `p` is `1 / (permutations + 1)`.

    Reference:
        G. Szekely, M. Rizzo, "Testing for equal distributions in high dimension", InterStat 5 (2004).

    Example:
        >>> x = np.arange(20.0)
        >>> far = lambda a, b: np.abs(a[:, None] - b[None])
        >>> energy_test(far(x, x), far(x, x), far(x, x)).p
        1.0
        >>> energy_test(far(x, x), far(x, x), far(x, x + 30)).p
        0.001
    """
    m, n = across.shape
    every = np.block([[within, across], [across.T, reference]])
    order = np.random.default_rng(seed).permuted(
        np.tile(np.arange(m + n), (permutations, 1)), axis=1
    )
    first = np.zeros((permutations + 1, m + n))
    first[0, :m] = 1
    np.put_along_axis(first[1:], order[:, :m], 1.0, axis=1)
    second = 1 - first
    to_first, to_second = first @ every, second @ every
    mean = lambda x, y, k: (x * y).sum(1) / k  # noqa: E731
    found = 2 * mean(to_first, second, m * n)
    found -= mean(to_first, first, m * m) + mean(to_second, second, n * n)
    as_large = (found[1:] >= found[0] - 1e-12 * np.abs(every).max()).sum()
    return TwoSample(float(found[0]), float((1 + as_large) / (permutations + 1)))


def _off_diagonal(distances: np.ndarray) -> np.ndarray:
    return np.where(np.eye(len(distances), dtype=bool), np.inf, distances)
