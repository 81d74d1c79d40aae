"""Coordinate ascent on the host, in numpy, many pairs of models side by side.

One set of units after the other is given its best exchange, the others held, until no set can gain. A set
is visited again only if a neighbour moved, and what its gains are made of is kept: only the shares of
blocks that changed are computed anew, and, where few of a neighbour's units moved, only what those add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .assignment import assign_from_prices, assign_on_host
from .exchange import (
    Arrays,
    agreement,
    compose,
    exchange,
    identity,
    place_gains,
    rows,
    take_each,
)
from .family import best_exchange, first_exchange, keep_where, picked, summed
from .open_units import anchored_order, reduced
from .problem import Place, Problem

FEW = 0.25
"""A neighbour of which a smaller share moved changes gains by what moved alone."""
MANY = 128
"""So many units are worth keeping prices for."""
NEARER = (0.0, 0.3, 1.0, 3.0)
"""How much an exchange is held back, in turn, where the linearised problem promises too much."""


class Found(NamedTuple):
    """Attributes:
    element: ``{units: (pairs, *copies, size)}``.
    value: ``<a, act(element, b)>`` for each pair, float64.
    history: the value after the start and after every sweep, ``(steps, pairs)``.
    moved: the blocks of ``b`` as the element leaves them.
    """

    element: dict[str, np.ndarray]
    value: np.ndarray
    history: np.ndarray
    moved: dict[str, np.ndarray]


def assign(gains: np.ndarray) -> np.ndarray:
    """The columns of largest gain; where all rows like another one best, these are they."""
    columns, clear = liked(gains)
    if not clear.all():
        columns[~clear] = assign_on_host(gains[~clear], maximise=True)
    return columns


def liked(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The column that each row likes best, and in which matrices no two like the same."""
    columns = gains.argmax(-1).astype(np.int32)
    return columns, (np.sort(columns, -1) == np.arange(gains.shape[-1])).all(-1)


class Ascent:
    """Two stacks of blocks on the way to each other; ``b`` is what ``element`` has made of the given one."""

    def __init__(self, problem: Problem, a: Arrays, b: Arrays, element: Arrays | None = None):
        self.problem, self.a, self.b = problem, dict(a), dict(b)
        self.pairs = max((x.shape[0] for x in (*a.values(), *b.values())), default=1)
        self.identity = identity(np, problem, (self.pairs,))
        self.element = dict(self.identity)
        if element:
            self.b = exchange(np, problem, self.b, element)
            self.element = compose(np, problem, element, self.element)
        self.kept: dict[str, np.ndarray] = {}
        self.prices: dict[str, np.ndarray] = {}
        self.due = {u.name: np.ones(self.pairs, bool) for u in problem.units}
        dtypes = [x.dtype for x in self.b.values()]
        self.precision = max((float(np.finfo(d).eps) for d in dtypes), default=1e-16)

    # ------------------------------------------------------------------ the start
    def start(self, names: Iterable[str]) -> None:
        """Match these roots, and what is nested in them, from what is known without each other."""
        problem, names = self.problem, list(names)
        is_open = {m for n in names for m in (n, *(u.name for u in problem.nested(n)))}
        for name in names:
            if problem.linear(name) and not problem.nested(name):
                unknown = frozenset(is_open)
                moves = {name: self._assign(name, unknown)(self._gains(name, unknown))}
            else:
                moves = first_exchange(
                    np, assign, problem, name, frozenset(is_open), self.a, self.b
                )
            self.apply(moves)
            is_open -= {name, *(m.name for m in problem.nested(name))}

    # ------------------------------------------------------------------ sweeps
    def sweep(self, order: Iterable[str]) -> bool:
        """Visit all units that are due; whether any moved."""
        moved = False
        for name in order:
            if self.due[name].any():
                moved |= self.visit(name)
        return moved

    def visit(self, name: str) -> bool:
        """Give units their best exchange, in the pairs where they are due; whether any moved."""
        problem, active = self.problem, self.due[name]
        self.due[name] = np.zeros_like(active)
        if not problem.linear(name):
            return self._visit_by_value(name)
        if problem.nested(name):
            moves, value = best_exchange(np, assign, problem, name, self.a, self.b)
            value = value.reshape(self.pairs, -1).sum(-1, dtype=np.float64)
            shares = [self._value(p) for p in problem.places(name)]
            now, size = sum(shares), sum(np.abs(s) for s in shares)
        else:
            gains = self._gains(name)
            moves = {name: self._assign(name)(gains, active)}
            flat = lambda z: z.reshape(self.pairs, -1).astype(np.float64)  # noqa: E731
            own = flat(np.diagonal(gains, axis1=-2, axis2=-1))
            value = flat(picked(np, gains, moves[name])).sum(-1)
            now, size = own.sum(-1), np.abs(own).sum(-1)
        better = active & (value > now + 4 * self.precision * size)
        if not better.any():
            return False
        self.apply(keep_where(np, better, moves, self.identity))
        return True

    def settled(self) -> bool:
        """Whether every unit, in every pair, is nearer to the one in its place than any other unit is."""
        for u in self.problem.units:
            if self.problem.nested(u.name) or not self.problem.linear(u.name):
                return False
            norms = self._norms(u.name, frozenset())
            nearest = (self._gains(u.name) - norms[..., None, :] / 2).argmax(-1)
            if np.any(nearest != np.arange(u.size)):
                return False
        return True

    def _visit_by_value(self, name: str) -> bool:
        """An exchange of units that meet themselves: steps held back until one is a gain."""
        problem, a, b = self.problem, self.a, self.b
        blocks = {p.block.name: p.block for p in problem.places(name)}
        part = Problem(tuple(blocks.values()), problem.units)
        now = agreement(np, part, a, b)
        size = sum(np.abs(self._value(p)) for p in problem.places(name))
        spread, moved = None, False
        for hold in NEARER:
            if problem.nested(name):
                if hold:
                    break
                moves, _ = best_exchange(np, assign, problem, name, a, b)
            else:
                gains = self._gains(name)
                if spread is None:
                    spread = gains.std((-2, -1), keepdims=True) * np.sqrt(gains.shape[-1])
                moves = {name: assign(gains + hold * spread * np.eye(gains.shape[-1]))}
            there = agreement(np, part, a, exchange(np, part, b, moves))
            better = there > now + 4 * self.precision * size
            if better.any():
                self.apply(keep_where(np, better, moves, self.identity))
                moved = True
                if better.all():
                    break
                now = np.where(better, np.inf, now)  # these pairs have had their step
                b = self.b
        return moved

    def apply(self, moves: Arrays) -> None:
        """Exchange units of ``b``, and bring what is kept up to date."""
        before = self.b
        self.b = exchange(np, self.problem, before, moves)
        self.element = compose(np, self.problem, moves, self.element)
        moved = set()
        for name, m in moves.items():
            where = (m != self.identity[name]).reshape(self.pairs, -1).any(-1)
            if not where.any():
                continue
            moved.add(name)
            for near in self.problem.neighbours[name]:
                self.due[near] = self.due[near] | where
            if name in self.prices:
                self.prices[name] = np.take_along_axis(self.prices[name], moves[name], -1)
        for u in self.problem.units:
            self._refresh(u.name, moves, moved, before)

    def _assign(
        self, name: str, is_open: frozenset[str] = frozenset()
    ) -> Callable[..., np.ndarray]:
        """A solver for plain units, in the pairs that are active.

        Many units have prices: those at which they were last assigned, or else half their squared norms, for
        which a unit likes best what is nearest to it.
        """
        many = self.problem.by_name[name].size >= MANY

        def solve(gains: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
            columns = self.identity[name].copy()
            which = np.arange(self.pairs) if active is None else np.flatnonzero(active)
            gains = gains if len(which) == self.pairs else gains[which]
            if not many:
                columns[which] = assign(gains)
                return columns
            before = self.prices.get(name)
            start = self._norms(name, is_open) / 2 if before is None else before
            start = np.broadcast_to(start, columns.shape)[which]
            best, clear = liked(gains - start[..., None, :])
            if not clear.all():
                best, start = assign_from_prices(gains, None if before is None else start)
            if before is None:
                before = self.prices[name] = np.zeros(columns.shape, start.dtype)
            before[which] = start
            columns[which] = best
            return columns

        return solve

    # ------------------------------------------------------------------ gains, kept
    def _value(self, place: Place) -> np.ndarray:
        part = Problem((place.block,), ())
        return agreement(np, part, self.a, self.b)

    def _key(self, place: Place) -> str:
        """Shares of blocks that no other units move are kept together."""
        others = [n for n in place.block.axes if n in self.problem.by_name]
        fixed = len(others) == 1
        return f"{place.block.axes[place.axis]}:{'' if fixed else place.name}"

    def _gains(self, name: str, is_open: frozenset[str] = frozenset()) -> np.ndarray:
        """What exchanges of plain units are worth, others being open: of their axes only sums count."""
        groups: dict[str, list[Place]] = {}
        for place in self.problem.places(name):
            groups.setdefault(self._key(place), []).append(place)
        total: Any = 0.0
        for key, places in groups.items():
            if key not in self.kept:
                if is_open & {n for p in places for n in p.block.axes if n != name}:
                    total = total + self._gains_of_sums(name, key, is_open)
                    continue
                self.kept[key] = added(place_gains(np, p, self.a, self.b) for p in places)
            total = total + self.kept[key]
        return total

    def _norms(self, name: str, is_open: frozenset[str]) -> np.ndarray:
        """The squared norm of each plain unit of ``b``, of what gains are made of."""
        total: Any = 0.0
        _, reductions = reduced(self.problem, name, is_open)
        for r in reductions:
            y = summed(np, self.b[r.source], r)
            y = rows(np, y, Place(r.block, r.block.axes.index(name)))
            total = total + np.einsum("...ir,...ir->...i", y, y)
        return total

    def _gains_of_sums(self, name: str, key: str, is_open: frozenset[str]) -> np.ndarray:
        part, reductions = reduced(self.problem, name, is_open)
        total: Any = 0.0
        for place, r in zip(self.problem.places(name), reductions, strict=True):
            if self._key(place) == key:
                x, y = ({r.block.name: summed(np, z[r.source], r)} for z in (self.a, self.b))
                places = [p for p in part.places(name) if p.block.name == r.block.name]
                total = total + place_gains(np, places[0], x, y)
        return total

    def _refresh(self, name: str, moves: Arrays, moved: set[str], before: Arrays) -> None:
        for place in self.problem.places(name):
            key = self._key(place)
            if key not in self.kept or not moved & set(place.block.axes):
                continue
            others = [n for n in place.block.axes if n in moved and n != name]
            own = name in moved
            if place.block.axes.count(name) > 1 or (own and others) or len(others) > 1:
                del self.kept[key]
            elif own:
                # only the columns change places, once for all places that are kept together
                if place == next(p for p in self.problem.places(name) if self._key(p) == key):
                    self.kept[key] = _columns(self.kept[key], moves[name])
            elif not self._add_what_moved(key, place, others[0], moves, before):
                del self.kept[key]

    def _add_what_moved(self, key, place: Place, other: str, moves, before) -> bool:
        axes = place.block.axes
        if self.pairs > 1 or axes.count(other) > 1 or moves[other].ndim > 2:
            return False
        where = np.flatnonzero(moves[other][0] != np.arange(moves[other].shape[-1]))
        if len(where) > FEW * moves[other].shape[-1]:
            return False
        name, k = place.block.name, 1 + axes.index(other)
        cut = lambda z: rows(np, np.take(z, where, axis=k), _cut(place, k - 1, len(where)))  # noqa: E731
        change = cut(self.b[name]) - cut(before[name])
        self.kept[key] += np.matmul(cut(self.a[name]), change.swapaxes(-1, -2))
        return True


def added(parts: Iterable[np.ndarray]) -> Any:
    """The sum of at least one array."""
    return sum(parts)


def _cut(place: Place, axis: int, size: int) -> Place:
    block = place.block
    shape = tuple(size if k == axis else n for k, n in enumerate(block.shape))
    return Place(type(block)(block.name, block.path, block.axes, shape, block.parents), place.axis)


def _columns(gains: np.ndarray, move: np.ndarray) -> np.ndarray:
    if len(gains) == len(move):
        rows_ = gains.shape[-2]
        flat = move.reshape(-1, move.shape[-1])
        return take_each(gains.reshape(len(flat), rows_, -1), flat, 1, 2).reshape(gains.shape)
    return np.take_along_axis(gains, move[..., None, :], axis=-1)


def ascend(
    problem: Problem,
    a: Arrays,
    b: Arrays,
    *,
    seed: np.ndarray,
    restarts: int = 1,
    sweeps: int = 100,
    start: str = "averages",
    element: Arrays | None = None,
) -> Found:
    """Match stacks of blocks, ``(pairs, *block)``; one of the two stacks may be of length one.

    See :func:`.weight_matching` for what the options mean.
    """
    best: Found | None = None
    names = [u.name for u in problem.units]
    for attempt in range(restarts):
        rng = np.random.default_rng([*np.asarray(seed).ravel().tolist(), attempt])
        if best is None:
            state = Ascent(problem, a, b, element)
        else:
            state = Ascent(problem, a, best.moved)
            state.element = dict(best.element)
        if attempt:
            state.start(reopened(problem, attempt))
        elif start == "averages":
            state.start(anchored_order(problem))
        history = [agreement(np, problem, state.a, state.b)]
        for _ in range(sweeps):
            if not state.sweep([names[i] for i in rng.permutation(len(names))]):
                break
            history.append(agreement(np, problem, state.a, state.b))
        found = Found(state.element, history[-1], np.stack(history), state.b)
        best = found if best is None else _better(found, best)
        if attempt + 1 < restarts and state.settled():
            break
    assert best is not None
    return best


def _better(found: Found, best: Found) -> Found:
    """The better one of two, for each pair."""
    better = found.value > best.value
    if better.all() or not better.any():
        return (found if better.any() else best)._replace(history=best.history)
    return Found(
        keep_where(np, better, found.element, best.element),
        np.where(better, found.value, best.value),
        best.history,
        keep_where(np, better, found.moved, best.moved),
    )


def reopened(problem: Problem, attempt: int) -> list[str]:
    """The roots that an attempt matches anew, from the best so far: half of them, drawn by its number."""
    order = anchored_order(problem)
    drawn = np.random.default_rng(attempt).permutation(len(order))[: max(1, len(order) // 2)]
    return [order[i] for i in sorted(drawn)]
