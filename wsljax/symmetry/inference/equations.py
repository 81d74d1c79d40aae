"""Equations between the axes of arrays: what a rule states, recorded as links and pins."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import Any, cast

import numpy as np

from .ports import Port
from .refine import unify
from .relay import relaid
from .values import (
    Entry,
    Factor,
    Item,
    Items,
    Link,
    Struct,
    Variable,
    View,
    align,
    regroup,
    reshape_runs,
    size_of,
)


class Equations:
    """The links and pins found so far, and the ways to state more."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.pins: list[tuple[Factor, Any]] = []
        self.structs: list[Struct] = []
        self.callers: list[Any] = []
        self.colours: list[tuple[Factor, np.ndarray]] = []
        self._fresh = 0

    # ------------------------------------------------------------------ making values
    def struct(self, ports: Sequence[Port]) -> Struct:
        """A new array with one factor per port."""
        s = Struct()
        s.roots = [Factor(p, s) for p in ports]
        self.structs.append(s)
        return s

    def array(self, shape: Sequence[int]) -> View:
        """A new array about which nothing is known yet: one factor per axis."""
        s = self.struct([Port(n) for n in shape if n > 1])
        it = iter(s.roots)
        return View([(next(it),) if n > 1 else (() if n == 1 else (0,)) for n in shape])

    def fixed(self, shape: Sequence[int], reason: Any) -> View:
        """A new array of which every axis is fixed."""
        view = self.array(shape)
        self.pin_view(view, reason)
        return view

    def fresh(self) -> int:
        """A number never given before."""
        self._fresh += 1
        return self._fresh

    # ------------------------------------------------------------------ pins
    def pin_items(self, items: Items, reason: Any) -> None:
        """Fix every coordinate of these factors."""
        for item in items:
            if isinstance(item, Factor) and not item.pinned:
                item.pinned = item.fixed = True
                if isinstance(reason, tuple) and len(reason) == 2:
                    reason = (*reason, tuple(self.callers))
                self.pins.append((item, reason))

    def is_pinned(self, items: Items) -> bool:
        """Whether an axis has been fixed by a rule already."""
        return bool(items) and all(isinstance(i, int) or i.fixed for i in items)

    def pin(self, view: View, axis: int, reason: Any) -> None:
        """Fix one axis of a value."""
        self.pin_items(view.axes[axis], reason)

    def pin_view(self, view: View, reason: Any) -> None:
        """Fix all axes of a value, those that it hides too, and those that its elements count."""
        for items in (*view.axes, *view.hidden.values()):
            self.pin_items(items, reason)
        self.spend(view, reason)

    def spend(self, view: View, reason: Any) -> None:
        """Fix what a value's elements are coordinates of: they are about to be read as numbers."""
        if view.index is not None:
            self.pin_items(view.index.items, reason)
        for column in view.columns:
            self.spend(column, reason)

    # ------------------------------------------------------------------ equations
    def einsum(
        self,
        views: Sequence[View],
        labels: Sequence[str | Sequence[str]],
        out: str | Sequence[str],
        sizes: dict[str, int] | None = None,
        reason: Any = "an axis made anew",
        choice: tuple[str, Hashable, tuple[str, ...]] | None = None,
    ) -> View:
        """An equation in index notation.

        Args:
            views: the operands.
            labels: for each operand, one label per axis (a list, or text split at spaces).
            out: the labels of the result. A label that no operand has is a new axis, fixed, of the
                size given in ``sizes``.
            choice: ``(label, key, along)``: the result's elements belong to one coordinate of
                ``label``, chosen by the index ``key``, which differs along the labels ``along``.

        Returns:
            The result. Axes of one label are tied; those absent from ``out`` are summed, or anything
            else that treats their coordinates alike. Axes that do not fit together are pinned.
        """
        for view in views:
            if view.index is not None or view.columns:
                self.spend(view, reason)
        words = [w.split() if isinstance(w, str) else list(w) for w in labels]
        target = out.split() if isinstance(out, str) else list(out)
        if sizes is None and choice is None:
            quick = self._contract(views, words, target)
            if quick is not None:
                return quick
        where: dict[Hashable, list[Items | None]] = {}
        for r, (view, word) in enumerate(zip(views, words, strict=True)):
            for label, items in zip(word, view.axes, strict=True):
                entry = where.setdefault(label, [None] * len(views))
                if entry[r] is not None:
                    raise ValueError(f"label {label!r} stands twice in one operand")
                entry[r] = items
            for key, items in view.hidden.items():
                where.setdefault(key, [None] * len(views))[r] = items
        chosen = _chosen_alike(views, words, target) if any(v.gathered for v in views) else {}
        for key in chosen:
            where["gathered", key] = [
                v.gathered[key][0] if key in v.gathered else None for v in views
            ]
        if choice is not None:
            where["gathered", choice[1]] = where.pop(choice[0])
            chosen[choice[1]] = choice[2]
        result = Struct()
        hidden: dict[Hashable, Items] = {}
        axes: dict[Hashable, Items] = {}
        variables: list[Variable] = []
        broken: list[Items] = []
        for label, per_role in where.items():
            slots = _slots(per_role)
            kept = label in target or not isinstance(label, str)
            if slots is None:
                for r, items in enumerate(per_role):
                    broken.append(items or ())
                    variables += [
                        Variable(f.size, (Entry(r, (f,)),))
                        for f in items or ()
                        if isinstance(f, Factor)
                    ]
                if kept:
                    n = next(prod(map(size_of, items)) for items in per_role if items is not None)
                    axes[label] = self._anew(result, n, len(views), variables, broken)
                continue
            made: list[Item] = []
            for slot in slots:
                entries = [
                    Entry(r, (f,))
                    for r, f in enumerate(slot)
                    if f is not None and not isinstance(f, int)
                ]
                n = next(size_of(f) for f in slot if f is not None)
                if n == 1:
                    continue
                if kept:
                    if entries:
                        f = Factor(
                            entries[0].items[0].port, result, any(e.items[0].fixed for e in entries)
                        )
                        result.roots.append(f)
                        entries.append(Entry(len(views), (f,)))
                        made.append(f)
                    else:
                        made.append(n)
                if entries:
                    variables.append(Variable(n, tuple(entries)))
            axes[label] = tuple(made)
        for label in axes:
            if not isinstance(label, str) and not (
                isinstance(label, tuple) and label[0] == "gathered"
            ):
                hidden[label] = axes[label]
        for label in target:
            if label not in axes:
                axes[label] = self._anew(
                    result, (sizes or {})[label], len(views), variables, broken
                )
        self.structs.append(result)
        self.links.append(Link(len(views) + 1, tuple(variables)))
        for items in broken:
            self.pin_items(items, reason)
        view = View([axes[label] for label in target], hidden)
        for key, along in chosen.items():
            items = tuple(i for label in along for i in axes[label])
            if items and all(isinstance(i, Factor) for i in items):
                view.gathered[key] = (axes["gathered", key], items)  # type: ignore[assignment]
        return view

    def _contract(
        self, views: Sequence[View], words: list[list[str]], target: list[str]
    ) -> View | None:
        """:meth:`einsum` in the common case: at most one factor an axis, and all of them fit."""
        where: dict[str, list[Entry]] = {}
        wild: dict[str, Items] = {}
        for r, (view, word) in enumerate(zip(views, words, strict=True)):
            if view.hidden or view.gathered:
                return None
            for label, items in zip(word, view.axes, strict=True):
                if len(items) != 1 or type(items[0]) is int:
                    if wild.setdefault(label, items) != items or label in where or len(items) > 1:
                        return None
                    continue
                factor: Factor = items[0]  # type: ignore[assignment]
                entries = where.setdefault(label, [])
                if entries:
                    port = entries[0].items[0].port
                    if entries[-1].role == r or port.size != factor.port.size:
                        return None
                    if port is not factor.port and not unify(port, factor.port):
                        return None
                elif label in wild or factor.port.size == 1:
                    return None
                entries.append(Entry(r, (factor,)))
        result, made = Struct(), {}
        variables = []
        for label, entries in where.items():
            first = entries[0].items[0]
            if label in target:
                made[label] = f = Factor(first.port, result, any(e.items[0].fixed for e in entries))
                result.roots.append(f)
                entries.append(Entry(len(views), (f,)))
            variables.append(Variable(first.port.size, tuple(entries)))
        axes: list[Items] = []
        for label in target:
            if label in made:
                axes.append((made[label],))
            elif label in wild:
                axes.append(wild[label])
            else:
                return None
        self.structs.append(result)
        self.links.append(Link(len(views) + 1, tuple(variables)))
        return View(axes)

    @staticmethod
    def _anew(
        result: Struct, n: int, role: int, variables: list[Variable], broken: list[Items]
    ) -> Items:
        """A new axis of a result, to be pinned."""
        if n <= 1:
            return () if n == 1 else (0,)
        f = Factor(Port(n), result)
        result.roots.append(f)
        broken.append((f,))
        variables.append(Variable(n, (Entry(role, (f,)),)))
        return (f,)

    def renewed(self, view: View, axis: int, size: int, reason: Any) -> View:
        """The value with an axis made anew, fixed, of another size; the old one is treated alike."""
        words = [f"i{k}" for k in range(len(view.axes))]
        out = [word if k != axis else "new" for k, word in enumerate(words)]
        return self.einsum([view], [words], out, {"new": size}, reason)

    def elementwise(self, views: Sequence[View], reason: Any = "axes that do not fit") -> View:
        """A pointwise function of values of one shape (scalars, and axes of size one, broadcast)."""
        rank = max([len(v.axes) for v in views])
        full = [v for v in views if len(v.axes) == rank]
        loose = [v for v in views if v.hidden and len(v.axes) < rank]
        first = full[0]
        if len(full) == 1 and not loose:
            return first.but(first.axes)
        if not loose and all(
            v.axes == first.axes and v.hidden == first.hidden and v.gathered == first.gathered
            for v in full[1:]
        ):
            return first.but(first.axes)
        if len(full) == 2 and not loose:
            quick = self._pair(first, full[1])
            if quick is not None:
                return quick
        full = _stretched(full, rank)
        words = [[f"i{k}" for k in range(rank)]] * len(full)
        return self._pointwise(full + loose, [*words, *([[]] * len(loose))], words[0], reason)

    def _pair(self, x: View, y: View) -> View | None:
        """The common case of two operands of one factor an axis, of which one has them all."""
        if x.hidden or y.hidden or x.gathered or y.gathered:
            return None
        slots: list[tuple[Item | None, Item | None]] = []
        x_whole = y_whole = True
        for a, b in zip(x.axes, y.axes, strict=True):
            if len(a) > 1 or len(b) > 1:
                return None
            i, j = a[0] if a else None, b[0] if b else None
            one, two = type(i) is Factor, type(j) is Factor
            if one or two:
                if one and two:
                    if i.port is not j.port and not unify(i.port, j.port):  # type: ignore[union-attr]
                        return None
                elif one:
                    y_whole = False
                else:
                    x_whole = False
                slots.append((i if one else None, j if two else None))
        if not x_whole and not y_whole:
            return None
        whole, other = (x, y) if x_whole else (y, x)
        if any(s[x_whole] is not None for s in slots):
            variables = []
            for i, j in slots:
                first = () if i is None else (Entry(0, (i,)),)  # type: ignore[arg-type]
                both = first if j is None else (*first, Entry(1, (j,)))  # type: ignore[arg-type]
                variables.append(Variable((i or j).port.size, both))  # type: ignore[union-attr]
            self.links.append(Link(2, tuple(variables)))
        return View([a or b for a, b in zip(whole.axes, other.axes, strict=True)])

    def _pointwise(
        self, views: list[View], words: list[list[str]], out: list[str], reason: Any
    ) -> View:
        """As :meth:`einsum`, but a result that has the axes of one operand is that operand's array."""
        keys = [key for v in views for key in v.hidden]
        keys = list(dict.fromkeys(keys)) if keys else keys
        aligned: list[list[tuple[Item | None, ...]]] = []
        for k in range(len(out)):
            aligned.append(_slots([v.axes[k] if word else None for v, word in zip(views, words)]))  # type: ignore[arg-type]
        for key in keys:
            aligned.append(_slots([v.hidden.get(key) for v in views]))  # type: ignore[arg-type]
        if any(a is None for a in aligned) or any(v.gathered for v in views):
            return self.einsum(views, words, out, reason=reason)
        busy = [s for a in aligned for s in a if any(type(i) is Factor for i in s)]
        cover = -1
        for r in range(len(views)):
            if all(type(s[r]) is Factor for s in busy):
                cover = r
                break
        if cover < 0:
            return self.einsum(views, words, out, reason=reason)
        roles: list[int] = []
        seen: set[tuple[int, ...]] = set()
        for r in range(len(views)):
            mark = tuple(id(s[r]) if isinstance(s[r], Factor) else 0 for s in busy)
            if any(mark) and mark not in seen:
                seen.add(mark)
                roles.append(r)
        if len(roles) > 1:
            variables = []
            for s in busy:
                items = [(i, s[r]) for i, r in enumerate(roles)]
                entries = [Entry(i, (f,)) for i, f in items if isinstance(f, Factor)]
                variables.append(Variable(cast(Factor, s[cover]).port.size, tuple(entries)))
            self.links.append(Link(len(roles), tuple(variables)))
        made = [
            tuple(next((i for i in (s[cover], *s) if i is not None), 1) for s in a) for a in aligned
        ]  # type: ignore[union-attr]
        made = [tuple(i for i in items if i != 1) for items in made]
        return View(made[: len(out)], dict(zip(keys, made[len(out) :], strict=True)))

    def reshape(
        self, view: View, shape: Sequence[int], reason: Any = "a reshape across units"
    ) -> View:
        """Row-major reshape; runs of axes whose factors would break are pinned."""
        old, new = view.shape(), tuple(shape)
        if 0 in new:
            return View([(0,) if n == 0 else ((n,) if n > 1 else ()) for n in new])
        axes: list[Items] = []
        failed: list[tuple[int, int]] = []
        for i0, i1, j0, j1 in reshape_runs(old, new):
            items = tuple(item for k in range(i0, i1) for item in view.axes[k])
            got = regroup(items, new[j0:j1])
            if got is None:
                again = self._relaid(view, (i0, i1), items, new[j0:j1])
                if again is not None:
                    return self.reshape(again, new, reason)
                self.pin_items(items, reason)
                failed.append((j0, j1))
                got = [()] * (j1 - j0)
            axes += got
        if not failed:
            return view.but(axes)
        lost = {k for a, b in failed for k in range(a, b)}
        kept = [k for k in range(len(new)) if k not in lost]
        words = [f"n{k}" for k in range(len(new))]
        source = View([axes[k] for k in kept], view.hidden)
        return self.einsum(
            [source], [[words[k] for k in kept]], words, {words[k]: new[k] for k in lost}, reason
        )

    def _relaid(
        self, view: View, place: tuple[int, int], run: Items, sizes: Sequence[int]
    ) -> View | None:
        """A value whose axes ``place`` have been cut into blocks and laid out into ``sizes``."""
        i0, i1 = place
        if all(isinstance(i, int) or i.fixed for i in run) or view.index is not None:
            return None
        source = [*view.axes[:i0], run, *view.axes[i1:], *view.hidden.values()]
        new = relaid(self, source, run, [n for n in sizes if n > 1])
        if new is None:
            return None
        busy = iter(new[i0:])
        middle = [next(busy) if n > 1 else () for n in sizes]
        rest = list(busy)
        tail = len(view.axes) - i1
        hidden = dict(zip(view.hidden, rest[tail:], strict=True))
        return View([*new[:i0], *middle, *rest[:tail]], hidden)


def _chosen_alike(
    views: Sequence[View], words: list[list[str]], target: list[str]
) -> dict[Hashable, tuple[str, ...]]:
    """Gathered axes that a result keeps: ``{key: the labels along which the choice differs}``.

    All operands that have the key must have it along the same labels, and the result must keep them.
    """
    found: dict[Hashable, tuple[str, ...] | None] = {}
    for view, word in zip(views, words, strict=True):
        for key, (_, along) in view.gathered.items():
            labels: list[str] = []
            for f in along:
                ids = {id(g) for g in f.flat()} | {id(f)}
                mine = [
                    label
                    for label, items in zip(word, view.axes, strict=True)
                    if any(
                        id(g) in ids for i in items if isinstance(i, Factor) for g in (i, *i.flat())
                    )
                ]
                labels += mine[:1] if len(mine) == 1 else ["?"]
            kept = tuple(labels) if all(label in target for label in labels) else None
            found[key] = kept if found.get(key, kept) == kept else None
    return {key: labels for key, labels in found.items() if labels is not None}


def _slots(axes: list[Items | None]) -> list[tuple[Item | None, ...]] | None:
    """:func:`align`, with the common case first: one item, or none, in every role."""
    first = None
    for a in axes:
        if a is not None:
            if len(a) != 1:
                return align(axes) if any(axes) else []
            item = a[0]
            if type(item) is Factor:
                if first is None:
                    first = item
                elif item.port is not first.port and (
                    item.port.size != first.port.size or not unify(first.port, item.port)
                ):
                    return align(axes)
    if first is not None and any(
        a is not None and type(a[0]) is int and a[0] != first.port.size for a in axes
    ):
        return align(axes)
    return [tuple(None if a is None else a[0] for a in axes)]


def _stretched(views: list[View], rank: int) -> list[View]:
    """Views whose axes of size one are wild where another view's are longer."""
    if all(bool(v.axes[k]) == bool(views[0].axes[k]) for v in views[1:] for k in range(rank)):
        return views
    target: list[Items] = []
    for k in range(rank):
        items = next((v.axes[k] for v in views if v.axes[k]), ())
        target.append((prod(map(size_of, items)),) if items else ())
    return [View([a or t for a, t in zip(v.axes, target, strict=True)], v.hidden) for v in views]
