"""Paths between networks: pure functions ``path(points, t) -> weights``, ``t`` from 0 to 1.

``points`` is a tuple of weights: the two ends, and bends between them if the path has some. All paths pass
through the ends; a polygonal chain passes through its bends too, a Bezier curve is drawn towards them. They
are linear in the points, so they differentiate, jit and vmap (T. Garipov et al., "Loss surfaces, mode
connectivity, and fast ensembling of DNNs", NeurIPS 2018, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Path = Callable[[Sequence[Any], Any], Any]


def linear(points: Sequence[Any], t: Any) -> Any:
    """The straight line between two networks; bends are not allowed.

    Example:
        >>> linear(({"w": 0.0}, {"w": 4.0}), 0.25)
        {'w': Array(1., dtype=float32)}
    """
    if len(points) != 2:
        raise ValueError(
            f"a line has 2 ends, got {len(points)} points; use `bezier` or `polygonal`"
        )
    return mix(points, [1 - t, t])


def bezier(points: Sequence[Any], t: Any) -> Any:
    """The Bezier curve whose control points are the ends and the bends; one bend makes it quadratic.

    Example:
        >>> float(bezier((0.0, 2.0, 4.0), 0.5))
        2.0
        >>> float(bezier((0.0, 2.0, 0.0), 0.5))
        1.0
    """
    n = len(points) - 1
    _check(points)
    t = jnp.asarray(t)
    return mix(points, [math.comb(n, k) * t**k * (1 - t) ** (n - k) for k in range(n + 1)])


def polygonal(points: Sequence[Any], t: Any) -> Any:
    """Straight pieces through all points, each passed in the same time.

    Example:
        >>> [float(polygonal((0.0, 3.0, 4.0), t)) for t in (0.25, 0.5, 1.0)]
        [1.5, 3.0, 4.0]
    """
    n = len(points) - 1
    _check(points)
    t = jnp.asarray(t)
    return mix(points, [jnp.maximum(1 - jnp.abs(n * t - k), 0) for k in range(n + 1)])


def mix(points: Sequence[Any], weights: Sequence[Any]) -> Any:
    """The weighted sum of networks; leaves that are not floating are those of the first.

    Example:
        >>> float(mix((1.0, 3.0), (0.5, 0.5)))
        2.0
    """

    def leaf(*xs):
        if not jnp.issubdtype(jnp.result_type(xs[0]), jnp.inexact):
            return xs[0]
        dtype = jnp.result_type(*xs)
        total = sum(jnp.asarray(w, dtype) * x for w, x in zip(weights, xs, strict=True))
        return jnp.asarray(total, dtype)

    return jax.tree.map(leaf, *points)


def straight_bends(first: Any, second: Any, count: int) -> tuple[Any, ...]:
    """Bends at equal distances on the line between two networks: where training of a path starts.

    Example:
        >>> [float(b) for b in straight_bends(0.0, 4.0, 3)]
        [1.0, 2.0, 3.0]
    """
    if count < 1:
        raise ValueError(f"`count` is {count}; a path that is trained has at least one bend")
    return tuple(linear((first, second), k / (count + 1)) for k in range(1, count + 1))


def _check(points: Sequence[Any]) -> None:
    if len(points) < 2:
        raise ValueError(f"a path has two ends; got {len(points)} points")
