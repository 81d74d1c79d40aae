"""Rules for primitives that came with recent versions of jax."""

from __future__ import annotations

from ..inference.values import View
from ..inference.walk import Walk, register_rule
from .shape import take_range


@register_rule("unstack")
def _unstack(walk: Walk, eqn, x: View) -> list[View]:
    """One value for each coordinate of an axis: what iterating over an array does."""
    axis = eqn.params["axis"] % len(x.axes)
    out = []
    for k in range(len(eqn.outvars)):
        one = take_range(walk, x, axis, k, k + 1, ("taken apart", eqn))
        rest = [items for d, items in enumerate(one.axes) if d != axis]
        out.append(View(rest, one.hidden))
    return out


@register_rule("approx_top_k")
def _approx_top_k(walk: Walk, eqn, x: View) -> list[View]:
    """Which of the largest are found depends on where they stand."""
    reason = ("ranked along it, in parts", eqn)
    axis = eqn.params["reduction_dimension"] % len(x.axes)
    walk.pin(x, axis, reason)
    size = eqn.outvars[0].aval.shape[axis]
    return [walk.renewed(x, axis, size, reason) for _ in eqn.outvars]
