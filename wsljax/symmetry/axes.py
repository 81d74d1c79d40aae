"""The axis grammar: what each axis of an array is made of, as a small tree and as text.

An axis is a tree of

========================  =======================  ====================================================
text                      tree                     meaning
========================  =======================  ====================================================
``_``, ``_4``, ``_L``     :class:`Fixed`           every coordinate stands for itself (size or name)
``h``                     :class:`Unit`            the units ``h``; the same name elsewhere moves jointly
``m[head]``               :class:`Unit`            one independent copy of ``m`` for each index of ``head``
``m[g#1]``                :class:`Unit`            the same, where ``g`` stands twice: its second occurrence
``u.0``                   :class:`Unit`            factor 0 of units whose index is a row-major product
``(a b)``                 :class:`Prod`            row-major product
``a+b``                   :class:`Sum`             concatenation
``a|b|c``                 :class:`Alt`             chosen by the segment of another axis, itself a sum
``(a+b){0,2,1,3}``        :class:`Reorder`         coordinate ``i`` is coordinate ``c[i]`` of ``a+b``
========================  =======================  ====================================================

``u=3`` writes the size of ``u`` where shapes alone do not tell it. ``a|b@1`` names the axis that
chooses; without ``@`` it is the only axis of the leaf that is a sum of as many segments.

In braces stand ints and slices of ``range(size)``, as in ``numpy.r_``: every coordinate once, so that
``h{::-1}`` is ``h`` backwards, ``h{1:,0}`` is ``h`` rolled by one to the left (``numpy.roll(_, -1)``)
and ``(a+b){0,3,1,4,2,5}`` has ``a`` on the even places and ``b`` on the odd ones. Only a whole axis is
reindexed: braces stand at the top of it, never inside a sum, a product or alternatives. A reindexed
sum may be the axis that chooses among alternatives: the segments are those of the sum, wherever they
lie on the axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Union

from .reindex import check_order, read_order

UNKNOWN = -1
"""Size of a node whose text does not tell it; resolved against shapes by :func:`.parse`."""


@dataclass(frozen=True)
class Fixed:
    """Coordinates that stand for themselves; ``name`` (with its underscore) if units refer to it."""

    size: int
    name: str | None = None


@dataclass(frozen=True)
class Unit:
    """An occurrence of a set of units, or of one factor of it (``part``).

    ``at`` says, for each name that the units are nested over, which occurrence of it in the block is
    meant; empty: the first, and the following ones where a name stands several times.
    """

    name: str
    size: int
    part: int | None = None
    at: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prod:
    """Row-major product of axes."""

    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        sizes = [p.size for p in self.parts]
        return UNKNOWN if UNKNOWN in sizes else prod(sizes)


@dataclass(frozen=True)
class Sum:
    """Concatenation of axes."""

    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        sizes = [p.size for p in self.parts]
        return UNKNOWN if UNKNOWN in sizes else sum(sizes)


@dataclass(frozen=True)
class Alt:
    """Option ``i`` holds on segment ``i`` of the leaf's axis ``axis``, which is a :class:`Sum`."""

    axis: int
    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return max(p.size for p in self.parts)


@dataclass(frozen=True)
class Reorder:
    """Coordinate ``i`` of the axis is coordinate ``order[i]`` of ``tree``; at the top of an axis only.

    ``order`` is a permutation of ``range(tree.size)``; as long as that size is not known, its text.
    """

    tree: Axis
    order: tuple[int, ...] | str

    @property
    def size(self) -> int:
        return self.tree.size


Axis = Union[Fixed, Unit, Prod, Sum, Alt, Reorder]  # noqa: UP007


def plain(tree: Axis) -> Axis:
    """The axis without its reindexing."""
    return tree.tree if isinstance(tree, Reorder) else tree


def order_of(tree: Axis) -> tuple[int, ...]:
    """The coordinates of a reindexed axis whose size is known."""
    assert isinstance(tree, Reorder) and not isinstance(tree.order, str)
    return tree.order


def ordered(tree: Axis) -> Axis:
    """The axis with the coordinates of its reindexing, if its text and its size are known.

    Raises:
        ValueError: if the text is not a permutation of the axis.
    """
    if isinstance(tree, Reorder) and isinstance(tree.order, str) and tree.size != UNKNOWN:
        return Reorder(tree.tree, read_order(tree.order, tree.size))
    return tree


def check_reindexing(tree: Axis) -> None:
    """Check that an axis is reindexed at its top only, and by a permutation.

    Raises:
        ValueError: saying what is wrong.
    """
    inner = plain(tree)
    if any(isinstance(node, Reorder) for node in _nodes(inner)):
        raise ValueError(
            "only a whole axis is reindexed, not a part of it or what is reindexed already: braces "
            "stand at its end, as in '(a+b){1,0}'"
        )
    if isinstance(tree, Reorder):
        if any(isinstance(node, Alt) for node in _nodes(inner)):
            raise ValueError("an axis of alternatives cannot be reindexed")
        if not isinstance(tree.order, str):
            check_order(tree.order, tree.size)
        elif tree.size != UNKNOWN:
            raise ValueError(f"the order of a reindexed axis is still the text {tree.order!r}")


def _nodes(tree: Axis) -> Iterator[Axis]:
    yield tree
    below = (tree.tree,) if isinstance(tree, Reorder) else getattr(tree, "parts", ())
    for part in below:
        yield from _nodes(part)


def atoms(tree: Axis) -> Iterator[Fixed | Unit]:
    """All atoms of an axis, left to right."""
    if isinstance(tree, (Fixed, Unit)):
        yield tree
    elif isinstance(tree, Reorder):
        yield from atoms(tree.tree)
    else:
        for part in tree.parts:
            yield from atoms(part)


def default_seats(over: tuple[str, ...]) -> tuple[int, ...]:
    """Which occurrences of the names are meant where the text does not say."""
    return tuple(over[:i].count(o) for i, o in enumerate(over))
