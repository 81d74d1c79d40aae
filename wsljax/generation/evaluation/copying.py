"""The copying test of three samples: are generated networks nearer to training networks than held-out ones?"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np


class Copying(NamedTuple):
    """Attributes:
    z: far below zero: samples are nearer to training networks than held-out ones are.
    further: the share of pairs in which the sample is the one further away; 1/2 for held-out networks.
    least: the value of `z` if every sample were nearer than every held-out network.
    """

    z: float
    further: float
    least: float


def copying_test(generated: np.ndarray, held_out: np.ndarray) -> Copying:
    """The Mann-Whitney statistic of distances to the nearest training network.

    With `m` generated and `n` held-out networks,

        ``U = sum_ij [d(g_i) > d(h_j)] + 1/2 [d(g_i) = d(h_j)]``,
        ``Z_U = (U - m n / 2) / sqrt(m n (m + n + 1) / 12)``,

    standard normal if both come from one distribution. Ties take half, as mean ranks do; the variance is that
    without ties.

    It saturates: `z` grows with the number of networks and knows only the order of distances. Samples that
    are slightly too near, all of them, have the same value (`least`) as copies. Read it beside the
    ratio of distances.

    Args:
        generated: distances of generated networks to their nearest training network, `(m,)`.
        held_out: those of held-out networks, `(n,)`.

    Raises:
        ValueError: one of the two is empty.

    Reference:
        C. Meehan, K. Chaudhuri, S. Dasgupta, "A non-parametric test to detect data-copying in generative
        models", AISTATS 2020, section 3 (one cell); B. Zeng et al., "Generative modeling of weights:
        generalization or memorization?", 2025, for weights.

    Example:
        >>> far = np.arange(1.0, 11.0)
        >>> copying_test(far, far)
        Copying(z=0.0, further=0.5, least=-3.779...)
        >>> copying_test(0 * far, far).z == copying_test(0 * far, far).least
        True
    """
    g, h = (np.asarray(x, np.float64) for x in (generated, held_out))
    if not g.size or not h.size:
        raise ValueError("the copying test needs generated and held-out networks; there are none.")
    m, n = g.size, h.size
    h = np.sort(h)
    below, up_to = (np.searchsorted(h, g, side=side).sum() for side in ("left", "right"))
    u = (below + up_to) / 2
    spread = sqrt(m * n * (m + n + 1) / 12)
    return Copying(
        float((u - m * n / 2) / spread), float(u / (m * n)), float(-(m * n / 2) / spread)
    )
