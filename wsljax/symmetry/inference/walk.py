"""The walk over a traced function: every equation becomes links between the axes of its arrays.

A rule sees views and returns views. Most rules are one call of :meth:`Equations.einsum`, which says in
index notation what an equation does; everything that is not so expressed is pinned with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import numpy as np

from ..._compat import Literal, open_jaxpr, source_line, sub_jaxprs
from .constants import LAYOUT, fold, view_of_constant
from .distinct import distinct_axes
from .equations import Equations
from .picks import Picked, pick, rearranged, reversed_axes, sliced
from .values import View

Rule = Callable[..., "View | Sequence[View]"]
RULES: dict[str, Rule] = {}
TAKES_COLUMNS: set[str] = set()
"""Primitives whose rules know rows of coordinates (``View.columns``)."""
POINTWISE_NAMES: set[str] = set()
KNOWS_COORDINATES: set[str] = set()
"""Primitives whose rules know values that are coordinates (``View.index``); others spend them."""


def register_rule(primitive: Any) -> Callable[[Rule], Rule]:
    """Teach inference a primitive.

    Args:
        primitive: a ``jax.extend.core.Primitive``, or its name.

    Returns:
        A decorator for ``rule(walk, eqn, *views) -> view or views``. ``walk.einsum(views, in_labels,
        out_labels)`` states an equation in index notation, ``walk.elementwise(views)`` a pointwise one,
        ``walk.pin(view, axis, reason)`` fixes an axis, ``walk.fixed(shape, reason)`` makes a value of
        which every axis is fixed.

    Raises:
        TypeError: if ``primitive`` is neither.

    Example:
        >>> @register_rule("my_scaled_dot")
        ... def my_scaled_dot(walk, eqn, x, y):
        ...     return walk.einsum([x, y], ["i k", "k j"], "i j")
    """
    name = primitive if isinstance(primitive, str) else getattr(primitive, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"`register_rule` takes a primitive or its name, got {primitive!r}")

    def register(rule: Rule) -> Rule:
        RULES[name] = rule
        return rule

    return register


PICKING = {"slice", "rev"}


class Walk(Equations):
    """State of one walk over a trace."""

    def __init__(self, unroll: frozenset[Hashable] = frozenset()):
        super().__init__()
        self.unroll = unroll
        self.loops: list = []
        self.chosen: list = []
        self.unknown: list[str] = []
        self.ranks = self.picking = False
        self._keys: dict[Hashable, int] = {}
        self._live: dict[int, tuple[Any, list[bool]]] = {}

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[View]) -> list[View]:
        """Walk a jaxpr; ``consts`` are its constants' values or views, ``args`` its operands' views."""
        env: dict[Any, View] = {}
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            env[var] = value if isinstance(value, View) else view_of_constant(self, value)
        for var, view in zip(jaxpr.invars, args, strict=True):
            env[var] = view

        def read(atom: Any) -> View:
            if not isinstance(atom, Literal):
                return env[atom]
            aval = cast(Any, atom.aval)
            if not aval.shape:
                return View((), const=np.asarray(atom.val) if aval.dtype.kind in "biu" else None)
            return view_of_constant(self, atom.val)

        if id(jaxpr) not in self._live:
            self._live[id(jaxpr)] = (jaxpr, _live(jaxpr))
        for eqn, needed in zip(jaxpr.eqns, self._live[id(jaxpr)][1], strict=True):
            if not needed:
                continue
            views = [read(a) for a in eqn.invars]
            for var, view in zip(eqn.outvars, self.apply(eqn, views), strict=True):
                env[var] = view
        return [read(a) for a in jaxpr.outvars]

    def apply(self, eqn: Any, views: list[View]) -> list[View]:
        """The views of an equation's results."""
        name = eqn.primitive.name
        folded = fold(eqn, views) if not views or views[0].const is not None else None
        if folded is not None and (name not in LAYOUT or len(views[0].factors()) < 2):
            return [view_of_constant(self, folded)]
        some = self.picking and any([type(v) is Picked for v in views])
        if some or name in PICKING:
            chosen = self._picked(eqn, name, views)
            if chosen is not None:
                return [chosen]
        rule = RULES.get(name)
        if rule is None:
            inner = sub_jaxprs(eqn)
            if len(inner) == 1:
                jaxpr, consts = open_jaxpr(inner[0][1])
                if _same_avals(jaxpr.invars, eqn.invars) and _same_avals(
                    jaxpr.outvars, eqn.outvars
                ):
                    self.callers.append(eqn)
                    outs = self.run(jaxpr, consts, views)
                    self.callers.pop()
                    return outs
            rule = _unknown
        if some:
            views = [self.laid_out(v) for v in views]
        for view in views:
            if view.index is None and not view.columns:
                continue
            if name not in KNOWS_COORDINATES or view.columns and name not in TAKES_COLUMNS:
                self.spend(view, ("coordinates are read as numbers", eqn))
        out = rule(self, eqn, *views)
        outs = [out] if isinstance(out, View) else list(out)
        flags = distinct_axes(eqn, views) if self.ranks else None
        if flags is not None:
            for view in outs:
                if all(view is not v for v in views):
                    view.distinct = flags
        if folded is not None and all(outs[0] is not v for v in views):
            outs[0].const = folded
        if name in POINTWISE_NAMES and outs[0].axes:
            return outs
        for view, var in zip(outs, eqn.outvars, strict=True):
            if view.shape() != var.aval.shape:
                raise AssertionError(
                    f"rule for {name} gave shape {view.shape()}, jax {var.aval.shape}"
                )
        if len(outs) == 1 and not outs[0].axes and outs[0].key is None:
            outs[0].key = self._value_key(eqn, views)
        return outs

    def laid_out(self, view: View) -> View:
        """The view itself, or where it is some coordinates of another value, an array of them."""
        if type(view) is not Picked:
            return view
        if view.value is None:
            view.value = RULES["picked"](self, None, view)  # type: ignore[assignment]
            view.value.distinct = view.distinct  # type: ignore[union-attr]
        return view.value  # type: ignore[return-value]

    def _picked(self, eqn: Any, name: str, views: list[View]) -> View | None:
        """A value that is other coordinates of another one; None if it is more than that."""
        self.picking = True
        if name == "slice":
            return sliced(eqn, views[0])
        if name == "rev":
            return reversed_axes(eqn, views[0])
        if name in POINTWISE_NAMES and len(eqn.outvars) == 1:
            busy = [v for v in views if type(v) is Picked]
            if len(busy) == 1 and all(v is busy[0] or not v.shape() for v in views):
                base = [busy[0].base if v is busy[0] else v for v in views]
                (out,) = self.apply(eqn, base)
                return pick(out, busy[0].picks, busy[0].reason)
        if name == "concatenate" and getattr(eqn.outvars[0].aval.dtype, "kind", "u") not in tuple(
            "iu"
        ):
            axis = eqn.params["dimension"]
            found = rearranged(views, axis)
            if found is not None:
                parents, order = found
                reason = ("joined with axes that do not fit", eqn)
                whole = parents[0]
                if len(parents) > 1:
                    whole = cast(View, RULES["joined"](self, axis, *parents))
                return pick(whole, {axis: order}, reason)
        return None

    def _value_key(self, eqn: Any, views: list[View]) -> Hashable:
        """Equal for integer scalars computed alike from equal scalars, so that equal indices are known."""
        if getattr(eqn.outvars[0].aval.dtype, "kind", "") not in tuple(
            "biu"
        ):  # a random key has none
            return None
        parts = []
        for v in views:
            if v.const is not None and np.ndim(v.const) == 0:
                parts.append(("const", v.const.item()))
            elif v.key is None:
                return self.fresh()
            else:
                parts.append(v.key)
        mark = (
            eqn.primitive.name,
            str(sorted(eqn.params.items(), key=lambda kv: kv[0])),
            tuple(parts),
        )
        return self._keys.setdefault(mark, self.fresh())


def _same_avals(inner: Sequence[Any], outer: Sequence[Any]) -> bool:
    return len(inner) == len(outer) and all(
        tuple(a.aval.shape) == tuple(b.aval.shape) for a, b in zip(inner, outer, strict=True)
    )


def _live(jaxpr: Any) -> list[bool]:
    """Which equations the outputs need."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    live = []
    for eqn in reversed(jaxpr.eqns):
        on = not needed.isdisjoint(eqn.outvars)
        if on:
            needed.update([v for v in eqn.invars if not isinstance(v, Literal)])
        live.append(on)
    return live[::-1]


def _unknown(walk: Walk, eqn: Any, *views: View) -> list[View]:
    """A primitive without a rule: all it touches is pinned, and said so."""
    reason = ("no rule for this primitive", eqn)
    walk.unknown.append(f"{eqn.primitive.name} at {_line(eqn, walk.callers)}")
    for view in views:
        walk.pin_view(view, reason)
    return [walk.fixed(v.aval.shape, reason) for v in eqn.outvars]


def describe(reason: Any) -> str:
    """A pin's reason as text, with the source line."""
    if isinstance(reason, str):
        return reason
    text, eqn, *callers = reason
    return f"{text}: {eqn.primitive.name} at {_line(eqn, callers[0] if callers else ())}"


def _line(eqn: Any, callers: Sequence[Any]) -> str:
    """An equation's source line; inside library code, that of the nearest call that has one."""
    lines = [source_line(e) for e in (eqn, *reversed(callers))]
    return next((line for line in lines if line != "unknown source"), lines[0])
