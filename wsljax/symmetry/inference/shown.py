"""Arrays that will be annotated, and what has to be true of their cells for the grammar to say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .branches import coordinates
from .cells import Array, Cells
from .ports import LEAF, find, is_identity
from .values import View
from .walk import describe


class Shown:
    """An array that will be annotated: for each axis, leaf factors by place, or sizes of wild stretches."""

    def __init__(self, path: str, view: View, array: Array | None):
        self.path, self.shape, self.array = path, view.shape(), array
        self.axes: list[list[tuple[str, int]]] = []
        for axis in view.axes:
            items: list[tuple[str, int]] = []
            for i in axis:
                if isinstance(i, int):
                    items.append(("wild", i))
                else:
                    items += [("leaf", array.places[id(f)]) for f in i.flat()]  # type: ignore[union-attr]
            self.axes.append(items)

    def leaves(self) -> list[tuple[int, int]]:
        """(axis, leaf factor) of the array, in the order of its axes."""
        if self.array is None:
            return []
        return [(a, k) for a, items in enumerate(self.axes) for kind, k in items if kind == "leaf"]

    def contexts(self, k: int) -> list[tuple[int, ...]]:
        """The choices of segments of all leaf factors but ``k``."""
        return list(dict.fromkeys((*c[:k], *c[k + 1 :]) for c in self.array.cells))  # type: ignore[union-attr]

    def axis_of(self, place: int) -> int | None:
        for a, items in enumerate(self.axes):
            if ("leaf", place) in items:
                return a
        return None


def depends(cells: Cells, array: Array, k: int) -> set[int]:
    """The cut factors whose segment decides the classes of leaf factor ``k``."""
    found = set()
    for g, options in enumerate(array.options):
        if g == k or len(options) < 2:
            continue
        first: dict[tuple[int, ...], tuple[int, ...]] = {}
        for choice, cell in array.cells.items():
            roots = tuple(-1 if cells.is_fixed(n) else cells.root(n) for n in cell[k])
            rest = (*choice[:g], *choice[g + 1 :])
            if first.setdefault(rest, roots) != roots:
                found.add(g)
                break
    return found


def make_expressible(cells: Cells, shown: Sequence[Shown]) -> None:
    """Tie classes wherever an array's cells differ in a way that the axis grammar cannot say."""
    again = True
    while again:
        again = False
        for s in shown:
            array = s.array
            if array is None or not array.cut:
                continue
            crossing: dict[int, set[int]] = {}
            for k in range(len(array.factors)):
                here = s.axis_of(k)
                for g in sorted(depends(cells, array, k)):
                    there = s.axis_of(g)
                    if there is None or here is None:
                        bad = True
                    elif there == here:
                        bad = k in depends(cells, array, g)
                    else:
                        bad = s.axes[there][0] != ("leaf", g) or bool(
                            crossing.get(here, set()) - {g}
                        )
                        bad |= any(here == s.axis_of(t) for ts in crossing.values() for t in ts)
                        bad |= there in crossing
                        bad |= any(
                            _shuffled(array, j) for kind, j in s.axes[here] if kind == "leaf"
                        )
                        if not bad:
                            crossing.setdefault(here, set()).add(g)
                    if bad:
                        _tie(cells, array, k, g)
                        again = True


def _shuffled(array: Array, k: int) -> bool:
    """Whether the segments of a leaf factor do not stand in order on it."""
    port = array.factors[k].port
    at = np.concatenate(coordinates(port)) if find(port).kind != LEAF else np.arange(0)
    return not is_identity(at)


def follow_the_read(cells: Cells, shown: Sequence[Shown]) -> None:
    """Coordinates of a segment that is never read move with those of a segment that is.

    So a position table of which a short example reads only the first rows moves as a whole.
    """
    touched = {cells.root(n) for n, t in enumerate(cells.touched) if t}
    for s in shown:
        if s.array is None or not s.array.cut:
            continue
        for k in range(len(s.array.factors)):
            read: dict[int, tuple[int, ...]] = {}
            rest: list[tuple[int, tuple[int, ...]]] = []
            for choice, cell in s.array.cells.items():
                if all(cells.root(n) in touched for n in cell[k]):
                    read.setdefault(choice[k], cell[k])
                else:
                    rest.append((choice[k], cell[k]))
            for option, nodes in rest:
                for a, b in zip(read.get(option, ()), nodes, strict=False):
                    cells.unite(a, b)


def _tie(cells: Cells, array: Array, k: int, g: int) -> None:
    first: dict[tuple[int, ...], tuple[int, ...]] = {}
    for choice, cell in array.cells.items():
        nodes = first.setdefault((*choice[:g], *choice[g + 1 :]), cell[k])
        for a, b in zip(nodes, cell[k], strict=False):
            cells.unite(a, b)


def reasons(cells: Cells, s: Shown) -> list[tuple[int, int, str]]:
    """(axis, size, why) for every fixed stretch of an array."""
    out: list[tuple[int, int, str]] = []
    if s.array is None:
        return out
    for a, items in enumerate(s.axes):
        for kind, k in items:
            if kind == "leaf":
                found: dict[str, int] = {}
                for choice, cell in s.array.cells.items():
                    if any(c for g, c in enumerate(choice) if g != k):
                        continue
                    for n in cell[k]:
                        if cells.size[n] > 1 and cells.is_fixed(n):
                            why = describe(cells.reasons[cells.root(n)])
                            found[why] = found.get(why, 0) + cells.size[n]
                out += [(a, size, why) for why, size in found.items()]
    return out
