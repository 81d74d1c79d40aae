"""Coordinate ascent over permutations, signs and turns on the host, many pairs of networks side by side.

As :mod:`.host`, for problems with turned units and signs: one set of units after the other has its best exchange,
signs or turn, the others held, until none is a gain. The first round goes from what is anchored to what is not:
of blocks on which some signs or turns are still open nothing is known, as their mean is zero.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .assignment import assign_on_host
from .exchange import Arrays, agreement, compose, exchange, identity
from .family import best_exchange, first_exchange, keep_where, signed, turned
from .host import NEARER, reopened
from .open_units import anchored_order
from .problem import Problem


def assign(gains: np.ndarray) -> np.ndarray:
    return assign_on_host(gains, maximise=True)


class GroupAscent:
    """Two stacks of blocks on the way to each other; ``b`` is what ``element`` has made of the given one."""

    def __init__(self, problem: Problem, a: Arrays, b: Arrays, element: Arrays | None = None):
        self.problem, self.a, self.b = problem, dict(a), dict(b)
        self.pairs = max((x.shape[0] for x in (*a.values(), *b.values())), default=1)
        self.precision = max(float(np.finfo(x.dtype).eps) for x in self.b.values())
        dtype = np.result_type(*self.b.values())
        self.identity = identity(np, problem, (self.pairs,), dtype)
        self.element = dict(self.identity)
        self.due = {u.name for u in problem.units}
        if element is not None:
            self.b = exchange(np, problem, self.b, element)
            self.element = dict(element)

    def start(self, names: list[str]) -> None:
        """Match these roots, and what is nested in them, from what is known without each other."""
        problem = self.problem
        is_open = {m for n in names for m in (n, *(u.name for u in problem.nested(n)))}
        for name in names:
            moves = first_exchange(np, assign, problem, name, frozenset(is_open), self.a, self.b)
            self.apply(moves)
            is_open -= {name, *(m.name for m in problem.nested(name))}

    def sweep(self, order: list[str]) -> bool:
        """Visit all units of which a neighbour has moved; whether any moved."""
        moved = False
        for name in order:
            if name in self.due:
                self.due.discard(name)
                moved |= self.visit(name)
        return moved

    def visit(self, name: str) -> bool:
        """Give units their best exchange, signs or turn, in the pairs where it is a gain."""
        problem = self.problem
        blocks = {p.block.name: p.block for p in problem.places(name)}
        part = replace(problem, blocks=tuple(blocks.values()))
        now = self._value(part, self.b)
        size = np.zeros(self.pairs)
        for n in blocks:
            size += np.abs(self.a[n] * self.b[n]).reshape(self.pairs, -1).sum(-1)
        spread = size / problem.by_name[name].size
        moved, b = False, self.b
        for hold in NEARER:
            if hold and (problem.linear(name) or problem.nested(name)):
                break
            moves = self._held(name, b, hold * spread) if hold else self._best(name, b)
            if not moves:
                break
            there = self._value(part, exchange(np, part, b, moves))
            better = there > now + 16 * self.precision * size
            if better.any():
                self.apply(keep_where(np, better, moves, self.identity))
                moved = True
                if better.all():
                    break
                now, b = np.where(better, np.inf, now), self.b
        return moved

    def _value(self, part: Problem, b: Arrays) -> np.ndarray:
        return agreement(np, part, self.a, b) * np.ones(self.pairs)

    def _best(self, name: str, b: Arrays) -> dict[str, Any]:
        return best_exchange(np, assign, self.problem, name, self.a, b)[0]

    def _held(self, name: str, b: Arrays, hold: np.ndarray) -> dict[str, Any]:
        problem = self.problem
        hold = hold.reshape(-1, *([1] * (len(problem.copies(name)) + 2)))
        if name in problem.turned:
            return turned(np, problem, name, self.a, b, hold)[0]
        return signed(np, assign, problem, name, self.a, b, hold)[0]

    def apply(self, moves: Arrays) -> None:
        """Move ``b``; units that meet what moved are due again."""
        self.b = exchange(np, self.problem, self.b, moves)
        self.element = compose(np, self.problem, moves, self.element)
        for name in moves:
            if name in self.problem.by_name:
                self.due |= self.problem.neighbours[name]


def ascend_group(
    problem: Problem,
    a: Arrays,
    b: Arrays,
    *,
    seed: np.ndarray,
    restarts: int,
    sweeps: int,
    start: str,
) -> dict[str, np.ndarray]:
    """Match stacks of blocks, ``(pairs, *block)``; see :func:`.weight_matching` for the options."""
    best, value = None, None
    roots = list(anchored_order(problem))
    rest = [u.name for u in problem.units if u.name not in roots]
    for attempt in range(restarts):
        rng = np.random.default_rng([*np.asarray(seed).ravel().tolist(), attempt])
        state = GroupAscent(problem, a, b, best)
        if attempt:
            state.start(reopened(problem, attempt))
        elif start == "averages":
            state.start(roots)
        # turns first: of some only what they were told by little is known
        first = sorted(roots, key=lambda n: n not in problem.turned)
        order = [*first, *rest]
        for _ in range(sweeps):
            if not state.sweep(order):
                break
            order = [order[i] for i in rng.permutation(len(order))]
        found = agreement(np, problem, state.a, state.b) * np.ones(state.pairs)
        if best is None:
            best, value = state.element, found
        else:
            better = found > value
            best = keep_where(np, better, state.element, best)
            value = np.where(better, found, value)
    assert best is not None
    return best
