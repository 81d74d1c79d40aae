"""Attention between the weights that meet in a set of units, and between the means of all blocks.

For a set of units ``h`` every axis ``h`` of a block gives *tokens*: one for each coordinate of the
block's other axes, a row of numbers over ``h``. Tokens attend to each other by the inner products of
their rows, over units and channels: the rows of the kernel behind ``h``, the columns of the kernel before
it, and the bias. An exchange of units of ``h`` leaves all inner products as they are, and moves what comes
out as it moves the rows; an exchange of other units moves the tokens.

Axes that ``h`` is nested over are a batch (each copy of ``h`` has attention of its own); over axes that are
nested over ``h`` means are taken, since a row over ``h`` would compare what has nothing in common.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from functools import lru_cache
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..blocks.dtypes import wide
from ..blocks.features import Features, Groups
from ..blocks.indices import Indices, Structure
from ..blocks.stacks import Cell, assemble

QUERIES_AT_ONCE = 1024
"""Of more tokens than this, so many at a time attend to as many: memory stays linear in their number."""


class Row(NamedTuple):
    """How one axis of a stack of blocks is read as rows.

    Attributes:
        group: the stack.
        axis: the index of its blocks that rows run over.
        batch: the indices that it is nested over.
        tokens: the indices that number the tokens.
        gone: the indices that are averaged away.
    """

    group: int
    axis: int
    batch: tuple[int, ...]
    tokens: tuple[int, ...]
    gone: tuple[int, ...]


class Meeting(NamedTuple):
    """Sets of units that look alike: the same kinds of rows, as many of each.

    Attributes:
        labels: the sets of units.
        rows: which kinds of rows meet there.
        members: for each kind of rows the members of its stack, ``(labels, how many)``, flat.
    """

    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    members: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=64)
def meetings(blocks: Structure, groups: Groups) -> tuple[Meeting, ...]:
    """All sets of units, those that look alike together."""
    found: dict[str, dict[Row, list[int]]] = defaultdict(lambda: defaultdict(list))
    for g, members in enumerate(groups):
        for axis in range(len(blocks[members[0]].labels)):
            row = _row(g, axis, blocks[members[0]])
            for n, b in enumerate(members):
                found[blocks[b].labels[axis]][row].append(n)
    alike: dict[tuple, list[str]] = defaultdict(list)
    for label, rows in found.items():
        alike[tuple((row, len(ns)) for row, ns in rows.items())].append(label)
    return tuple(
        Meeting(
            tuple(labels),
            tuple(row for row, _ in key),
            tuple(tuple(n for label in labels for n in found[label][row]) for row, _ in key),
        )
        for key, labels in alike.items()
    )


def _row(group: int, axis: int, block: Indices) -> Row:
    batch = block.parents[axis]
    gone: set[int] = {axis}
    for _ in block.labels:  # children of children
        gone |= {k for k, above in enumerate(block.parents) if gone & set(above)}
    tokens = (k for k in range(len(block.labels)) if k not in gone and k not in batch)
    return Row(group, axis, batch, tuple(tokens), tuple(sorted(gone - {axis})))


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Dot-product attention, ``(..., queries, d), (..., keys, d), (..., keys, e)`` to ``(..., queries, e)``.

    Keys where ``mask``, ``(keys,)``, is false are as if they were not there.

    Example:
        >>> x = jnp.eye(3)
        >>> attend(100 * x, x, x).round(2).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    def some(q: jax.Array) -> jax.Array:
        scores = wide(jnp.matmul(q, jnp.swapaxes(k, -1, -2)) * q.shape[-1] ** -0.5)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        return jnp.matmul(jax.nn.softmax(scores, axis=-1).astype(v.dtype), v)

    n = q.shape[-2]
    if n * k.shape[-2] <= QUERIES_AT_ONCE**2:
        return some(q)
    steps = -(-n // QUERIES_AT_ONCE)
    filled = jnp.pad(q, [(0, 0)] * (q.ndim - 2) + [(0, steps * QUERIES_AT_ONCE - n), (0, 0)])
    parts = filled.reshape(*q.shape[:-2], steps, QUERIES_AT_ONCE, q.shape[-1])
    out = jax.lax.map(jax.checkpoint(some), jnp.moveaxis(parts, -3, 0))
    return jnp.moveaxis(out, 0, -3).reshape(*q.shape[:-2], -1, v.shape[-1])[..., :n, :]


def unit_attention(qkv: Features, heads: int) -> list[jax.Array]:
    """Attention in every set of units, summed over the axes of each block.

    Args:
        qkv: queries, keys and values side by side, ``3 * C`` channels.
        heads: how many ways to attend, of ``C / heads`` channels each.

    Returns:
        One stack ``(members, *indices, C)`` a stack of ``qkv``; zeros for blocks without indices.
    """
    found = meetings(qkv.structure, qkv.groups)
    sources: dict[Hashable, jax.Array] = {
        (g, k): a for g, a in enumerate(qkv.arrays) for k in range(a.ndim - 2)
    }
    cells = [
        [Cell((row.group, row.axis), n, tuple(range(qkv.arrays[row.group].ndim - 2))) for n in ns]
        for meeting in found
        for row, ns in zip(meeting.rows, meeting.members, strict=True)
    ]
    stacks = iter(assemble(sources, cells))
    results: dict[tuple[int, int], dict[int, Cell]] = defaultdict(dict)
    arrays: dict[tuple[int, int, int], jax.Array] = {}
    for m, meeting in enumerate(found):
        rows = [(row, next(stacks)) for row in meeting.rows]
        for (row, stack), y in zip(rows, _meet(meeting, rows, heads), strict=True):
            key = (m, row.group, row.axis)
            arrays[key] = _unrolled(y, row, stack.shape)
            for place, n in enumerate(meeting.members[meeting.rows.index(row)]):
                results[row.group, row.axis][n] = Cell(key, place)
    return _summed(qkv, arrays, results)


def _meet(meeting: Meeting, rows: list[tuple[Row, jax.Array]], heads: int) -> list[jax.Array]:
    """What comes out for each kind of rows: ``(members, batch, tokens, row, C)``."""
    laid = [_rolled(stack, row) for row, stack in rows]
    many = len(meeting.labels)
    flat, counts = [], []
    for x in laid:
        members, batch, tokens, width, channels = x.shape
        x = x.reshape(many, members // many, batch, tokens, width, 3, heads, channels // 3 // heads)
        x = x.transpose(5, 0, 2, 6, 1, 3, 4, 7)  # qkv, label, batch, head, member, token, row, c
        counts.append((members // many, tokens))
        flat.append(x.reshape(*x.shape[:4], -1, width * x.shape[-1]))
    q, k, v = jnp.concatenate(flat, axis=-2)
    y = attend(q, k, v)
    out, at = [], 0
    for x, (members, tokens) in zip(laid, counts, strict=True):
        part = jax.lax.slice_in_dim(y, at, at + members * tokens, axis=-2)
        at += members * tokens
        part = part.reshape(*y.shape[:3], members, tokens, x.shape[3], -1)
        part = part.transpose(0, 3, 1, 4, 5, 2, 6)
        out.append(part.reshape(*x.shape[:-1], -1))
    return out


def _rolled(stack: jax.Array, row: Row) -> jax.Array:
    """``(members, *indices, C)`` to ``(members, batch, tokens, row, C)``, means over what is gone."""
    x = jnp.mean(stack, axis=[1 + k for k in row.gone], keepdims=True) if row.gone else stack
    order = (*row.batch, *row.tokens, row.axis, *row.gone)
    x = x.transpose(0, *(1 + k for k in order), x.ndim - 1)
    batch = prod(stack.shape[1 + k] for k in row.batch)
    tokens = prod(stack.shape[1 + k] for k in row.tokens)
    return x.reshape(x.shape[0], batch, tokens, stack.shape[1 + row.axis], x.shape[-1])


def _unrolled(y: jax.Array, row: Row, shape: tuple[int, ...]) -> jax.Array:
    """The inverse of :func:`_rolled`; of length one where means were taken."""
    order = (*row.batch, *row.tokens, row.axis, *row.gone)
    sizes = [1 if k in row.gone else shape[1 + k] for k in order]
    y = y.reshape(shape[0], *sizes, y.shape[-1])
    back = [order.index(k) for k in range(len(order))]
    return y.transpose(0, *(1 + k for k in back), y.ndim - 1)


def _summed(
    qkv: Features, arrays: Mapping, results: Mapping[tuple[int, int], Mapping[int, Cell]]
) -> list[jax.Array]:
    wanted = [key for key in results]
    cells = []
    for group, axis in wanted:
        rank = qkv.arrays[group].ndim - 2
        found = results[group, axis]
        cells.append([found[n]._replace(axes=tuple(range(rank))) for n in range(len(found))])
    pieces = dict(zip(wanted, assemble(arrays, cells), strict=True))
    out = []
    for g, a in enumerate(qkv.arrays):
        total = jnp.zeros((*a.shape[:-1], a.shape[-1] // 3), a.dtype)
        out.append(sum((pieces[g, k] for k in range(a.ndim - 2)), total))
    return out


def block_attention(qkv: Features, heads: int) -> list[jax.Array]:
    """Attention between the means of all blocks: one stack ``(members, C)`` a stack of ``qkv``."""
    means: dict[Hashable, jax.Array] = {
        g: jnp.mean(a, axis=tuple(range(1, a.ndim - 1))) for g, a in enumerate(qkv.arrays)
    }
    places = {b: (g, n) for g, members in enumerate(qkv.groups) for n, b in enumerate(members)}
    (x,) = assemble(means, [[Cell(*places[b]) for b in range(len(qkv.structure))]])
    q, k, v = x.reshape(x.shape[0], 3, heads, -1).transpose(1, 2, 0, 3)
    y = attend(q, k, v).transpose(1, 0, 2).reshape(x.shape[0], -1)
    return assemble({0: y}, [[Cell(0, b) for b in members] for members in qkv.groups])
