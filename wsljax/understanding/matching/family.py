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
    place_gains,
    products,
    rows,
    unit_gains,
)
from .flips import choices, sign_at, steps_between
from .open_units import Reduction, anchored_order, reduced
from .problem import Problem
from .turns import best_turn

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
    if name in problem.turned:
        return turned(xp, problem, name, a, b)
    if not problem.nested(name):
        if problem.flips_of(name) or name in problem.still:
            return signed(xp, assign, problem, name, a, b)
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
    moves, value = _best_signs(xp, assign, problem, name, inner, inside_a, inside_b)
    move = assign(value)
    if name in problem.still:
        move = xp.broadcast_to(xp.arange(move.shape[-1], dtype=move.dtype), move.shape)
    out = {name: move}
    pair = value.ndim - 2  # where the two axes of pairs are in what was found inside
    for m, found in moves.items():
        index = move.reshape(*move.shape, *([1] * (found.ndim - pair - 1)))
        chosen = xp.take_along_axis(found, index, axis=pair + 1).squeeze(pair + 1)
        own = m in problem.by_flip and problem.by_flip[m].units == name
        out[m] = chosen if own else _in_order(chosen, problem, m, name)
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


def turned(
    xp, problem: Problem, name: str, a: Arrays, b: Arrays, hold: Any = None
) -> tuple[dict[str, Any], Any]:
    """The best turn of units, everything else held; ``hold`` is a pull towards none."""
    if not problem.places(name):
        return {}, 0.0
    gains = unit_gains(xp, problem, name, a, b)
    if hold is not None:
        gains = gains + hold * xp.eye(gains.shape[-1], dtype=gains.dtype)
    move, value = best_turn(xp, problem.turned[name], gains)
    return {name: move}, value


def signed(
    xp, assign: Assign, problem: Problem, name: str, a: Arrays, b: Arrays, hold: Any = None
) -> tuple[dict[str, Any], Any]:
    """The best exchange of units together with their signs; ``hold`` is a pull towards none."""
    flips, places = problem.flips_of(name), problem.places(name)
    if not places:
        return {}, 0.0
    steps = {f.bias: f for f in flips if f.bias is not None}
    plain = [p for p in places if (p.block.name, p.axis) not in steps]
    groups: dict[tuple[int, ...], Any] = {}
    for p in plain:
        at = (p.block.name, p.axis)
        key = tuple(sign_at(flips, c, at) for c in choices(flips))
        share = place_gains(xp, p, a, b)
        groups[key] = groups[key] + share if key in groups else share
    taken: dict[str, list] = {f.name: [] for f in steps.values()}
    worth = []
    for n, choice in enumerate(choices(flips)):
        total: Any = sum((share if key[n] > 0 else -share for key, share in groups.items()), 0.0)
        for at, f in steps.items():
            place = next(p for p in places if (p.block.name, p.axis) == at)
            x = rows(xp, a[at[0]], place)
            y = rows(xp, b[at[0]], place).swapaxes(-1, -2) * sign_at(flips, choice, at)
            count, share = steps_between(xp, f, x, y, choice[flips.index(f)])
            taken[f.name].append(count)
            total = total + share
        worth.append(total)
    if hold is not None:
        worth[0] = worth[0] + hold * xp.eye(worth[0].shape[-1], dtype=worth[0].dtype)
    worth = xp.stack(xp.broadcast_arrays(*worth))
    which, gains = worth.argmax(0), worth.max(0)
    if name in problem.still:
        one = xp.arange(gains.shape[-1], dtype=xp.int32)
        move = xp.broadcast_to(one, gains.shape[:-1])
    else:
        move = assign(gains)
    chosen = picked(xp, which, move)
    moves = {name: move}
    for k, f in enumerate(flips):
        signs = xp.asarray([c[k] for c in choices(flips)], gains.dtype)[chosen]
        if f.bias is None:
            moves[f.name] = signs
        else:
            index = xp.broadcast_to(which[None], (1, *which.shape))
            count = xp.take_along_axis(
                xp.stack(xp.broadcast_arrays(*taken[f.name])), index, axis=0
            )[0]
            moves[f.name] = picked(xp, count, move).astype(gains.dtype)
    return moves, picked(xp, gains, move).sum(-1)


def _best_signs(xp, assign: Assign, problem: Problem, name: str, inner: Problem, a, b):
    """:func:`match_pairs` under all signs of the outer units; the best for each pair."""
    flips = problem.flips_of(name)
    if not flips:
        return match_pairs(xp, assign, inner, a, b)
    best: Any = None
    for choice in choices(flips):
        signs = {
            p.name: sign_at(flips, choice, (p.block.name, p.axis)) for p in problem.places(name)
        }
        found, value = match_pairs(xp, assign, inner, a, {n: signs[n] * x for n, x in b.items()})
        for f, e in zip(flips, choice, strict=True):
            found[f.name] = xp.full(value.shape, e, value.dtype)
        if best is None:
            best = found, value
        else:
            better = value > best[1]
            best = keep_where(xp, better, found, best[0]), xp.where(better, value, best[1])
    return best


def _match_coupled_pairs(xp, assign: Assign, problem: Problem, a: Arrays, b: Arrays):
    """Coordinate ascent inside each pair, where units inside meet in a block."""
    value = agreement(xp, problem, a, b)
    dtype = next(iter(b.values())).dtype
    moves = identity(xp, problem, value.shape, dtype)
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
            found = keep_where(xp, better, found, identity(xp, problem, dtype=dtype))
            b = exchange(xp, problem, b, found)
            moves = compose(xp, problem, found, moves)
            value = xp.where(better, there, value)
    return moves, value


def first_exchange(
    xp, assign: Assign, problem: Problem, name: str, is_open: frozenset[str], a: Arrays, b: Arrays
) -> dict[str, Any]:
    """The best exchange of units while others are open: of their axes only sums are compared."""
    part, reductions = reduced(problem, name, is_open)
    if not part.places(name):
        return {}
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
    flip = problem.by_flip.get(nested)
    u, m = problem.by_name[name], problem.by_name[flip.units if flip else nested]
    rest = [o for o in m.over if o != name and o not in u.over]
    have = [*u.over, name, *rest]
    last = 2 if nested in problem.turned else 1
    batch = found.ndim - len(have) - last
    order = [batch + have.index(o) for o in m.over]
    return found.transpose([*range(batch), *order, *range(found.ndim - last, found.ndim)])
