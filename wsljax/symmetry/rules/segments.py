"""Some coordinates of an axis, in some order: segments, strides, reorderings."""

from __future__ import annotations

import numpy as np

from ..inference.picks import Picked
from ..inference.ports import Port, product, reordered
from ..inference.refine import segment
from ..inference.values import Copy, Entry, Factor, Items, Variable, View, size_of
from ..inference.walk import RULES, Walk

MAX_REORDERED = 1 << 16


def _lay_out(walk: Walk, eqn, x: Picked) -> View:
    """A value that is other coordinates of another one, as an array."""
    out = walk.laid_out(x.base)
    for axis, at in x.picks.items():
        out = take(walk, out, axis, at, x.reason)
    return out


RULES["picked"] = _lay_out


def take(walk: Walk, x: View, axis: int, at: np.ndarray, reason) -> View:
    """Coordinates ``at`` of one axis."""
    n, count = x.shape()[axis], len(at)
    steps = np.unique(np.diff(at))
    if count < 2 or list(steps) == [1]:
        start = int(at[0]) if count else 0
        return take_range(walk, x, axis, start, start + count, reason)
    if len(steps) == 1 and (stride := int(steps[0])) > 1:
        start = int(at[0])
        if n % stride == 0 and start < stride and count == n // stride:
            shape = x.shape()
            wide = walk.reshape(x, (*shape[:axis], count, stride, *shape[axis + 1 :]), reason)
            one = take_range(walk, wide, axis + 1, start, start + 1, reason)
            return View([a for k, a in enumerate(one.axes) if k != axis + 1], one.hidden, one.index)
    if len(np.unique(at)) == count:
        if count < n:
            rest = np.setdiff1d(np.arange(n), at)
            at = np.concatenate([at, rest])
        out = reorder(walk, x, axis, at)
        if out is not None:
            return take_range(walk, out, axis, 0, count, reason)
        at = at[:count]
    walk.pin(x, axis, reason)
    return walk.renewed(x, axis, count, reason)


def reorder(walk: Walk, x: View, axis: int, order: np.ndarray) -> View | None:
    """The axis read in another order; None where that cannot be said of its factors."""
    items = tuple(i for i in x.axes[axis] if size_of(i) != 1)
    flat: list = []
    for i in items:
        flat += i.flat() if isinstance(i, Factor) else [i]
    if all(isinstance(i, int) for i in flat):
        return x
    if len(order) > MAX_REORDERED:
        return None
    # an order of the first factors, or of the last ones, leaves the others alone
    front, back = 0, len(flat)
    table = order
    while back - front > 1:
        n = size_of(flat[front])
        rows = table.reshape(n, -1)
        if (rows == np.arange(n)[:, None] * rows.shape[1] + rows[0][None, :]).all():
            front, table = front + 1, rows[0]
            continue
        m = size_of(flat[back - 1])
        columns = table.reshape(-1, m)
        if (columns == columns[:, :1] + np.arange(m)[None, :]).all() and (
            columns[:, 0] % m == 0
        ).all():
            back, table = back - 1, columns[:, 0] // m
            continue
        break
    busy = tuple(flat[front:back])
    if any(isinstance(i, int) for i in busy):
        if all(isinstance(i, int) for i in busy):
            return x
        return None
    port = reordered(product([i.port for i in busy]), table)
    head = View(
        [*x.axes[:axis], tuple(flat[:front]), busy, tuple(flat[back:]), *x.axes[axis + 1 :]]
    )
    head.hidden, head.index = x.hidden, x.index
    y = _new_segment(walk, head, axis + 1, busy, 0, port, (), table)
    joint = (*y.axes[axis], *y.axes[axis + 1], *y.axes[axis + 2])
    return View([*y.axes[:axis], joint, *y.axes[axis + 3 :]], y.hidden, y.index)


def take_range(walk: Walk, x: View, axis: int, start: int, stop: int, reason) -> View:
    """``x[start:stop]`` along one axis: a new array on a segment of the axis."""
    items = tuple(i for i in x.axes[axis] if size_of(i) != 1)
    n, start, stop = x.shape()[axis], int(start), int(stop)
    if (start, stop) == (0, n):
        return x
    if start >= stop:
        return x.but([a if k != axis else (0,) for k, a in enumerate(x.axes)])
    flat: list = []
    for i in items:
        flat += i.flat() if isinstance(i, Factor) else [i]
    if not flat or all(isinstance(i, int) for i in flat):
        return x.but(
            [
                a if k != axis else ((stop - start,) if stop - start > 1 else ())
                for k, a in enumerate(x.axes)
            ]
        )
    lead, tail = flat[0], flat[1:]
    width = 1
    for i in tail:
        width *= size_of(i)
    port = None
    if start % width == 0 and stop % width == 0:
        a, b = start // width, stop // width
        if isinstance(lead, int):
            kept = (b - a,) if b - a > 1 else ()
            return x.but([v if k != axis else (*kept, *tail) for k, v in enumerate(x.axes)])
        port = segment(lead.port, a, b)
    elif not any(isinstance(i, int) for i in flat):
        whole = product([f.port for f in flat])
        port, tail, a = segment(whole, start, stop), [], start
    if port is None:
        walk.pin_items(tuple(flat), reason)
        return walk.renewed(x, axis, stop - start, reason)
    head = (lead,) if tail or len(flat) == 1 else tuple(flat)
    return _new_segment(walk, x, axis, head, a, port, tuple(tail))


def _new_segment(
    walk: Walk,
    x: View,
    axis: int,
    head: tuple,
    offset: int,
    port: Port,
    tail: Items,
    order: np.ndarray | None = None,
) -> View:
    """A new array like ``x``, whose axis is ``port``, then ``tail``.

    ``port`` is coordinates ``offset + i`` of ``head``, or ``order[i]``.
    """
    new = Copy(walk)
    copy, variables = new.items, new.variables
    front: Items = ()
    if port.size > 1:
        f = new.factor(port, all(i.fixed for i in head))
        front = (f,)
        variables.append(Variable(port.size, (Entry(0, head, offset, order), Entry(1, (f,)))))
    else:
        variables.append(Variable(1, (Entry(0, head, offset),)))
    axes = [(*front, *copy(tail)) if k == axis else copy(a) for k, a in enumerate(x.axes)]
    hidden = {key: copy(a) for key, a in x.hidden.items()}
    new.link()
    index = None if x.index is None else x.index._replace(token=walk.fresh(), whole=False)
    return View(axes, hidden, index)
