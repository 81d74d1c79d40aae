"""An order of the units in which neighbours resemble each other.

Weights put in it are smooth along their units, as a coordinate network wants them (Ashkenazi et al.,
*NeRN*, 2023), and compute what they computed before.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..symmetry.spec import Spec


def smooth_order(
    params: Any, spec: Spec, *, arrays: str = "all", metric: str = "cosine"
) -> dict[str, jax.Array]:
    """An element of the group that puts units beside units that resemble them.

    ``spec.act(g, params)`` computes the same function, and its weights are smooth along the units. Each
    set of units is put in the order of a short path through the vectors of weights that belong to its
    units: nearest neighbours first, then improved by reversing stretches (2-opt). Nested units are
    ordered for each index of their parents.

    Args:
        params: concrete weights.
        spec: their annotation.
        arrays: ``"all"``, resemblance in all arrays that have the units (the paper orders across
            filters), or ``"largest"``, in the largest of them only (within one layer).
        metric: ``"cosine"`` or ``"euclidean"`` distance between units.

    Raises:
        ValueError: an unknown option.

    Example:
        >>> from wsljax import symmetry
        >>> params = {"b": jnp.array([3.0, 1.0, 2.0])}
        >>> spec = symmetry.parse(params, {"b": "h"})
        >>> g = smooth_order(params, spec, metric="euclidean")
        >>> bool(jnp.abs(jnp.diff(spec.act(g, params)["b"])).max() == 1)
        True
    """
    if arrays not in ("all", "largest") or metric not in ("cosine", "euclidean"):
        raise ValueError(
            f"`arrays` must be 'all' or 'largest' and `metric` 'cosine' or 'euclidean'; got {arrays!r} "
            f"and {metric!r}"
        )
    g = {unit.name: spec.identity()[unit.name] for unit in spec.units}
    for depth in sorted(
        {len(unit.over) for unit in spec.units}
    ):  # parents before what nests in them
        blocks = spec.blocks(spec.act(g, params))
        step = {}
        for unit in spec.units:
            if len(unit.over) == depth:
                rows = _rows(unit.name, blocks, spec, arrays)
                flat = rows.reshape(-1, *rows.shape[-2:])
                orders = np.array([_path(_distances(x, metric)) for x in flat])
                step[unit.name] = jnp.asarray(orders.reshape(rows.shape[:-1]))
        g = spec.compose(step, g)
    return g


def _rows(name: str, blocks: dict[str, jax.Array], spec: Spec, arrays: str) -> np.ndarray:
    """``(*sizes of the parents, units, numbers)``: the weights that belong to each unit."""
    found = []
    for block in spec.layout:
        for k, axis in enumerate(block.axes):
            if axis == name:
                above = block.parents[k] if block.parents else ()
                x = np.moveaxis(
                    np.asarray(blocks[block.name], np.float64), (*above, k), range(len(above) + 1)
                )
                found.append(x.reshape(*x.shape[: len(above) + 1], -1))
    return max(found, key=lambda x: x.size) if arrays == "largest" else np.concatenate(found, -1)


def _distances(x: np.ndarray, metric: str) -> np.ndarray:
    if metric == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30)
    square = np.sum(x**2, -1)
    return np.sqrt(np.maximum(square[:, None] + square - 2 * x @ x.T, 0))


def _path(d: np.ndarray, sweeps: int = 20) -> np.ndarray:
    """A short path through all points: the nearest unvisited one each time, then 2-opt."""
    n = len(d)
    ends = np.unravel_index(np.argmax(d), d.shape)
    path, left = [int(ends[0])], set(range(n)) - {int(ends[0])}
    while left:
        rest = sorted(left)
        path.append(rest[int(np.argmin(d[path[-1], rest]))])
        left.remove(path[-1])
    order = np.array(path)
    for _ in range(sweeps):
        better = False
        for i in range(n - 1):  # reverse the stretch i+1..j if its two ends then fit better
            j = np.arange(i + 1, n)
            after = np.minimum(j + 1, n - 1)
            last = j == n - 1
            gain = d[order[i], order[i + 1]] + np.where(last, 0, d[order[j], order[after]])
            gain = gain - d[order[i], order[j]] - np.where(last, 0, d[order[i + 1], order[after]])
            if gain.max(initial=0) > 1e-12:
                stop = int(j[np.argmax(gain)]) + 1
                order[i + 1 : stop] = order[i + 1 : stop][::-1]
                better = True
        if not better:
            break
    return order
