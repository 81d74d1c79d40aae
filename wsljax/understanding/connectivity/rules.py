"""What single equations do to handles: layers begin them, sums join them, gains begin new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..._compat import source_line
from . import views as v
from .views import Computed, Event, Handle, Known, Norm, Root, Use, Value, View, Where


class Rules:
    """The rules, by name of the primitive: ``_add(equation, infos, where)`` for ``add``.

    Each gives what :class:`.Walk` is to know of the results, or None: then no handle is carried on.
    """

    norms: list[Norm]
    uses: list[Use]
    left: list[str]

    def number(self) -> int:
        """A number that nothing has yet."""
        raise NotImplementedError

    def use(self, view: View) -> Use:
        """Entries of a leaf are read."""
        raise NotImplementedError

    def consume(self, info: Any) -> None:
        """Something is read by what does not carry its handle on."""
        raise NotImplementedError

    # -------------------------------------------------------------------------------------------- layers
    def _dot_general(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        (contract, batch) = eqn.params["dimension_numbers"]
        a, b = infos
        if not isinstance(a, Value) and not isinstance(b, Value):
            return None
        k = 0 if isinstance(b, Value) else 1  # which operand is the kernel
        kernel = infos[k]
        ranks = [len(x.aval.shape) for x in eqn.invars]
        free = [
            [d for d in range(ranks[i]) if d not in contract[i] and d not in batch[i]]
            for i in (0, 1)
        ]
        start = len(batch[0]) + (len(free[0]) if k else 0)
        axes = {d: start + n for n, d in enumerate(free[k])}
        axes |= {d: n for n, d in enumerate(batch[k])}
        return self._layer(eqn, kernel, infos[1 - k], axes, where)

    def _conv_general_dilated(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        if not isinstance(infos[0], Value) or isinstance(infos[1], Value):
            return None
        numbers = eqn.params["dimension_numbers"]
        axes = {numbers.rhs_spec[0]: numbers.out_spec[1]}
        if eqn.params["batch_group_count"] != 1:
            axes = {}
        return self._layer(eqn, infos[1], infos[0], axes, where)

    def _layer(self, eqn, kernel, value, axes: dict[int, int], where: Where) -> list[Any] | None:
        """A product of a value with a kernel, whose ``axes`` become axes of the result."""
        self.consume(value)
        if isinstance(kernel, (Value, Known)):
            self.consume(kernel)
            return [Value(where, fresh_of([kernel, value]))]
        name = {"dot_general": "product", "conv_general_dilated": "convolution"}[eqn.primitive.name]
        place = f"the {name} at {source_line(eqn)}"
        if not isinstance(kernel, View):
            self.consume(kernel)
            self.left.append(f"{place}: its weights are computed from leaves, not entries of one")
            return [Value(where)]
        use = self.use(kernel)
        shape = eqn.outvars[0].aval.shape
        sizes = {
            d: kernel.index.shape[d]
            for d in sorted(axes)
            if v.follows(kernel.index, v.spread({d: kernel.index.shape[d]}, kernel.index.shape))
        }
        if not sizes or not kernel.linear:
            self.left.append(f"{place}: its weights cannot be rescaled unit by unit")
            return [Value(where)]
        units = v.spread({axes[d]: n for d, n in sizes.items()}, shape)
        event = Event(use, v.spread(sizes, kernel.index.shape))
        count = int(np.prod(list(sizes.values())))
        handle = Handle(self.number(), count, units, (event,))
        return [Value(where, frozenset({handle.number}), handle)]

    # -------------------------------------------------------------------------------- sums and multiples
    def _add(self, eqn: Any, infos: list[Any], where: Where, sign: int = 1) -> list[Any] | None:
        a, b = infos
        if isinstance(a, View) and isinstance(b, Known):
            return [_with(a, "add", None if b.uniform is None else sign * b.uniform)]
        if isinstance(b, View) and isinstance(a, Known) and sign == 1:
            return [_with(b, "add", a.uniform)]
        if isinstance(b, Root) and b.factors and not isinstance(a, Value) and sign == -1:
            self.consume(a)
            return [Computed(b)]
        if isinstance(b, Value) and not isinstance(a, Value) and sign == 1:
            a, b = b, a
        if not isinstance(a, Value):
            return None
        if isinstance(b, View):
            return [self._plus_view(a, b, where, sign)]
        if isinstance(b, Value) and a.handle is not None and b.handle is not None:
            joined = _joined(a.handle, b.handle, sign)
            if joined is not None:
                return [Value(where, fresh_of([a, b]), joined)]
        if (
            isinstance(b, Computed)
            and b.product is not None
            and a.divided is not None
            and sign == 1
        ):
            self._folded_norm(a.divided, b.product)
        return None

    _add_any = _add

    def _sub(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        return self._add(eqn, infos, where, -1)

    def _plus_view(self, a: Value, b: View, where: Where, sign: int) -> Value:
        use = self.use(b)
        centred = (a.where, use) if sign == -1 else None
        h = a.handle
        if h is None or not b.linear or not b.complete or not v.follows(b.index, h.units):
            self.consume(a)
            return Value(where, a.fresh, None, centred)
        event = Event(use, h.units)
        shift = h.shift or ((event, sign) if b.invertible else None)
        handle = replace(h, scale=(*h.scale, event), shift=shift)
        return Value(where, a.fresh, handle, centred)

    def _mul(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        a, b = infos
        if isinstance(b, Value) or (isinstance(a, Known) and not isinstance(b, Known)):
            a, b = b, a
        if isinstance(b, Root) and isinstance(a, View):
            a, b = b, a
        if isinstance(a, View) and isinstance(b, Known):
            return [_with(a, "multiply", b.uniform)]
        if isinstance(a, Root):
            if isinstance(b, View):
                return [Root(a.view, a.power, (*a.factors, self.use(b)))]
            return [a] if isinstance(b, Known) and b.uniform is not None else None
        if not isinstance(a, Value):
            return None
        if isinstance(b, Value):  # a gain that was multiplied to a deviation first
            gains = [x.handle is not None and not x.handle.layer for x in (a, b)]
            if sum(gains) != 1:
                return None
            a, b = (a, b) if gains[0] else (b, a)
            self.consume(b)
            return [replace(_times(a, where), fresh=fresh_of([a, b]))]
        if isinstance(b, View):
            return [self._times_view(a, self.use(b), where)]
        if isinstance(b, Root):
            if b.power < 0:
                self._norm(a, b)
            out = self._times_view(a, b.factors[-1], where) if b.factors else _times(a, where)
            divided = (a.where, b) if b.power < 0 else None
            return [Value(where, out.fresh, out.handle, None, divided)]
        return [_times(a, where)]

    def _div(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        a, b = infos
        if isinstance(b, Root) and not b.factors:
            inverse = Root(b.view, -b.power)
            if isinstance(a, Known):
                return [inverse]
            if isinstance(a, View):
                return [Root(inverse.view, inverse.power, (self.use(a),))]
            return self._mul(eqn, [a, inverse], where)
        if isinstance(a, View) and isinstance(b, Known):
            return [_with(a, "multiply", None if not b.uniform else 1 / b.uniform)]
        if isinstance(a, Value) and isinstance(b, (Known, Computed)):
            return [_times(a, where)]
        return None

    def _neg(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        (a,) = infos
        if isinstance(a, View):
            return [_with(a, "multiply", -1.0)]
        return [_times(a, where)] if isinstance(a, Value) else None

    def _times_view(self, a: Value, gain: Use, where: Where) -> Value:
        """A value times entries of a leaf, which rescale the result from here on."""
        if not gain.view.linear or not gain.view.complete:
            return _times(a, where)
        units, count = v.numbered(gain.view.index)
        if units.size > 1 and (count == 1 or (a.handle is not None and count < a.handle.count)):
            return _times(a, where)  # one gain for many units
        before = _before(a)
        handle = Handle(self.number(), count, units, (Event(gain, units),), None, before, False)
        return Value(where, a.fresh | {handle.number}, handle)

    # ------------------------------------------------------------------------------------ simple functions
    def _max(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        a, b = infos if isinstance(infos[0], View) else infos[::-1]
        if isinstance(a, View) and isinstance(b, Known) and b.uniform is not None:
            return [_with(a, "clip", b.uniform)]
        return None

    def _exp(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        return [_with(infos[0], "exp", 0.0)] if isinstance(infos[0], View) else None

    def _log(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        return [_with(infos[0], "log", 0.0)] if isinstance(infos[0], View) else None

    def _sqrt(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        return [self._root(infos[0], 0.5)] if isinstance(infos[0], View) else None

    def _rsqrt(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        return [self._root(infos[0], -0.5)] if isinstance(infos[0], View) else None

    def _pow(self, eqn: Any, infos: list[Any], where: Where) -> list[Any] | None:
        a, b = infos
        if isinstance(a, View) and isinstance(b, Known) and b.uniform in (0.5, -0.5):
            return [self._root(a, b.uniform)]
        return None

    def _root(self, view: View, power: float) -> Root:
        self.use(view)
        steps = view.steps
        if steps and steps[-1][0] == "add":
            steps = steps[:-1]  # epsilon
        return Root(View(view.source, view.index, steps), power)

    # ---------------------------------------------------------------------------------------- statistics
    def _norm(self, a: Value, root: Root) -> None:
        """``(x - mean) / sqrt(variance + epsilon)``."""
        if a.centred is not None:
            self._found_norm(a.centred[0], a.centred[1], root)

    def _folded_norm(self, divided: tuple[Where, Root], product: Root) -> None:
        """``x * scale + (bias - mean * scale)``."""
        where, root = divided
        own = {u.number for u in root.factors}
        more = [u for u in product.factors if u.number not in own]
        same = root.view.source == product.view.source
        if same and len(more) == 1 and len(product.factors) == len(own) + 1:
            self._found_norm(where, more[0], root)

    def _found_norm(self, where: Where, mean: Use, root: Root) -> None:
        shapes = np.broadcast_shapes(mean.view.index.shape, root.view.index.shape)
        index = np.broadcast_to(mean.view.index, shapes)
        units, count = v.numbered(index)
        variance = np.broadcast_to(root.view.index, shapes)
        usable = mean.view.complete and mean.view.invertible and root.view.invertible
        if usable and v.follows(variance, units):
            spread = Use(next(u.number for u in self.uses if _same(u.view, root.view)), root.view)
            self.norms.append(Norm(where, count, units, Event(mean, units), Event(spread, units)))


def _same(a: View, b: View) -> bool:
    return a.source == b.source and np.array_equal(np.unique(a.index), np.unique(b.index))


def _with(view: View, name: str, c: float | None) -> View:
    if name == "multiply" and c == 1 or name == "add" and c == 0:
        return view
    return View(view.source, view.index, (*view.steps, (name, c)))


def fresh_of(infos: Sequence[Any]) -> frozenset[int]:
    """Handles of which several values depend without a layer in between."""
    return frozenset().union(*(i.fresh for i in infos if isinstance(i, Value)))


def _before(a: Value) -> tuple[Where, Handle] | None:
    if a.handle is None:
        return None
    return (a.where, a.handle) if a.handle.shift is not None else a.handle.before


def _times(a: Value, where: Where) -> Value:
    """A value times what its weights have no part in: it is rescaled as before, but shifted by another amount."""
    h = a.handle
    if h is not None:
        h = replace(h, shift=None, before=_before(a))
    return Value(where, a.fresh, h)


def _joined(a: Handle, b: Handle, sign: int) -> Handle | None:
    """The handle of a sum or difference, if the units of both are the same."""
    if a.count != b.count or a.units.shape != b.units.shape:
        return None
    if not (v.follows(a.units, b.units) and v.follows(b.units, a.units)):
        return None
    mine, theirs = v.compact(a.units, b.units)
    table = np.zeros(b.count, int)
    table[theirs] = mine
    events = tuple(Event(e.use, table[e.units]) for e in b.scale)
    shift = a.shift
    if shift is None and b.shift is not None:
        shift = (Event(b.shift[0].use, table[b.shift[0].units]), sign * b.shift[1])
    return replace(a, scale=(*a.scale, *events), shift=shift)
