"""Rules that rearrange: reshape, transpose, broadcast, slice, concatenate, pad, split, flip, tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from ..inference.ports import Port, concatenation, product
from ..inference.values import Entry, Factor, Items, Link, Struct, Variable, View, align, size_of
from ..inference.walk import KNOWS_COORDINATES, RULES, Walk, register_rule
from .segments import take, take_range

KNOWS_COORDINATES |= {
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "expand_dims",
    "transpose",
    "split",
    "concatenate",
}


@register_rule("broadcast_in_dim")
def _broadcast(walk: Walk, eqn, x: View, *dynamic: View) -> View:
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    axes: list[Items] = [(n,) if n != 1 else () for n in shape]
    old = x.shape()
    for k, d in enumerate(dims):
        if old[k] == shape[d]:
            axes[d] = x.axes[k]
    out = x.but(axes)
    if all(n == 1 for n in shape) or not shape:
        out.const, out.key = x.const, x.key
    return out


@register_rule("reshape")
def _reshape(walk: Walk, eqn, x: View, *dynamic: View) -> View:
    if eqn.params.get("dimensions") is not None:
        x = x.but([x.axes[d] for d in eqn.params["dimensions"]])
    out = walk.reshape(x, eqn.params["new_sizes"], ("a reshape across units", eqn))
    out.key = x.key
    return out


@register_rule("squeeze")
def _squeeze(walk: Walk, eqn, x: View) -> View:
    gone = {d % len(x.axes) for d in eqn.params["dimensions"]}
    out = x.but([a for k, a in enumerate(x.axes) if k not in gone])
    out.key = x.key
    return out


@register_rule("expand_dims")
def _expand(walk: Walk, eqn, x: View) -> View:
    axes = list(x.axes)
    for d in sorted(eqn.params["dimensions"]):
        axes.insert(d, ())
    return x.but(axes)


@register_rule("transpose")
def _transpose(walk: Walk, eqn, x: View) -> View:
    return x.but([x.axes[d] for d in eqn.params["permutation"]])


@register_rule("stack")
def _stack(walk: Walk, eqn, *views: View) -> View:
    """Join along an axis made for it."""
    axis = eqn.params.get("axis", eqn.params.get("dimension", 0))
    rows = []
    for v in views:
        walk.spend(v, ("coordinates are read as numbers", eqn))
        rows.append(View([*v.axes[:axis], (), *v.axes[axis:]], v.hidden))
    return join(walk, rows, axis, ("joined with axes that do not fit", eqn))


@register_rule("split")
def _split(walk: Walk, eqn, x: View) -> list[View]:
    axis, at, out = eqn.params["axis"], 0, []
    for size in eqn.params["sizes"]:
        out.append(take_range(walk, x, axis, at, at + size, ("cut across units", eqn)))
        at += size
    return out


@register_rule("concatenate")
def _concatenate(walk: Walk, eqn, *views: View) -> View:
    axis, reason = eqn.params["dimension"], ("joined with axes that do not fit", eqn)
    whole = eqn.outvars[0].aval
    if (
        getattr(whole.dtype, "kind", "") in tuple("iu")
        and axis == len(whole.shape) - 1
        and len(views) == whole.shape[axis]
        and not any(v.columns for v in views)
    ):  # the rows of an index into several axes
        rows = join(walk, [View(v.axes, v.hidden) for v in views], axis, reason)
        rows.columns = views
        return rows
    return join(walk, views, axis, reason)


def join(walk: Walk, views: Sequence[View], axis: int, reason) -> View:
    """Concatenate along an axis: a new array on the sum of the operands' axes."""
    for v in views:
        walk.spend(v, reason)
    views = [walk.laid_out(v) for v in views if v.shape()[axis]]
    if len(views) == 1:
        return views[0]
    blank = [not v.factors() for v in views]
    solid = [v if b else _solid(walk, v, axis) for v, b in zip(views, blank, strict=True)]
    ports = [
        Port(v.shape()[axis]) if b else product([_port(i) for i in v.axes[axis]])
        for v, b in zip(solid, blank, strict=True)
    ]
    sizes = [v.shape()[axis] for v in solid]
    ports = [p if n > 1 else Port(1) for p, n in zip(ports, sizes, strict=True)]
    struct = Struct()
    walk.structs.append(struct)
    whole = Factor(concatenation(ports), struct)
    struct.roots.append(whole)
    rank = len(views[0].axes)
    keys = list(dict.fromkeys(k for v in solid for k in v.hidden))
    places: list = [k for k in range(rank) if k != axis] + keys
    made: dict = {}
    for place in places:
        items = next((i for v in solid if _has_factor(i := _axis(v, place))), None)
        if items is None:
            made[place] = next(_axis(v, place) for v in solid if _axis(v, place) is not None)
            continue
        if not all(isinstance(i, Factor) for i in items):
            items = (Factor(product([_port(i) for i in items]), struct),)
        fs = []
        for i in items:
            f = Factor(_port(i), struct)
            struct.roots.append(f)
            fs.append(f)
        made[place] = tuple(fs)
    if sum(blank) > 1 or (any(blank) and len(views) > 2):  # constants that differ stay apart
        values = {_value(v): k for k, v in enumerate(views)}
        marks = [values[_value(v)] if b else len(views) for v, b in zip(views, blank, strict=True)]
        walk.colours.append((whole, np.repeat(marks, sizes)))
    offset = 0
    pinned: list = []
    for v, n, b in zip(solid, sizes, blank, strict=True):
        variables = []
        if b:  # the same everywhere: it ties nothing
            offset += n
            continue
        if n > 1:
            own = cast(tuple[Factor, ...], v.axes[axis])
            variables.append(Variable(n, (Entry(0, own), Entry(1, (whole,), offset))))
        else:
            variables.append(Variable(1, (Entry(1, (whole,), offset),)))
        for place in places:
            variables += _tie(walk, _axis(v, place), made[place], pinned)
        walk.links.append(Link(2, tuple(variables)))
        offset += n
    for items in pinned:
        walk.pin_items(items, reason)
    return View(
        [(whole,) if k == axis else made[k] for k in range(rank)], {k: made[k] for k in keys}
    )


RULES["joined"] = lambda walk, axis, *views: join(
    walk, views, axis, "joined with axes that do not fit"
)


def _value(view: View):
    """What tells constant values apart."""
    if view.const is not None:
        flat = np.ravel(view.const)
        if flat.size and (flat == flat[0]).all():
            return flat[0].item()
    return ("key", view.key) if view.key is not None else id(view)


def _port(item):
    return Port(item) if isinstance(item, int) else item.port


def _axis(v: View, place) -> Items | None:
    return v.axes[place] if isinstance(place, int) else v.hidden.get(place)


def _has_factor(items: Items | None) -> bool:
    return items is not None and any(isinstance(i, Factor) for i in items)


def _tie(walk: Walk, ours: Items | None, whole: Items, pinned: list) -> list[Variable]:
    """Variables that tie one operand's axis to the joint array's."""
    if ours is None or not _has_factor(ours):
        return [Variable(f.size, (Entry(1, (f,)),)) for f in whole if isinstance(f, Factor)]
    slots = align([ours, whole])
    if slots is None:
        pinned += [ours, whole]
        return [Variable(f.size, (Entry(0, (f,)),)) for f in ours if isinstance(f, Factor)] + [
            Variable(f.size, (Entry(1, (f,)),)) for f in whole if isinstance(f, Factor)
        ]
    out = []
    for a, b in slots:
        entries = tuple(Entry(r, (i,)) for r, i in enumerate((a, b)) if isinstance(i, Factor))
        if entries:
            out.append(Variable(size_of(entries[0].items[0]), entries))
    return out


def _solid(walk: Walk, v: View, axis: int) -> View:
    """The same value, without wild stretches on one axis."""
    if all(isinstance(i, Factor) for i in v.axes[axis]):
        return v
    fill = walk.array([size_of(i) for i in v.axes[axis]])
    words = [[f"i{k}.{j}" for j in range(len(a))] for k, a in enumerate(v.axes)]
    flat = View([(i,) for a in v.axes for i in a], v.hidden)
    names = [w for ws in words for w in ws]
    wide = walk.einsum([flat, fill], [names, words[axis]], names)
    axes, at = [], 0
    for a in v.axes:
        axes.append(tuple(i for part in wide.axes[at : at + len(a)] for i in part))
        at += len(a)
    return View(axes, wide.hidden)


@register_rule("pad")
def _pad(walk: Walk, eqn, x: View, value: View) -> View:
    reason = ("padded", eqn)
    for axis, (low, high, inside) in enumerate(eqn.params["padding_config"]):
        n = x.shape()[axis]
        if inside and n > 1:
            gaps = [((m,) if m > 1 else ()) for m in x.shape()]
            size = (n - 1) * inside
            gaps[axis] = (size,) if size > 1 else ()
            order = np.empty(n + size, np.int64)
            places = np.arange(n + size)
            taken = places % (inside + 1) == 0
            order[taken], order[~taken] = np.arange(n), n + np.arange(size)
            wide = join(walk, [x, View(gaps)], axis, reason)
            x = take(walk, wide, axis, order, reason)
        if low < 0 or high < 0:
            m = x.shape()[axis]
            x = take_range(walk, x, axis, max(-low, 0), m - max(-high, 0), reason)
        low, high = int(max(low, 0)), int(max(high, 0))
        if low or high:
            x = _pad_axis(walk, x, axis, low, high, reason)
    return x


def _pad_axis(walk: Walk, x: View, axis: int, low: int, high: int, reason) -> View:
    if walk.is_pinned(x.axes[axis]):
        return walk.renewed(x, axis, x.shape()[axis] + low + high, reason)
    shape, key = x.shape(), walk.fresh()
    blank = [
        View([((n,) if n > 1 else ()) if k != axis else (m,) for k, n in enumerate(shape)], key=key)
        for m in (low, high)
    ]
    return join(
        walk,
        [v for v, m in zip((blank[0], x, blank[1]), (low, 1, high), strict=True) if m],
        axis,
        reason,
    )


@register_rule("tile")
def _tile(walk: Walk, eqn, x: View) -> View:
    reps = eqn.params["reps"]
    return x.but([((r,) if r > 1 else ()) + tuple(a) for r, a in zip(reps, x.axes, strict=True)])
