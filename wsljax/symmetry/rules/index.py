"""Rules that read or write at computed positions: dynamic slices, gathers, scatters."""

from __future__ import annotations

from math import prod

import numpy as np

from ..inference.values import Factor, Index, Items, View, size_of
from ..inference.walk import KNOWS_COORDINATES, RULES, TAKES_COLUMNS, Walk, register_rule
from .known import read_at, update_range, write_at
from .pointwise import same_coordinates
from .segments import take_range

KNOWS_COORDINATES |= {"gather", "dynamic_slice"}
TAKES_COLUMNS.add("gather")
_WHERE = "read at computed positions"


@register_rule("dynamic_slice")
def _dynamic_slice(walk: Walk, eqn, x: View, *starts: View) -> View:
    sizes = eqn.params["slice_sizes"]
    reason = (_WHERE, eqn)
    for axis, (size, start) in enumerate(zip(sizes, starts, strict=False)):
        n = x.shape()[axis]
        if size == n:
            continue
        if start.const is not None:
            at = int(np.clip(int(start.const), 0, n - size))
            x = take_range(walk, x, axis, at, at + size, reason)
        else:
            x = _choose(walk, x, axis, size, start, reason)
    return x


def _choose(walk: Walk, x: View, axis: int, size: int, start: View, reason) -> View:
    """A slice at an unknown scalar position: of size one it hides the axis under the position's key."""
    column = start.index if size == 1 and not start.axes else None
    if not _counts(walk, column, x.axes[axis]):
        walk.spend(start, reason)
        walk.pin(x, axis, reason)
    if start.key is None:
        start.key = walk.fresh()
    if size == 1 and not any(_mentions(h, x.axes[axis]) for h in x.hidden.values()):
        mark = ("at", start.key, x.shape()[axis])
        walk.chosen += [f.struct for f in x.factors()]
        if mark not in x.hidden:
            hidden = dict(x.hidden)
            hidden[mark] = x.axes[axis]
            return View([() if k == axis else a for k, a in enumerate(x.axes)], hidden, x.index)
    return walk.renewed(x, axis, size, reason)


def _mentions(items, others) -> bool:
    return any(i is o for i in items for o in others if isinstance(o, Factor))


@register_rule("dynamic_update_slice")
def _dynamic_update_slice(walk: Walk, eqn, x: View, update: View, *starts: View) -> View:
    reason = ("written at computed positions", eqn)
    if all(s.const is not None for s in starts):
        known = update_range(walk, x, update, [int(s.const) for s in starts], reason)
        if known is not None:
            return known
    words, wu, out, sizes = [], [], [], {}
    for k, (n, m) in enumerate(zip(x.shape(), update.shape(), strict=True)):
        words.append(f"i{k}")
        wu.append(f"i{k}" if n == m else f"u{k}")
        if n != m:
            walk.pin(x, k, reason)
            walk.pin(update, k, reason)
            sizes[f"new{k}"] = n
        out.append(f"i{k}" if n == m else f"new{k}")
    return walk.einsum([x, update], [words, wu], out, sizes, reason)


@register_rule("gather")
def _gather(walk: Walk, eqn, x: View, where: View) -> View:
    p = eqn.params
    d, sizes = p["dimension_numbers"], p["slice_sizes"]
    reason = (_WHERE, eqn)
    shape, out_shape = x.shape(), eqn.outvars[0].aval.shape
    depth = len(d.start_index_map)
    at_scalar = where.shape() in ((), (1,)) and depth == 1 and not d.operand_batching_dims
    if at_scalar and sizes[d.start_index_map[0]] == 1 and shape[d.start_index_map[0]] > 1:
        return _gather_one(walk, eqn, x, where, d, sizes, reason)
    known = read_at(walk, eqn, x, where, reason)
    if known is not None:
        return known
    batch_axes = [k for k in range(len(where.axes) - 1)]
    ww = [f"n{k}" for k in batch_axes] + ["coordinates"]
    wx = [f"x{k}" for k in range(len(shape))]
    fresh: dict[str, int] = {}
    for a, b in zip(d.operand_batching_dims, d.start_indices_batching_dims, strict=True):
        wx[a] = ww[b]
    offset, choice = [], None
    moving = [k for k in d.start_index_map if sizes[k] != shape[k]]
    for k, n in enumerate(shape):
        indexed = k in d.start_index_map
        if indexed and sizes[k] != n:
            column = _column(where, d.start_index_map.index(k), depth)
            if column is not None and sizes[k] == 1 and _counts(walk, column, x.axes[k]):
                if moving == [k]:
                    choice = (wx[k], column.token, tuple(ww[:-1]))
            elif column is not None:
                walk.pin(x, k, reason)
                walk.pin_items(column.items, reason)
            else:
                walk.pin(x, k, reason)
        if k in d.collapsed_slice_dims or k in d.operand_batching_dims:
            continue
        if sizes[k] == n:
            offset.append(wx[k])
        elif not indexed:
            x = take_range(walk, x, k, 0, sizes[k], reason)
            offset.append(wx[k])
        else:
            offset.append(f"new{k}")
            fresh[f"new{k}"] = sizes[k]
    walk.pin_items(where.axes[-1] if where.axes else (), reason)
    batch = iter(ww[:-1])
    offsets = iter(offset)
    out = [next(offsets) if k in d.offset_dims else next(batch) for k in range(len(out_shape))]
    index = View(where.axes, where.hidden)
    return walk.einsum([x, index], [wx, ww], out, fresh, reason, choice)


def _column(where: View, k: int, depth: int) -> Index | None:
    """What the ``k``-th coordinate of an index counts, if that is known."""
    if depth == 1:
        return where.index
    return where.columns[k].index if len(where.columns) == depth else None


def _counts(walk: Walk, column: Index | None, axis: Items) -> bool:
    """Whether an index counts the coordinates of an axis; ties the two if so."""
    return column is not None and not column.spoilt and same_coordinates(walk, column.items, axis)


def _gather_one(walk: Walk, eqn, x: View, where: View, d, sizes, reason) -> View:
    """``x[i]`` for a scalar ``i``."""
    axis = d.start_index_map[0]
    if where.const is not None:
        at = int(np.clip(int(np.ravel(where.const)[0]), 0, x.shape()[axis] - 1))
        y = take_range(walk, x, axis, at, at + 1, reason)
    else:
        y = _choose(walk, x, axis, 1, View((), where.hidden, where.index, key=where.key), reason)
    for k, size in enumerate(sizes):
        if k != axis and size != y.shape()[k]:
            y = take_range(walk, y, k, 0, size, reason)
    return View(
        [a for k, a in enumerate(y.axes) if k not in d.collapsed_slice_dims], y.hidden, y.index
    )


def _scatter(walk: Walk, eqn, x: View, where: View, updates: View) -> View:
    p = eqn.params
    d = p["dimension_numbers"]
    reason = ("written at computed positions", eqn)
    shape = x.shape()
    known = write_at(walk, eqn, x, where, updates, reason)
    if known is not None:
        return known
    ww = [f"n{k}" for k in range(len(where.axes) - 1)] + ["coordinates"]
    wx = [f"x{k}" for k in range(len(shape))]
    for a, b in zip(d.operand_batching_dims, d.scatter_indices_batching_dims, strict=True):
        wx[a] = ww[b]
    windows = [
        k
        for k in range(len(shape))
        if k not in d.inserted_window_dims and k not in d.operand_batching_dims
    ]
    batch, window = iter(ww[:-1]), iter(windows)
    wu = []
    for k in range(len(updates.axes)):
        if k in d.update_window_dims:
            at = next(window)
            whole = updates.shape()[k] == shape[at]
            wu.append(wx[at] if whole else f"u{k}")
            if not whole:
                walk.pin(x, at, reason)
                walk.pin(updates, k, reason)
        else:
            wu.append(next(batch))
    counted: dict[int, Items] = {}
    depth = len(d.scatter_dims_to_operand_dims)
    for c, k in enumerate(d.scatter_dims_to_operand_dims):
        column = _column(where, c, depth)
        if (
            column is not None
            and not column.spoilt
            and k in d.inserted_window_dims
            and shape[k] == prod(map(size_of, column.items))
            and all(isinstance(i, Factor) for i in column.items)
        ):
            counted[k] = column.items
            continue
        walk.pin(x, k, reason)
        if column is not None:
            walk.pin_items(column.items, reason)
    if eqn.primitive.name == "scatter":  # the last write wins: order matters
        for k, word in enumerate(wu):
            if word.startswith("n") and word not in wx:
                walk.pin(updates, k, reason)
    walk.pin_items(where.axes[-1] if where.axes else (), reason)
    out, sizes = [], {}
    for k, word in enumerate(wx):
        if k in d.scatter_dims_to_operand_dims and k not in counted:
            out.append(f"new{k}")
            sizes[f"new{k}"] = shape[k]
        else:
            out.append(word)
    for k, items in counted.items():  # an operand that is constant along it takes the index's axis
        if any(not isinstance(i, Factor) for i in x.axes[k]):
            x = _fill(walk, x, k)
        if not same_coordinates(walk, items, x.axes[k]):
            walk.pin(x, k, reason)
            walk.pin_items(items, reason)
    index = View(where.axes, where.hidden)
    return walk.einsum([x, index, updates], [wx, ww, wu], out, sizes, reason)


def _fill(walk: Walk, x: View, axis: int) -> View:
    """The same value, with an array's factor along a constant axis."""
    words = [f"i{k}" for k in range(len(x.axes))]
    return walk.einsum([x, walk.array([x.shape()[axis]])], [words, [words[axis]]], words)


for _kind in ("", "add", "sub", "mul", "min", "max"):
    for _name in {f"scatter_{_kind}".strip("_"), f"scatter-{_kind}".strip("-")}:
        RULES[_name] = _scatter
        KNOWS_COORDINATES.add(_name)
        TAKES_COLUMNS.add(_name)
