"""From named classes to the axis trees of one array."""

from __future__ import annotations

from math import prod

import numpy as np

from ..axes import Alt, Axis, Fixed, Prod, Reorder, Sum, Unit
from .branches import coordinates
from .ports import LEAF, find, inverse, is_identity, opened
from .shown import Shown


class Trees:
    """Writes axis trees; :class:`~.annotate.Annotator` gives the atoms."""

    needs: dict[int, dict[int, set[int]]]

    def atom(self, node: int) -> Axis | None:
        """The atom of a node; None for a segment that has been joined to another one."""
        raise NotImplementedError

    def sequence(self, s: Shown, k: int, rest: tuple[int, ...]) -> list[int]:
        """The segments of a leaf factor, joint ones brought together, in one cell of the others."""
        raise NotImplementedError

    def trees(self, s: Shown) -> tuple[Axis, ...]:
        """The axis trees of one array."""
        if s.array is None:
            return tuple(Fixed(n) for n in s.shape)
        if not s.array.cut and all(find(f.port).kind == LEAF for f in s.array.factors):
            return tuple(
                _tidy(self._axis(s, {}, {}, items, n))
                for items, n in zip(s.axes, s.shape, strict=True)
            )
        trees = self._trees(s, self.needs[id(s)], {})
        return tuple(self._in_order(s, axis, tree) for axis, tree in enumerate(trees))

    def _in_order(self, s: Shown, axis: int, tree: Axis) -> Axis:
        """An axis tree, reindexed where its coordinates stand in another order on the axis."""
        items, needs = s.axes[axis], self.needs[id(s)]
        if not any(kind == "leaf" and self._moved(s, k) for kind, k in items) and _sequence(
            items, needs
        ) == list(range(len(items))):
            return tree
        at = []
        for kind, k in items:
            order = np.arange(k) if kind == "wild" else self._coordinates(s, k)
            at.append(order)
        where = np.zeros([1] * len(at), np.int64)
        for j, order in enumerate(at):
            shape = [1] * len(at)
            shape[j] = len(order)
            where = where * len(order) + order.reshape(shape)
        where = where.transpose(_sequence(items, needs)).reshape(-1)
        order = inverse(where)
        if is_identity(order) or isinstance(tree, Fixed) and tree.name is None:
            return tree
        return Reorder(tree, tuple(order.tolist()))

    def _moved(self, s: Shown, k: int) -> bool:
        options = s.array.options[k]  # type: ignore[union-attr]
        if len(options) == 1 and opened(s.array.factors[k].port)[1] is None:  # type: ignore[union-attr]
            return False
        return not is_identity(self._coordinates(s, k))

    def _coordinates(self, s: Shown, k: int) -> np.ndarray:
        """Where on a leaf factor each coordinate of its tree lies."""
        found = coordinates(s.array.factors[k].port)  # type: ignore[union-attr]
        if len(found) == 1:
            return found[0]
        return np.concatenate([found[i] for i in self.sequence(s, k, s.contexts(k)[0])])

    def _trees(self, s: Shown, needs: dict[int, set[int]], choice: dict[int, int]) -> list[Axis]:
        array = s.array
        assert array is not None
        for k, gs in needs.items():
            for g in gs:
                if g in choice or s.axis_of(g) == s.axis_of(k):
                    continue
                axis = s.axis_of(g)
                assert axis is not None
                subs = [
                    self._trees(s, needs, {**choice, g: i}) for i in range(len(array.options[g]))
                ]
                subs = _grouped(subs, axis)
                out: list[Axis] = []
                for a in range(len(s.axes)):
                    column = [sub[a] for sub in subs]
                    if a == axis:
                        out.append(Sum(tuple(column)) if len(column) > 1 else column[0])
                    else:
                        out.append(
                            column[0]
                            if all(c == column[0] for c in column)
                            else Alt(axis, tuple(column))
                        )
                return out
        return [
            _tidy(self._axis(s, needs, choice, [items[j] for j in _sequence(items, needs)], n))
            for items, n in zip(s.axes, s.shape, strict=True)
        ]

    def _axis(self, s: Shown, needs, choice: dict[int, int], items, size: int) -> Axis:
        array = s.array
        assert array is not None
        parts: list[Axis] = []
        for j, (kind, k) in enumerate(items):
            if kind == "wild":
                parts.append(Fixed(k))
                continue
            options = range(len(array.options[k]))
            if k in choice or len(options) == 1:
                known = self._leaves(s, {k: 0, **choice}, k)
                assert known is not None
                parts += known
                continue
            later = items[j + 1 :]
            if any(kind2 == "leaf" and k in needs[m] for kind2, m in later):
                left = [items[j], *later]
                subs = [self._axis(s, needs, {**choice, k: i}, left, 0) for i in options]
                parts.append(Sum(tuple(subs)))
                return Prod(tuple(parts))
            rows = []
            for i in options:
                leaves = self._leaves(s, {**choice, k: i}, k)
                if leaves is not None:
                    rows.append(Prod(tuple(leaves)) if leaves else Fixed(1))
            parts.append(Sum(tuple(rows)))
        if not parts:
            return Fixed(1 if size == 0 else size)
        return parts[0] if len(parts) == 1 else Prod(tuple(parts))

    def _leaves(self, s: Shown, choice: dict[int, int], k: int) -> list[Axis] | None:
        """The atoms of one leaf factor in a cell that agrees with ``choice`` (others do not matter).

        None if a segment of it has been joined to another one.
        """
        array = s.array
        assert array is not None
        full = tuple(choice.get(g, 0) for g in range(len(array.options)))
        found = [self.atom(n) for n in array.cells[full][k]]
        known = [a for a in found if a is not None]
        if len(known) < len(found):
            return None
        return known or ([Fixed(1)] if len(array.options[k]) > 1 else [])


def _sequence(items: list[tuple[str, int]], needs: dict[int, set[int]]) -> list[int]:
    """The order in which the factors of an axis are written: those that decide on others before them."""
    here = {k for kind, k in items if kind == "leaf"}
    left, done, out = list(range(len(items))), set(), []
    while left:
        j = next(j for j in left if items[j][0] == "wild" or needs[items[j][1]] & here <= done)
        left.remove(j)
        done.add(items[j][1]) if items[j][0] == "leaf" else None
        out.append(j)
    return out


def _grouped(subs: list[list[Axis]], axis: int) -> list[list[Axis]]:
    """Neighbouring segments that are fixed and otherwise alike, as one."""
    out = [subs[0]]
    for sub in subs[1:]:
        last = out[-1]
        alike = all(x == y for a, (x, y) in enumerate(zip(last, sub, strict=True)) if a != axis)
        one, two = last[axis], sub[axis]
        if (
            alike
            and isinstance(one, Fixed)
            and isinstance(two, Fixed)
            and not (one.name or two.name)
        ):
            merged = list(last)
            merged[axis] = Fixed(one.size + two.size)
            out[-1] = merged
        else:
            out.append(sub)
    return out


def _tidy(tree: Axis) -> Axis:
    """Flatten sums and products, join what is fixed, rejoin factors that stand in order."""
    if isinstance(tree, (Fixed, Unit)):
        return tree
    if isinstance(tree, Alt):
        return Alt(tree.axis, tuple(_tidy(p) for p in tree.parts))
    assert not isinstance(tree, Reorder)
    flat: list[Axis] = []
    for p in map(_tidy, tree.parts):
        flat += p.parts if isinstance(p, (Prod, Sum)) and type(p) is type(tree) else (p,)
    if isinstance(tree, Prod):
        flat = [
            p for p in flat if not (isinstance(p, Fixed) and p.size == 1 and p.name is None)
        ] or [Fixed(1)]
    out: list[Axis] = []
    for p in flat:
        last = out[-1] if out else None
        if (
            isinstance(p, Fixed)
            and isinstance(last, Fixed)
            and p.name is None
            and last.name is None
        ):
            n = last.size * p.size if isinstance(tree, Prod) else last.size + p.size
            out[-1] = Fixed(n)
        else:
            out.append(p)
    return out[0] if len(out) == 1 else type(tree)(tuple(out))


def rejoin(trees: tuple[Axis, ...], parts_of: dict[str, tuple[int, ...]]) -> tuple[Axis, ...]:
    """Factors ``(u.0 u.1)`` that stand in order are written ``u``."""

    def visit(tree: Axis) -> Axis:
        if isinstance(tree, (Fixed, Unit)):
            return tree
        if isinstance(tree, Alt):
            return Alt(tree.axis, tuple(map(visit, tree.parts)))
        if isinstance(tree, Reorder):
            return Reorder(visit(tree.tree), tree.order)
        parts = list(map(visit, tree.parts))
        if isinstance(tree, Prod):
            i = 0
            while i < len(parts):
                p = parts[i]
                if isinstance(p, Unit) and p.part == 0:
                    n = len(parts_of[p.name])
                    run = parts[i : i + n]
                    if [(getattr(q, "name", None), getattr(q, "part", None)) for q in run] == [
                        (p.name, j) for j in range(n)
                    ]:
                        parts[i : i + n] = [Unit(p.name, prod(parts_of[p.name]), None, p.at)]
                i += 1
        return parts[0] if len(parts) == 1 else type(tree)(tuple(parts))

    return tuple(map(visit, trees))
