"""Gains of exchanging units, and exchanges: the arithmetic of matching, for numpy and jax alike.

Arrays have the axes of their block last; before these there may be any batch axes, which broadcast. An
exchange ``{units: (*batch, *copies, size)}`` is relative to where the units of ``b`` are now, so the identity
is to leave them there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np

from wsljax.symmetry import Block

from .flips import flip_block, laid_along, signs_of
from .problem import Place, Problem
from .turns import turn_block

Arrays = Mapping[str, Any]
Assign = Callable[[Any], Any]


SLICES = 32
"""In so many slices, each of as many numbers a unit or more, a block is better multiplied than transposed."""


def rows(xp, x: Any, place: Place, extra: int = 1) -> Any:
    """A block as ``(*batch, *copies, size, entries)``; with ``extra=0`` entries keep their axes."""
    batch = x.ndim - len(place.block.axes)
    front = [*place.parents, place.axis]
    rest = [k for k in range(len(place.block.axes)) if k not in front]
    lead = x.shape[:batch]
    if extra and front == [len(place.block.axes) - 1]:  # no copy: a matrix and its transpose
        return x.reshape(*lead, prod(place.block.shape[:-1]), -1).swapaxes(-1, -2)
    order = [*range(batch), *(batch + k for k in front), *(batch + k for k in rest)]
    x = x.transpose(order)
    if not extra:
        return x
    head = x.shape[: batch + len(front)]
    return x.reshape(*head, prod(place.block.shape[k] for k in rest))


def products(xp, x: Any, y: Any) -> Any:
    """``(*batch, i, r), (*batch, j, r) -> (*batch, i, j)``; batch axes broadcast and are never copied."""
    if xp is np:
        return np.matmul(x, y.swapaxes(-1, -2))
    letters = "abcdefghklmnopqstuvwxyz"
    both = [(a, b) for a, b in zip(x.shape[:-2], y.shape[:-2], strict=True)]
    left = "".join(c for c, (a, b) in zip(letters, both) if a > 1 or b == 1)
    right = "".join(c for c, (a, b) in zip(letters, both) if b > 1 or a == 1)

    def keep(z, used):
        lead = [n for c, n in zip(letters, z.shape[:-2]) if c in used]
        return z.reshape(*lead, *z.shape[-2:])

    out = letters[: len(both)]
    return jnp.einsum(
        f"{left}ir,{right}jr->{out}ij",
        keep(x, left),
        keep(y, right),
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
    )


def unit_gains(xp, problem: Problem, name: str, a: Arrays, b: Arrays) -> Any:
    """``(*batch, *copies, size, size)``: what unit ``j`` of ``b`` in the place of unit ``i`` is worth."""
    return sum(place_gains(xp, p, a, b) for p in problem.places(name))


def place_gains(xp, place: Place, a: Arrays, b: Arrays) -> Any:
    """The share of one place in :func:`unit_gains`."""
    shape, k = place.block.shape, place.axis
    before, after = prod(shape[:k]), prod(shape[k + 1 :])
    if xp is np and not place.parents and 1 < before <= SLICES <= after:
        flat = lambda z: z.reshape(*z.shape[: z.ndim - len(shape)], before, shape[k], after)  # noqa: E731
        x, y = flat(a[place.block.name]), flat(b[place.block.name])
        return sum(products(xp, x[..., i, :, :], y[..., i, :, :]) for i in range(before))
    return products(xp, rows(xp, a[place.block.name], place), rows(xp, b[place.block.name], place))


def exchange_block(xp, block: Block, x: Any, moves: Arrays) -> Any:
    """A block after an exchange: ``new[.., h, .., j] = old[.., pi[h], .., sigma[h, j]]``."""
    depth = lambda k: len(block.parents[k])  # noqa: E731
    rank = len(block.axes)
    for k in sorted((k for k, axis in enumerate(block.axes) if axis in moves), key=depth):
        move = moves[block.axes[k]]
        where = (*block.parents[k], k)
        batch = move.ndim - len(where)
        if (
            xp is np
            and len(where) == 1
            and prod(move.shape[:batch]) == prod(x.shape[: x.ndim - rank])
        ):
            x = take_each(x, move, k, rank)
            continue
        order = sorted(range(len(where)), key=lambda i: where[i])
        shape = [1] * rank
        for k_ in where:
            shape[k_] = block.shape[k_]
        index = move.transpose([*range(batch), *(batch + i for i in order)])
        index = index.reshape(*move.shape[:batch], *shape)
        if x.ndim - rank < batch:
            x = x.reshape((1,) * (batch - (x.ndim - rank)) + x.shape)
        elif batch < x.ndim - rank:
            index = index.reshape((1,) * (x.ndim - rank - batch) + index.shape)
        x = xp.take_along_axis(x, index, axis=k - rank)
    return x


def take_each(x: np.ndarray, move: np.ndarray, k: int, rank: int) -> np.ndarray:
    """One permutation of an axis for each index of the batch."""
    lead, shape = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
    flat, moves = x.reshape(-1, *shape), move.reshape(-1, move.shape[-1])
    if len(flat) == 1:
        return np.take(flat[0], moves[0], axis=k).reshape(*lead, *shape)
    out = flat.copy()
    for n in np.flatnonzero((moves != np.arange(moves.shape[-1])).any(-1)):
        out[n] = flat[n].take(moves[n], axis=k)
    return out.reshape(*lead, *shape)


def exchange(xp, problem: Problem, arrays: Arrays, moves: Arrays) -> dict[str, Any]:
    """All blocks after an exchange; those it does not touch are the same arrays."""
    if not problem.plain:
        return {b.name: moved_block(xp, problem, b, arrays[b.name], moves) for b in problem.blocks}
    return {
        b.name: exchange_block(xp, b, arrays[b.name], moves)
        if any(axis in moves for axis in b.axes)
        else arrays[b.name]
        for b in problem.blocks
    }


def moved_block(xp, problem: Problem, block: Block, x: Any, moves: Arrays) -> Any:
    """A block after units were exchanged, then given signs and turned."""
    permuted = {n: m for n, m in moves.items() if n in block.axes and n not in problem.turned}
    if permuted:
        x = exchange_block(xp, block, x, permuted)
    signs = [f for f in problem.flips if f.name in moves]
    for f in sorted(signs, key=lambda f: f.bias is not None):
        for k in range(len(block.axes)):
            if (block.name, k) in f.at:
                x = flip_block(block, x, k, signs_of(f, moves[f.name]))
            if (block.name, k) == f.bias:
                x = x + laid_along(block, moves[f.name], k, x.ndim) * xp.asarray(f.step, x.dtype)
    for k, axis in enumerate(block.axes):
        if axis in problem.turned and axis in moves:
            x = turn_block(xp, block, x, k, moves[axis])
    return x


def compose(xp, problem: Problem, moves: Arrays, element: Arrays) -> dict[str, Any]:
    """The element that acts as ``element`` and then exchanges; either may leave units out."""
    out = dict(element)
    for u in problem.units:
        if u.name in moves or set(u.over) & moves.keys():
            block = element_block(problem, u.name)
            if u.name in problem.turned:
                permuted = {n: m for n, m in moves.items() if n != u.name}
                x = exchange_block(xp, block, element[u.name], permuted)
                out[u.name] = xp.matmul(x, moves[u.name]) if u.name in moves else x
            else:
                out[u.name] = exchange_block(xp, block, element[u.name], moves)
    for f in sorted(problem.flips, key=lambda f: f.bias is None):  # steps before their signs
        block = element_block(problem, f.units)
        if f.name not in moves and not {f.units, *block.axes} & moves.keys():
            continue
        x = exchange_block(xp, block, element[f.name], moves)
        for other in problem.flips:
            if f.bias is not None and other is not f and other.name in moves and f.bias in other.at:
                x = x * signs_of(other, moves[other.name])
        if f.name in moves:
            x = x * moves[f.name] if f.bias is None else x + moves[f.name]
        out[f.name] = x
    return out


def element_block(problem: Problem, name: str) -> Block:
    """The entry of an element, seen as a block: its axes are the parents and the units."""
    u = problem.by_name[name]
    axes = (*u.over, u.name)
    parents = []
    for axis in u.over:
        above = problem.by_name[axis].over if axis in problem.by_name else ()
        parents.append(tuple(axes.index(o) for o in above))
    parents.append(tuple(range(len(u.over))))
    shape = (*problem.copies(name), u.size)
    if name in problem.turned:
        axes, shape, parents = (*u.over, "_", "_"), (*shape, u.size), [*parents[:-1], (), ()]
    return Block(name, name, axes, shape, tuple(parents))


def agreement(xp, problem: Problem, a: Arrays, b: Arrays) -> Any:
    """The sum of all products of entries, ``<a, b>``, for each index of the batch.

    Where steps may be added to ``b``, which change its length, half the square of that is taken away.
    """
    total: Any = 0.0
    stepped = {f.bias[0] for f in problem.flips if f.bias is not None}
    for block in problem.blocks:
        x, y = a[block.name], b[block.name]
        if block.name in stepped:
            x = x - y / 2
        axes = tuple(range(-len(block.axes), 0))
        if xp is np:
            flat = lambda z: z.reshape(*z.shape[: z.ndim - len(axes)], 1, -1)  # noqa: B023, E731
            total = total + np.matmul(flat(x), flat(y).swapaxes(-1, -2))[..., 0, 0].astype(float)
        else:
            total = total + xp.sum(x * y, axes)
    return total


def identity(
    xp, problem: Problem, batch: tuple[int, ...] = (), dtype: Any = None
) -> dict[str, Any]:
    """The element that moves nothing; matrices and signs have the given dtype."""
    out = {}
    for u in problem.units:
        copies = problem.copies(u.name)
        if u.name in problem.turned:
            shape, one = (*batch, *copies, u.size, u.size), xp.eye(u.size, dtype=dtype)
        else:
            shape, one = (*batch, *copies, u.size), xp.arange(u.size, dtype=xp.int32)
        out[u.name] = xp.broadcast_to(one, shape)
    for f in problem.flips:
        shape = (*batch, *problem.copies(f.units), problem.by_name[f.units].size)
        out[f.name] = xp.full(shape, 0 if f.bias is not None else 1, dtype=dtype)
    return out
