"""What the estimators of meta-gradients have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Estimate(NamedTuple):
    """What an estimator says.

    Attributes:
        gradient: of the mean loss a step; a tree like ``theta``.
        loss: the mean over steps and particles of what was run.
        dropped: the share of particles that were left out because their number was not finite.
    """

    gradient: Any
    loss: jax.Array
    dropped: jax.Array


class Estimator(NamedTuple):
    """Two pure functions; ``theta`` is a tree of floating arrays.

    Attributes:
        init: ``init(theta, key) -> state``, the particles at their first start.
        estimate: ``estimate(theta, state) -> (Estimate, state)``; runs all particles one piece further.
    """

    init: Callable[[Any, jax.Array], Any]
    estimate: Callable[[Any, Any], tuple[Estimate, Any]]
