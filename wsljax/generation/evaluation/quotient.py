"""Distances between networks up to their symmetries, for thousands of pairs.

The distance of two networks is that of their representatives (scales, phases settled, see `representatives`),
the smallest over the permutations and signs of the spec. With one set of units it is exact, by one
assignment (see `one_set`). With several, the minimum is NP-hard: it is the smaller of what weight matching
finds for the pair, and the distance of the two aligned to one reference network; an upper bound.

Orthogonal and general linear maps, where a spec has them, are settled once for each network and not searched
for again in pairs: there, too, the distance is an upper bound.

The nearest of many networks is found without matching all pairs. Candidates are taken in the order of
their distance once aligned to the reference. A lower bound of any matched distance, of sorted weights (sorting
is the best exchange of numbers on a line, and a block cannot be closer than its sorted entries), says which
candidates cannot be nearer than what is found; `Nearest.exact` says where none is left that could. So
`exact` is relative to this distance: the same as matching all pairs.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ...symmetry import Sign, Spec
from .alignment import align, flips
from .nearest import Nearest, euclidean, nearest_rows
from .networks import taken, weight_rows
from .one_set import (
    UnitRows,
    blocks_of_all,
    has_one_set,
    one_set_matrix,
    one_set_nearest,
    unit_rows,
)
from .representatives import representatives

PAIRS = 4096
"""Pairs that are matched at once."""


class Settled:
    """Networks prepared for comparison by a `Quotient`; `len` is their number."""

    def __init__(self, networks: Any, aligned: np.ndarray, bounds: np.ndarray, rows: Any):
        self.networks = networks
        self.aligned = aligned
        self.bounds = bounds
        self.rows: UnitRows | None = rows

    def __len__(self) -> int:
        return len(self.aligned)

    def take(self, index: Any) -> Settled:
        index = np.asarray(index)
        rows = None if self.rows is None else UnitRows(*(x[index] for x in self.rows))
        networks = taken(self.networks, index)
        return Settled(networks, self.aligned[index], self.bounds[index], rows)


class Quotient:
    """Compares networks up to the symmetries of a spec.

    Args:
        reference: one network, to which all are aligned first.
        spec: the group; None compares weights as they are.
        key: decides the order of visits in matching.
        candidates: how many networks are matched with each, at most, when the nearest is asked for and
            there are several sets of units; None: as many as it takes to be exact.

    Example:
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> stack = {"a": jax.random.normal(k1, (5, 3, 4)), "b": jax.random.normal(k2, (5, 4, 2))}
        >>> one = jax.tree.map(lambda x: x[0], stack)
        >>> spec = symmetry.infer(fn, one, jax.random.normal(k3, (8, 3)), kinds=("permutation", "scale"))
        >>> moved = jax.vmap(lambda p: spec.act(spec.sample(jax.random.key(7)), p))(stack)
        >>> quotient = Quotient(one, spec, key=jax.random.key(1))
        >>> found = quotient.nearest(quotient.settle(moved), quotient.settle(stack))
        >>> found.index.tolist(), bool(found.distance.max() < 1e-5)
        ([0, 1, 2, 3, 4], True)
    """

    def __init__(
        self, reference: Any, spec: Spec | None, *, key: jax.Array, candidates: int | None = 32
    ):
        if candidates is not None and candidates < 1:
            raise ValueError(f"`candidates` is {candidates}; it is a number of networks, or None.")
        self.spec, self.key, self.candidates = spec, key, candidates
        self.moves = spec is not None and bool(spec.units or flips(spec))
        self.one_set = spec is not None and self.moves and has_one_set(spec, reference)
        stack = jax.tree.map(lambda x: np.asarray(x)[None], reference)
        self.reference = taken(representatives(stack, spec), 0)

    def settle(self, networks: Any) -> Settled:
        """Prepare a stack of finite networks: done once for each."""
        networks = representatives(networks, self.spec)
        if self.spec is None or not self.moves:
            rows = weight_rows(networks)
            return Settled(networks, rows, rows[:, :0], None)
        if self.one_set:
            rows = unit_rows(networks, self.spec)
            empty = np.zeros((len(rows.square), 0))
            return Settled(networks, empty, empty, rows)
        networks = align(networks, self.reference, self.spec, key=self.key)
        bounds = sorted_weights(networks, self.spec)
        return Settled(networks, weight_rows(networks), bounds, None)

    def matrix(self, x: Settled, y: Settled) -> np.ndarray:
        """All distances, `(len(x), len(y))`: every pair is matched."""
        if not self.moves:
            return euclidean(x.aligned, y.aligned)
        if x.rows is not None and y.rows is not None:
            return one_set_matrix(x.rows, y.rows)
        i, j = np.divmod(np.arange(len(x) * len(y)), len(y))
        if x is y:  # both ways round, weight matching may find different exchanges: take one
            above = i < j
            out = np.zeros((len(x), len(x)))
            out[i[above], j[above]] = self.pairs(x, y, i[above], j[above])
            return out + out.T
        return self.pairs(x, y, i, j).reshape(len(x), len(y))

    def pairs(self, x: Settled, y: Settled, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """The distance of network `i[k]` of `x` to network `j[k]` of `y`, for every `k`."""
        assert self.spec is not None
        found = [np.zeros(0)]
        for start in range(0, len(i), PAIRS):
            a, b = i[start : start + PAIRS], j[start : start + PAIRS]
            to = taken(y.networks, b)
            moved = align(taken(x.networks, a), to, self.spec, key=self.key)
            matched = np.linalg.norm(weight_rows(moved) - weight_rows(to), axis=1)
            aligned = np.linalg.norm(x.aligned[a] - y.aligned[b], axis=1)
            found.append(np.minimum(matched, aligned))
        return np.concatenate(found)

    def nearest(
        self, x: Settled, y: Settled, groups: tuple[np.ndarray, np.ndarray] | None = None
    ) -> Nearest:
        """For each network of `x` the nearest of `y`; `groups` as in `nearest_rows`."""
        if not self.moves:
            return nearest_rows(x.aligned, y.aligned, groups)
        if x.rows is not None and y.rows is not None:
            return one_set_nearest(x.rows, y.rows, groups)
        return self._search(x, y, groups)

    def _search(self, x: Settled, y: Settled, groups) -> Nearest:
        guess, bound = euclidean(x.aligned, y.aligned), euclidean(x.bounds, y.bounds)
        bound = bound * (1 - 1e-6)  # weights are rounded on the way
        if groups is not None:
            same = groups[0][:, None] == groups[1][None]
            guess, bound = np.where(same, np.inf, guess), np.where(same, np.inf, bound)
        rows = np.arange(len(x))
        index = guess.argmin(1)
        best = guess[rows, index]
        index = np.where(np.isfinite(best), index, -1)
        waiting = np.isfinite(guess)
        limit = len(y) if self.candidates is None else min(self.candidates, len(y))
        tried, step = 0, 4
        while tried < limit:
            step = min(2 * step, limit - tried)
            waiting &= bound < best[:, None]
            order = np.argsort(np.where(waiting, guess, np.inf), axis=1, kind="stable")[:, :step]
            i, j = np.repeat(rows, order.shape[1]), order.ravel()
            use = waiting[i, j]
            if not use.any():
                break
            i, j = i[use], j[use]
            found = np.full(guess.shape, np.inf)
            found[i, j] = self.pairs(x, y, i, j)
            waiting[i, j] = False
            nearer = found.min(1) < best
            index = np.where(nearer, found.argmin(1), index)
            best = np.where(nearer, found.min(1), best)
            tried += step
        left = waiting & (bound < best[:, None])
        return Nearest(best, index, np.asarray(~left.any(1)))


def sorted_weights(networks: Any, spec: Spec) -> np.ndarray:
    """Features whose distance is never larger than that of two networks, however their units are exchanged.

    For each block and each index of its fixed axes, the entries along all units, sorted; of blocks that
    signs move, their absolute values. Shape `(models, size)`.
    """
    units = {u.name for u in spec.units}
    signed = {t.block for g in spec.generators if isinstance(g, Sign) for t in g.terms}
    found = []
    blocks = blocks_of_all(spec, networks)
    for b in spec.layout:
        if b.name not in blocks:
            continue
        x = np.asarray(blocks[b.name], np.float64)
        x = np.abs(x) if b.name in signed else x
        fixed = [1 + k for k, axis in enumerate(b.axes) if axis not in units]
        moving = [1 + k for k, axis in enumerate(b.axes) if axis in units]
        size = int(np.prod([x.shape[k] for k in fixed], dtype=int))
        rows = x.transpose([0, *fixed, *moving]).reshape(len(x), size, -1)
        found.append(np.sort(rows, axis=-1).reshape(len(x), -1))
    return np.concatenate(found, axis=1)
