"""Reads and writes at positions that are known when the function is traced."""

from __future__ import annotations

import numpy as np

from ..inference.ports import inverse
from ..inference.values import View
from ..inference.walk import Walk
from .segments import reorder, take, take_range
from .shape import join


def _positions(where: View, n: int, width: int) -> np.ndarray | None:
    """Start positions, flat; None if they are not known or out of range."""
    if where.const is None:
        return None
    at = np.asarray(where.const).reshape(-1)
    if at.dtype.kind not in "iu" or not len(at) or at.min() < 0 or at.max() + width > n:
        return None
    return at.astype(np.int64)


def read_at(walk: Walk, eqn, x: View, where: View, reason) -> View | None:
    """A ``gather`` of single coordinates of one axis, all others whole; None if it is not that."""
    p = eqn.params
    d, sizes, shape = p["dimension_numbers"], p["slice_sizes"], x.shape()
    if len(d.start_index_map) != 1 or d.operand_batching_dims:
        return None
    (axis,) = d.start_index_map
    others = all(size == n for k, (size, n) in enumerate(zip(sizes, shape)) if k != axis)
    if sizes[axis] != 1 or not others or tuple(d.collapsed_slice_dims) != (axis,):
        return None
    at = _positions(where, shape[axis], 1)
    if at is None:
        return None
    y = take(walk, x, axis, at, reason)
    batch = where.shape()[:-1]
    y = walk.reshape(y, (*shape[:axis], *batch, *shape[axis + 1 :]), reason)
    made = y.axes[axis : axis + len(batch)]
    rest = iter([*y.axes[:axis], *y.axes[axis + len(batch) :]])
    chosen = iter(made)
    rank = len(eqn.outvars[0].aval.shape)
    axes = [next(rest) if k in d.offset_dims else next(chosen) for k in range(rank)]
    return View(axes, y.hidden, y.index)


def write_at(walk: Walk, eqn, x: View, where: View, updates: View, reason) -> View | None:
    """A ``scatter`` to coordinates of one axis, all others whole; None if it is not that."""
    d, shape = eqn.params["dimension_numbers"], x.shape()
    if len(d.scatter_dims_to_operand_dims) != 1 or d.operand_batching_dims:
        return None
    (axis,) = d.scatter_dims_to_operand_dims
    single = tuple(d.inserted_window_dims) == (axis,)
    if not single and d.inserted_window_dims:
        return None
    news = updates.shape()
    windows = [updates.axes[k] for k in d.update_window_dims]
    sizes = [news[k] for k in d.update_window_dims]
    batch = [k for k in range(len(news)) if k not in d.update_window_dims]
    width = 1 if single else sizes[axis]
    at = _positions(where, shape[axis], width)
    if at is None:
        return None
    if single:
        count = int(np.prod([news[k] for k in batch], dtype=int))
        row = tuple(i for k in batch for i in updates.axes[k])
        windows.insert(axis, row)
        sizes.insert(axis, count)
    else:
        if len(at) > 1:
            return None
        at = int(at[0]) + np.arange(width)
    if [n for k, n in enumerate(sizes) if k != axis] != [
        n for k, n in enumerate(shape) if k != axis
    ] or len(set(at.tolist())) < len(at):
        return None
    new = View(windows, updates.hidden)
    return _written(walk, x, axis, at, new, eqn.primitive.name == "scatter", reason)


def _written(walk: Walk, x: View, axis: int, at, new: View, replaces: bool, reason) -> View | None:
    """``x`` with coordinates ``at`` of an axis combined with, or replaced by, ``new``."""
    n = x.shape()[axis]
    if not replaces:
        new = walk.elementwise([take(walk, x, axis, at, reason), new], reason)
    start = int(at[0])
    if (at == start + np.arange(len(at))).all():
        stop = start + len(at)
        parts = [take_range(walk, x, axis, 0, start, reason), new]
        parts.append(take_range(walk, x, axis, stop, n, reason))
        return join(walk, parts, axis, reason)
    rest = np.setdiff1d(np.arange(n), at)
    parts = [take(walk, x, axis, rest, reason), new] if len(rest) else [new]
    order = inverse(np.concatenate([rest, at]))
    return reorder(walk, join(walk, parts, axis, reason), axis, order)


def update_range(walk: Walk, x: View, update: View, starts: list[int], reason) -> View | None:
    """``dynamic_update_slice`` at known starts, along one axis."""
    shape, news = x.shape(), update.shape()
    axes = [k for k, (n, m) in enumerate(zip(shape, news, strict=True)) if n != m]
    if len(axes) > 1:
        return None
    if not axes:
        return View(update.axes, update.hidden)
    (axis,) = axes
    start = int(np.clip(starts[axis], 0, shape[axis] - news[axis]))
    at = start + np.arange(news[axis])
    return _written(walk, x, axis, at, View(update.axes, update.hidden), True, reason)
