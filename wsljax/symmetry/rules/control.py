"""Rules for control flow: branches, loops and scans."""

from __future__ import annotations

from typing import NamedTuple

from ..._compat import open_jaxpr, scan_split, while_split
from ..inference.values import Entry, Factor, Link, Variable, View, align, size_of
from ..inference.walk import KNOWS_COORDINATES, Walk, register_rule
from .segments import take_range
from .shape import join

KNOWS_COORDINATES |= {"cond", "while", "scan"}


class Loop(NamedTuple):
    """A scan over stacked values: which links carry it from step to step, and what it carries."""

    mark: int
    length: int
    carrying: tuple[range, ...]
    structs: list
    carries: list[View]
    results: list[View]


def tie(walk: Walk, a: View, b: View, reason) -> None:
    """State that two values of one shape have the same axes."""
    a, b = walk.laid_out(a), walk.laid_out(b)
    walk.spend(a, reason)
    walk.spend(b, reason)
    variables = []
    keys = [k for k in a.hidden if k in b.hidden]
    pairs = [*zip(a.axes, b.axes, strict=True), *((a.hidden[k], b.hidden[k]) for k in keys)]
    pairs += [(items, None) for k, items in a.hidden.items() if k not in b.hidden]
    pairs += [(None, items) for k, items in b.hidden.items() if k not in a.hidden]
    for x, y in pairs:
        slots = align([x, y])
        if slots is None:
            for items in (x, y):
                walk.pin_items(items or (), reason)
            slots = [(i, None) for i in x or ()] + [(None, i) for i in y or ()]
        for slot in slots:
            entries = tuple(Entry(r, (i,)) for r, i in enumerate(slot) if isinstance(i, Factor))
            if entries:
                variables.append(Variable(size_of(entries[0].items[0]), entries))
    if variables:
        walk.links.append(Link(2, tuple(variables)))


@register_rule("cond")
def _cond(walk: Walk, eqn, which: View, *views: View) -> list[View]:
    reason = ("branches whose axes do not fit", eqn)
    walk.spend(which, ("coordinates are read as numbers", eqn))
    results = []
    for branch in eqn.params["branches"]:
        jaxpr, consts = open_jaxpr(branch)
        results.append([walk.laid_out(v) for v in walk.run(jaxpr, consts, list(views))])
    outs = []
    for options in zip(*results, strict=True):
        for o in options:
            walk.spend(o, ("coordinates are read as numbers", eqn))
        out = walk.elementwise([View(o.axes, o.hidden) for o in options], reason)
        out.distinct = tuple(map(all, zip(*(o.distinct for o in options), strict=False)))
        outs.append(out)
    return outs


def _carry(walk: Walk, init: View, reason) -> View:
    """An array for a loop's carried value, tied to its first value."""
    carry = walk.array(init.shape())
    tie(walk, init, carry, reason)
    carry.key = walk.fresh()
    return carry


@register_rule("while")
def _while(walk: Walk, eqn, *views: View) -> list[View]:
    reason = ("carried by a loop", eqn)
    n = while_split(eqn)
    cond_consts = views[: n.num_cond_consts]
    body_consts = views[n.num_cond_consts : n.num_cond_consts + n.num_body_consts]
    carries = [_carry(walk, v, reason) for v in views[n.num_cond_consts + n.num_body_consts :]]
    test, test_consts = open_jaxpr(eqn.params["cond_jaxpr"])
    walk.run(test, test_consts, [*cond_consts, *carries])
    body, consts = open_jaxpr(eqn.params["body_jaxpr"])
    for carry, new in zip(carries, walk.run(body, consts, [*body_consts, *carries]), strict=True):
        tie(walk, new, carry, reason)
    return [View(c.axes) for c in carries]


@register_rule("scan")
def _scan(walk: Walk, eqn, *views: View) -> list[View]:
    n = scan_split(eqn)
    length = eqn.params["length"]
    consts = views[: n.num_consts]
    inits = views[n.num_consts : n.num_consts + n.num_carry]
    xs = list(views[n.num_consts + n.num_carry :])
    jaxpr, values = open_jaxpr(eqn.params["jaxpr"])
    mark = id(eqn)
    if mark in walk.unroll:
        return _unrolled(walk, eqn, jaxpr, values, consts, inits, xs, length)
    reason = ("carried by a loop", eqn)
    first, structs, chosen = len(walk.links), len(walk.structs), len(walk.chosen)
    carries = [_carry(walk, v, reason) for v in inits]
    start = len(walk.links)
    key = ("step", walk.fresh())
    steps = ("steps of a loop, in order", eqn)
    inside = []
    for x in xs:
        walk.spend(x, reason) if x.index is not None and x.axes[0] else None
        if n.num_carry:
            walk.pin_items(x.axes[0], steps)
        one = View(x.axes[1:], {**x.hidden, key: x.axes[0]}, x.index)
        one.key = walk.fresh() if not one.axes else None
        one.distinct = x.distinct[1:]
        inside.append(one)
    outs = [walk.laid_out(v) for v in walk.run(jaxpr, values, [*consts, *carries, *inside])]
    back = len(walk.links)
    for carry, new in zip(carries, outs[: n.num_carry], strict=True):
        tie(walk, new, carry, reason)
    finals = [View(c.axes) for c in carries]
    if n.num_carry and (xs or len(walk.chosen) > chosen) and length > 1:
        finals = [_carry(walk, View(c.axes), reason) for c in carries]
        inner = walk.structs[structs:] + [f.struct for x in xs for f in x.factors()]
        inner += walk.chosen[chosen:]
        carrying = (range(first, start), range(back, len(walk.links)))
        walk.loops.append(Loop(mark, length, carrying, inner, carries, outs[: n.num_carry]))
    stacked = []
    known = {k for v in views for k in v.hidden}
    for y in outs[n.num_carry :]:
        hidden = dict(y.hidden)
        lead = hidden.pop(key, None)
        hidden = {k: items for k, items in hidden.items() if k in known}  # not those of one step
        walk.spend(y, reason)
        if lead is None:
            lead = (length,) if length > 1 else ()
            if n.num_carry and length > 1:
                lead = walk.fixed((length,), steps).axes[0]
                words = [f"i{k}" for k in range(len(y.axes))]
                wide = walk.einsum(
                    [View((), {}), View(y.axes, hidden), View([lead])],
                    [[], words, ["step"]],
                    ["step", *words],
                )
                stacked.append(wide)
                continue
        stacked.append(View([lead, *y.axes], hidden))
        stacked[-1].distinct = (False, *y.distinct) if y.distinct else ()
    return finals + stacked


def _unrolled(walk: Walk, eqn, jaxpr, values, consts, inits, xs, length: int) -> list[View]:
    """A scan step by step, so that each step may have units of its own."""
    reason = ("steps of a loop, in order", eqn)
    carries: list[View] = list(inits)
    outs: list[list[View]] = [[]] * length
    steps = range(length)[::-1] if eqn.params["reverse"] else range(length)
    for t in steps:
        inside = []
        for x in xs:
            one = take_range(walk, x, 0, t, t + 1, reason)
            inside.append(View(one.axes[1:], one.hidden, one.index))
            inside[-1].distinct = x.distinct[1:]
        results = walk.run(jaxpr, values, [*consts, *carries, *inside])
        carries, outs[t] = results[: len(inits)], results[len(inits) :]
    stacked = []
    for k in range(len(outs[0])):
        rows = [View([(), *v.axes], v.hidden) for v in (walk.laid_out(o[k]) for o in outs)]
        stacked.append(join(walk, rows, 0, reason) if length > 1 else rows[0])
    carries = [walk.laid_out(c) for c in carries]
    return [View(c.axes, c.hidden, c.index) for c in carries] + stacked
