"""The best exchange of one set of units, with all that is nested in it, everything else held.

For plain units it is a linear assignment. For units that others are nested over it is one as well: what
a pair of outer units is worth is the value of matching what is inside them, found for all pairs at once,
and the outer assignment is over these values (a wreath product is searched from the inside out).
"""

from __future__ import annotations

from math import prod
from typing import Any

from .exchange import (
    Arrays,
    Assign,
    agreement,
    compose,
    exchange,
    identity,
    products,
    rows,
    unit_gains,
)
from .problem import Problem, Reduction, anchored_order, reduced

PASSES = 2
"""Over the units inside a pair, where they depend on each other."""


def best_exchange(
    xp, assign: Assign, problem: Problem, name: str, a: Arrays, b: Arrays
) -> tuple[dict[str, Any], Any]:
    """The exchange of the units ``name`` and of those nested in them that makes ``<a, b>`` largest.

    Exact where the units, and those inside, meet neither themselves nor each other in a block; else one
    step on the linearised problem.

    Returns:
        The exchange, and its value ``(*batch, *copies)``: the part of ``<a, b>`` that depends on it.
    """
    if not problem.nested(name):
        gains = unit_gains(xp, problem, name, a, b)
        move = assign(gains)
        return {name: move}, picked(xp, gains, move).sum(-1)
    inner = problem.inner(name)
    inside_a, inside_b = {}, {}
    for place in problem.places(name):
        x = rows(xp, a[place.block.name], place, extra=0)
        y = rows(xp, b[place.block.name], place, extra=0)
        rest = len(place.block.axes) - 1 - len(place.parents)
        inside_a[place.name] = xp.expand_dims(x, x.ndim - rest)
        inside_b[place.name] = xp.expand_dims(y, y.ndim - rest - 1)
    moves, value = match_pairs(xp, assign, inner, inside_a, inside_b)
    move = assign(value)
    out = {name: move}
    pair = value.ndim - 2  # where the two axes of pairs are in what was found inside
    for m, found in moves.items():
        index = move.reshape(*move.shape, *([1] * (found.ndim - pair - 1)))
        chosen = xp.take_along_axis(found, index, axis=pair + 1).squeeze(pair + 1)
        out[m] = _in_order(chosen, problem, m, name)
    return out, picked(xp, value, move).sum(-1)


def match_pairs(
    xp, assign: Assign, problem: Problem, a: Arrays, b: Arrays
) -> tuple[dict[str, Any], Any]:
    """Match what is inside each pair of outer units.

    Args:
        a, b: the blocks, with batch ``(..., n, 1)`` and ``(..., 1, n)``.

    Returns:
        The exchange and its value, with batch ``(..., n, n)``.
    """
    if problem.coupled:
        return _match_coupled_pairs(xp, assign, problem, a, b)
    moves: dict[str, Any] = {}
    value: Any = 0.0
    for block in problem.blocks:
        if not set(block.axes) & problem.by_name.keys():
            rank = len(block.axes)
            x, y = a[block.name].squeeze(-1 - rank), b[block.name].squeeze(-2 - rank)
            flat = lambda z, k=rank: z.reshape(*z.shape[: z.ndim - k], -1)  # noqa: E731
            value = value + products(xp, flat(x), flat(y))
    for u in problem.roots:
        found, worth = best_exchange(xp, assign, problem, u.name, a, b)
        moves |= found
        copies = len(problem.copies(u.name))
        value = value + worth.sum(tuple(range(worth.ndim - copies, worth.ndim)))
    return moves, value


def _match_coupled_pairs(xp, assign: Assign, problem: Problem, a: Arrays, b: Arrays):
    """Coordinate ascent inside each pair, where units inside meet in a block."""
    value = agreement(xp, problem, a, b)
    moves = identity(xp, problem, value.shape)
    is_open = {u.name for u in problem.units}
    for turn in range(1 + PASSES):
        for name in anchored_order(problem):
            if turn:
                found, _ = best_exchange(xp, assign, problem, name, a, b)
            else:
                found = first_exchange(xp, assign, problem, name, frozenset(is_open), a, b)
                is_open -= {name, *(m.name for m in problem.nested(name))}
            there = agreement(xp, problem, a, exchange(xp, problem, b, found))
            better = there > value
            found = keep_where(xp, better, found, identity(xp, problem))
            b = exchange(xp, problem, b, found)
            moves = compose(xp, problem, found, moves)
            value = xp.where(better, there, value)
    return moves, value


def first_exchange(
    xp, assign: Assign, problem: Problem, name: str, is_open: frozenset[str], a: Arrays, b: Arrays
) -> dict[str, Any]:
    """The best exchange of units while others are open: of their axes only sums are compared."""
    part, reductions = reduced(problem, name, is_open)
    x, y = ({r.block.name: summed(xp, z[r.source], r) for r in reductions} for z in (a, b))
    return best_exchange(xp, assign, part, name, x, y)[0]


def summed(xp, x: Any, reduction: Reduction) -> Any:
    """A block's sums over what is open, such that products of sums are mean values of products."""
    if not reduction.gone:
        return x
    rank = len(reduction.gone) + len(reduction.block.axes)
    axes = tuple(x.ndim - rank + k for k in reduction.gone)
    count = prod(x.shape[k] for k in axes)
    return x.sum(axes) * xp.asarray(count**-0.5, x.dtype)


def keep_where(xp, better: Any, moves: Arrays, otherwise: Arrays) -> dict[str, Any]:
    """Exchanges where they are wanted, and the others elsewhere; ``better`` is over the batch."""
    out = {}
    for name, move in moves.items():
        wanted = better.reshape(*better.shape, *([1] * (move.ndim - better.ndim)))
        out[name] = xp.where(wanted, move, otherwise[name])
    return out


def picked(xp, gains: Any, move: Any) -> Any:
    """The entries ``gains[..., i, move[..., i]]``."""
    return xp.take_along_axis(gains, move[..., None], axis=-1)[..., 0]


def _in_order(found: Any, problem: Problem, nested: str, name: str) -> Any:
    """Bring ``(*batch, *copies of name, name, *other parents, nested)`` into the order of ``over``."""
    u, m = problem.by_name[name], problem.by_name[nested]
    rest = [o for o in m.over if o != name and o not in u.over]
    have = [*u.over, name, *rest]
    batch = found.ndim - len(have) - 1
    order = [batch + have.index(o) for o in m.over]
    return found.transpose([*range(batch), *order, found.ndim - 1])
