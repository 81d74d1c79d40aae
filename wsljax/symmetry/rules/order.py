"""Rules in which the order of an axis matters: cumulative sums, sorting, selecting, transforms."""

from __future__ import annotations

from collections.abc import Sequence

from ..inference.distinct import ties_along
from ..inference.values import Factor, Index, View
from ..inference.walk import KNOWS_COORDINATES, RULES, Walk, register_rule

KNOWS_COORDINATES |= {"sort"}


def _words(view: View) -> list[str]:
    return [f"i{k}" for k in range(len(view.axes))]


def _cumulative(walk: Walk, eqn, x: View) -> View:
    axis, reason = eqn.params["axis"], ("accumulated in order", eqn)
    walk.pin(x, axis, reason)
    return walk.renewed(x, axis, x.shape()[axis], reason)


for _name in "cumsum cumprod cummax cummin cumlogsumexp".split():
    RULES[_name] = _cumulative


@register_rule("sort")
def _sort(walk: Walk, eqn, *views: View) -> list[View]:
    """The operands' axis stays free: a sorted result does not depend on the order it came in."""
    axis = eqn.params["dimension"]
    reason = ("sorted along it", eqn)
    keys = views[: eqn.params["num_keys"]]
    if len(keys) == 1 and keys[0].index is not None and keys[0].index.whole:
        return _unsort(walk, eqn, views)
    for key in keys:
        walk.spend(key, ("coordinates are compared as numbers", eqn))
    ties = all(ties_along(key, axis) for key in keys)
    if len(views) > len(keys) and ties:
        for v in views:
            walk.pin(v, axis, ("sorted by what may tie", eqn))
    joint = walk.elementwise([View(v.axes, v.hidden) for v in views])
    results = []
    for v in views:
        one = walk.renewed(joint, axis, joint.shape()[axis], reason)
        index = v.index
        if index is not None:
            whole = index.items == v.axes[axis] and not index.spoilt and not ties
            index = index._replace(token=walk.fresh(), whole=whole)
        results.append(View(one.axes, one.hidden, index))
    return results


def _unsort(walk: Walk, eqn, views: Sequence[View]) -> list[View]:
    """Sorting by an index that ranks: what follows goes back to the places that were ranked."""
    axis, key = eqn.params["dimension"], views[0]
    joint = walk.elementwise([View(v.axes, v.hidden) for v in views])
    words = _words(joint)
    out = [w if k != axis else "place" for k, w in enumerate(words)]
    results = []
    for v in views:
        place = View([key.index.items])  # type: ignore[union-attr]
        one = walk.einsum([joint, place], [words, ["place"]], out, reason=("sorted along it", eqn))
        index = v.index
        if index is not None:
            index = index._replace(token=walk.fresh(), whole=index.items == v.axes[axis])
        results.append(View(one.axes, one.hidden, index))
    return results


@register_rule("top_k")
def _top_k(walk: Walk, eqn, x: View) -> list[View]:
    reason = ("ranked along it", eqn)
    k = eqn.params["k"]
    axis = eqn.params.get("axis", -1) % len(x.axes)
    index = _index(walk, x, axis, eqn)
    values = walk.renewed(x, axis, k, reason)
    return [values, View(values.axes, values.hidden, index)]


def _arg(walk: Walk, eqn, x: View) -> View:
    (axis,) = eqn.params["axes"]
    words = _words(x)
    index = _index(walk, x, axis, eqn)
    y = walk.einsum([x], [words], [w for k, w in enumerate(words) if k != axis])
    return View(y.axes, y.hidden, index)


def _index(walk: Walk, x: View, axis: int, eqn) -> Index | None:
    """What an index into an axis counts; None for an axis along which everything is alike."""
    items = x.axes[axis]
    if not items or not all(isinstance(i, Factor) for i in items):
        walk.pin(x, axis, ("ranked although it may tie", eqn))
        return None
    return Index(items, ties_along(x, axis), walk.fresh())


RULES["argmax"] = RULES["argmin"] = _arg


@register_rule("fft")
def _fft(walk: Walk, eqn, x: View) -> View:
    reason = ("Fourier transformed along it", eqn)
    n = len(eqn.params["fft_lengths"])
    words = _words(x)
    out, sizes = list(words), {}
    for k in range(len(words) - n, len(words)):
        walk.pin(x, k, reason)
        out[k] = f"new{k}"
        sizes[out[k]] = eqn.outvars[0].aval.shape[k]
    return walk.einsum([x], [words], out, sizes, reason)
