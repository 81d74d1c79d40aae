"""What inference knows of a value: which index sets its axes are, and which equations tie them.

A :class:`Struct` is one array seen as a tensor product of :class:`Factor` s. A :class:`View` arranges
factors into axes; reshape, transpose, broadcast and elementwise functions of one array only change
the view. An axis of a view is a tuple of factors and of integers: an integer is the size of a *wild*
stretch along which the value is constant (a broadcast), which ties nothing.

A :class:`Link` is one equation in index notation: variables, each naming the factors that it runs
over in every array (*role*) it touches.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import Any, NamedTuple, Union

import numpy as np

from .ports import PROD, Port, factors, find
from .refine import split, unify


class Struct:
    """One array: the list of its factors (``roots``)."""

    __slots__ = ("roots",)

    def __init__(self) -> None:
        self.roots: list[Factor] = []


class Factor:
    """One index set of one array."""

    __slots__ = ("port", "struct", "kids", "fixed", "pinned")

    def __init__(self, port: Port, struct: Struct, fixed: bool = False):
        self.port, self.struct = port, struct
        self.kids: list[Factor] | None = None
        self.fixed = fixed  # a hint: it, or what it is tied to, has been pinned
        self.pinned = False

    @property
    def size(self) -> int:
        return self.port.size

    def flat(self) -> list[Factor]:
        """The factors into which this one has been refined."""
        if self.kids is None:
            root = find(self.port)
            if root.kind != PROD:
                return [self]
            self.kids = [Factor(p, self.struct, self.fixed) for p in factors(root)]
        return [f for k in self.kids for f in k.flat()]


Item = Union[Factor, int]  # noqa: UP007
Items = tuple[Item, ...]


def size_of(item: Item) -> int:
    """Number of coordinates of a factor or of a wild stretch."""
    return item if isinstance(item, int) else item.port.size


def _extent(items: Items) -> int:
    """Number of coordinates of an axis."""
    if len(items) == 1:
        item = items[0]
        return item if type(item) is int else item.port.size  # type: ignore[union-attr, return-value]
    return prod([size_of(item) for item in items])


class Index(NamedTuple):
    """The elements of a value are coordinates of these factors.

    ``spoilt``: shifted, or decided by a tie, of no use as coordinates. ``token`` is equal for equal
    indices. ``whole``: along one axis every coordinate stands once, as ``argsort`` returns them.
    """

    items: Items
    spoilt: bool = False
    token: int = 0
    whole: bool = False


class View:
    """How one value reads its array.

    ``hidden`` holds axes that the value has without showing them: the step of a scan, the choice of a
    scalar index. ``const`` is the value where it is a small known constant, ``key`` names equal
    indices. ``gathered`` are hidden axes too, chosen by an index that differs along axes of the value:
    ``{key: (items, factors of the axes along which the choice differs)}``; they are forgotten by
    whatever does not carry them along. ``columns`` are the indices of which a value is the rows,
    ``distinct`` says along which axes elements cannot tie (:mod:`.distinct`).
    """

    __slots__ = ("axes", "hidden", "index", "const", "key", "gathered", "columns", "distinct")

    def __init__(
        self,
        axes: Sequence[Items],
        hidden: dict[Hashable, Items] | None = None,
        index: Index | None = None,
        const: Any = None,
        key: Hashable = None,
    ):
        self.axes, self.hidden = tuple(axes), hidden or {}
        self.gathered: dict[Hashable, tuple[Items, tuple[Factor, ...]]] = {}
        self.index, self.const, self.key = index, const, key
        self.columns: tuple[View, ...] = ()
        self.distinct: tuple[bool, ...] = ()

    def but(self, axes: Sequence[Items]) -> View:
        """The same values under other axes."""
        view = View(axes, self.hidden, self.index)
        view.gathered = self.gathered
        return view

    def shape(self) -> tuple[int, ...]:
        return tuple([_extent(axis) for axis in self.axes])

    def factors(self) -> list[Factor]:
        """All factors, hidden ones last."""
        every = (*self.axes, *self.hidden.values())
        return [item for axis in every for item in axis if not isinstance(item, int)]


class Entry(NamedTuple):
    """Where a variable runs in one role: coordinates ``offset + i`` of the product of ``items``.

    With an ``order``: coordinates ``order[i]``.
    """

    role: int
    items: tuple[Factor, ...]
    offset: int = 0
    order: np.ndarray | None = None


class Variable(NamedTuple):
    """An index of an equation, with ``size`` values."""

    size: int
    entries: tuple[Entry, ...]


class Link(NamedTuple):
    """An equation: one factor-to-factor correspondence per variable."""

    roles: int
    variables: tuple[Variable, ...]


class Copy:
    """A new array made of factors of another one, and the equation between the two."""

    def __init__(self, walk: Any):
        self.walk, self.struct = walk, Struct()
        self.variables: list[Variable] = []
        walk.structs.append(self.struct)

    def factor(self, port: Port, fixed: bool = False) -> Factor:
        """A factor of the new array; what it has to do with the old one is left to ``variables``."""
        f = Factor(port, self.struct, fixed)
        self.struct.roots.append(f)
        return f

    def items(self, items: Items) -> Items:
        """An axis of the old array in the new one."""
        made: list[Item] = []
        for i in items:
            if isinstance(i, Factor):
                f = self.factor(i.port, i.fixed)
                self.variables.append(Variable(i.size, (Entry(0, (i,)), Entry(1, (f,)))))
                i = f
            made.append(i)
        return tuple(made)

    def link(self) -> None:
        """State the equation."""
        self.walk.links.append(Link(2, tuple(self.variables)))


def align(axes: Sequence[Items | None]) -> list[tuple[Item | None, ...]] | None:
    """Cut axes of equal size into matching items, unifying the factors; None if they do not match.

    Args:
        axes: one axis per role; None where the role lacks it.

    Returns:
        Slots: for each, the item of every role.
    """
    stacks = [None if a is None else list(a)[::-1] for a in axes]
    live = [s for s in stacks if s is not None]
    slots = []
    while any(live):
        heads = [s[-1] for s in live if s]
        if len(heads) < len(live):
            return None
        small = min(map(size_of, heads))
        if all(size_of(h) == small for h in heads):
            slot = tuple(None if s is None else s.pop() for s in stacks)
            found = [h for h in heads if not isinstance(h, int)]
            for other in found[1:]:
                if not unify(found[0].port, other.port):
                    return None
            slots.append(slot)
            continue
        for s in live:
            head = s[-1]
            if size_of(head) == small:
                continue
            parts = cut_item(head, small)
            if parts is None:
                return None
            s.pop()
            s += parts[::-1]
    return slots


def cut_item(item: Item, lead: int) -> list[Item] | None:
    """Refine an item so that it begins with a factor that divides, or is, ``lead``."""
    if isinstance(item, int):
        return None if item % lead else [lead, item // lead]
    if find(item.port).kind == PROD:
        return list(item.flat())
    if item.size % lead or split(item.port, lead) is None:
        return None
    return list(item.flat())


def regroup(items: Sequence[Item], sizes: Sequence[int]) -> list[Items] | None:
    """Items laid out into axes of the given sizes (a reshape); None where a factor would have to break."""
    stack, axes = list(items)[::-1], []
    for size in sizes:
        axis: list[Item] = []
        while size > 1:
            if not stack:
                return None
            head = stack.pop()
            n = size_of(head)
            if n > 1 and size % n == 0:
                axis.append(head)
                size //= n
            elif n > 1:
                parts = cut_item(head, size)
                if parts is None or len(parts) < 2:
                    return None
                stack += parts[::-1]
        axes.append(tuple(axis))
    return axes if all(size_of(s) == 1 for s in stack) else None


def reshape_runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Shortest runs of axes of equal size in a row-major reshape: (start, stop) of the old, of the new."""
    runs, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        i0, j0, a, b = i, j, 1, 1
        if i < len(old):
            a, i = old[i], i + 1
        if j < len(new):
            b, j = new[j], j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        runs.append((i0, i, j0, j))
    return runs
