"""Rules in which the order of an axis matters: cumulative sums, sorting, selecting, transforms."""

from __future__ import annotations

import numpy as np

from ..inference.values import Index, View
from ..inference.walk import KNOWS_COORDINATES, RULES, Walk, register_rule

KNOWS_COORDINATES |= {"sort"}


def _words(view: View) -> list[str]:
    return [f"i{k}" for k in range(len(view.axes))]


def _cumulative(walk: Walk, eqn, x: View) -> View:
    walk.pin(x, eqn.params["axis"], ("accumulated in order", eqn))
    return View(x.axes, x.hidden)


for _name in "cumsum cumprod cummax cummin cumlogsumexp".split():
    RULES[_name] = _cumulative


@register_rule("sort")
def _sort(walk: Walk, eqn, *views: View) -> list[View]:
    """The operands' axis stays free: a sorted result does not depend on the order it came in."""
    axis = eqn.params["dimension"]
    reason = ("sorted along it", eqn)
    joint = walk.elementwise([View(v.axes, v.hidden) for v in views])
    n = joint.shape()[axis]
    words = _words(joint)
    out = [w if k != axis else "rank" for k, w in enumerate(words)]
    results = []
    for v in views:
        one = walk.einsum([joint], [words], out, {"rank": n}, reason)
        index = None if v.index is None else v.index._replace(token=walk.fresh())
        results.append(View(one.axes, one.hidden, index))
    return results


@register_rule("top_k")
def _top_k(walk: Walk, eqn, x: View) -> list[View]:
    reason = ("ranked along it", eqn)
    k = eqn.params["k"]
    axis = eqn.params.get("axis", -1) % len(x.axes)
    words = _words(x)
    out = [w if i != axis else "rank" for i, w in enumerate(words)]
    values = walk.einsum([x], [words], out, {"rank": k}, reason)
    return [values, View(values.axes, values.hidden, Index(x.axes[axis], token=walk.fresh()))]


def _arg(walk: Walk, eqn, x: View) -> View:
    (axis,) = eqn.params["axes"]
    words = _words(x)
    items = x.axes[axis]
    y = walk.einsum([x], [words], [w for k, w in enumerate(words) if k != axis])
    return View(
        y.axes, y.hidden, Index(items, token=walk.fresh()) if np.prod(x.shape()[axis]) > 1 else None
    )


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
