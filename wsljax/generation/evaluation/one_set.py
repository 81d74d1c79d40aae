"""All distances at once for networks with one set of units to exchange (one hidden layer).

What exchanging unit `u` of one network for unit `v` of another is worth is an inner product of their weights,
so all of them, for all pairs of networks, are one product of matrices. One assignment for each pair is then the
exact distance; signs are decided with it. Without the assignment, each unit's best partner bounds what any
exchange is worth, so that most pairs need none when only the nearest is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry import Spec
from ...understanding.matching.assignment import assign_on_host
from ...understanding.matching.stacks import matching_problem
from .alignment import flips
from .nearest import Nearest

NUMBERS = 2**22
"""Gains that are held at once, for one network against several."""


class UnitRows(NamedTuple):
    """Networks as rows of weights for each unit.

    Attributes:
        even: `(models, units, a)`: weights that no sign moves.
        odd: `(models, units, b)`: weights that flip with the sign of their unit.
        rest: `(models, c)`: weights that have no unit.
        square: `(models,)`: the sum of squares of all.
    """

    even: np.ndarray
    odd: np.ndarray
    rest: np.ndarray
    square: np.ndarray


def has_one_set(spec: Spec, params: Any) -> bool:
    """Whether the permutations of a spec are those of one set of units, each block touching it once."""
    problem = matching_problem(spec, params)
    if len(problem.units) != 1 or problem.units[0].over:
        return False
    name = problem.units[0].name
    if any(b.axes.count(name) > 1 for b in problem.blocks):
        return False
    signs = flips(spec)
    plain = all(g.units == name and not g.over for g in signs)
    return len(signs) <= 1 and plain and not any(t.part for g in signs for t in g.terms)


def unit_rows(networks: Any, spec: Spec) -> UnitRows:
    """The weights of a stack of networks (numpy arrays), by unit; in float64."""
    problem = matching_problem(spec, jax.tree.map(lambda x: x[0], networks))
    unit = problem.units[0].name
    blocks = {n: np.asarray(x, np.float64) for n, x in blocks_of_all(spec, networks).items()}
    count, size = len(next(iter(blocks.values()))), spec.size_of(unit)
    signed = {t.block for g in flips(spec) for t in g.terms}
    axes = {b.name: b.axes for b in spec.layout}
    parts: dict[str, list[np.ndarray]] = {"even": [], "odd": [], "rest": []}
    for name, x in blocks.items():
        if unit not in axes[name]:
            parts["rest"].append(x.reshape(count, -1))
            continue
        rows = np.moveaxis(x, 1 + axes[name].index(unit), 1).reshape(count, size, -1)
        parts["odd" if name in signed else "even"].append(rows)
    empty = {"even": (count, size, 0), "odd": (count, size, 0), "rest": (count, 0)}
    joined = {n: np.concatenate([np.zeros(empty[n]), *found], -1) for n, found in parts.items()}
    square = sum((x.reshape(count, -1) ** 2).sum(-1) for x in joined.values())
    return UnitRows(joined["even"], joined["odd"], joined["rest"], np.asarray(square))


@partial(jax.jit, static_argnums=0)
def blocks_of_all(spec: Spec, networks: Any) -> dict[str, jax.Array]:
    """The floating blocks of a stack of networks."""
    found = jax.vmap(spec.blocks)(networks)
    return {n: x for n, x in found.items() if jnp.issubdtype(x.dtype, jnp.floating)}


def one_set_matrix(x: UnitRows, y: UnitRows, groups=None) -> np.ndarray:
    """All distances, `(a, b)`, infinite within a group (see `nearest_rows`)."""
    out = np.full((len(x.square), len(y.square)), np.inf)
    for i in range(len(out)):
        allowed = _allowed(groups, i, len(y.square))
        for js in _chunks(x, allowed):
            gains, rest = _gains(x, y, i, js)
            chosen = assign_on_host(gains, maximise=True)
            worth = np.take_along_axis(gains, chosen[..., None], -1)[..., 0].sum(-1) + rest
            out[i, js] = _distance(x, y, i, js, worth)
    return out


def one_set_nearest(x: UnitRows, y: UnitRows, groups=None) -> Nearest:
    """For each network of `x` the nearest of `y`; exact.

    Pairs are looked at in the order of a lower bound of their distance, until it passes the best found.
    """
    best = np.full(len(x.square), np.inf)
    index = np.full(len(x.square), -1)
    for i in range(len(best)):
        for js in _chunks(x, _allowed(groups, i, len(y.square))):
            gains, rest = _gains(x, y, i, js)
            most = np.minimum(gains.max(-1).sum(-1), gains.max(-2).sum(-1)) + rest
            bound = _distance(x, y, i, js, most)
            for k in np.argsort(bound, kind="stable"):
                if bound[k] >= best[i]:
                    break
                chosen = assign_on_host(gains[k], maximise=True)
                worth = gains[k][np.arange(len(chosen)), chosen].sum() + rest[k]
                found = float(_distance(x, y, i, js[k], worth))
                if found < best[i]:
                    best[i], index[i] = found, js[k]
    return Nearest(best, index, np.ones(len(best), bool))


def _allowed(groups, i: int, count: int) -> np.ndarray:
    return np.arange(count) if groups is None else np.flatnonzero(groups[1] != groups[0][i])


def _chunks(x: UnitRows, allowed: np.ndarray):
    size = max(1, NUMBERS // x.even.shape[1] ** 2)
    return [allowed[k : k + size] for k in range(0, len(allowed), size)]


def _gains(x: UnitRows, y: UnitRows, i: int, js: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What it is worth to put each unit of the `js` at each place of `i`, `(js, units, units)`."""
    every = len(js) == len(y.square)
    gains: Any = 0.0
    for a, b, signed in ((x.even, y.even, False), (x.odd, y.odd, True)):
        if a.shape[-1]:
            b = b if every else b[js]
            inner = (b.reshape(-1, b.shape[-1]) @ a[i].T).reshape(len(js), -1, a.shape[1])
            gains = gains + (np.abs(inner) if signed else inner).swapaxes(-1, -2)
    rest = (y.rest if every else y.rest[js]) @ x.rest[i]
    return gains, rest


def _distance(x: UnitRows, y: UnitRows, i: int, js: Any, worth: Any) -> np.ndarray:
    size = x.square[i] + y.square[js]
    square = size - 2 * worth
    return np.sqrt(np.where(square <= 1e-13 * size, 0.0, square))
