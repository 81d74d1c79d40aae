"""Undo needless refinement: segments and factors that always stand side by side are one set of units.

Two classes that are adjacent segments wherever either appears, in every value of the computation, can
be exchanged across their border: nothing ever tells them apart. Likewise two classes of which every
array that has one has the other too, once each, form one set of units indexed by a product (this is
how a channel shuffle between two dense layers keeps the whole group).
"""

from __future__ import annotations

from collections import defaultdict

from .cells import Cells


def merge_segments(cells: Cells) -> dict[int, int]:
    """Classes to join to the class before them: ``{class: the class just before it}``."""
    barriers = {(id(f), at) for factor, at in cells.walk.barriers for f, at in _leading(factor, at)}
    following: dict[int, int | None] = {}
    preceding: dict[int, int | None] = {}
    seen: set[int] = set()

    def note(table: dict[int, int | None], a: int, b: int | None) -> None:
        table[a] = b if a not in table or table[a] == b else None

    cut = [a for a in cells.arrays.values() if a.cut]
    if not cut:
        return {}
    for array in cells.arrays.values():
        for choice, cell in array.cells.items():
            roots = [tuple(cells.root(n) for n in nodes) for nodes in cell]
            for k, nodes in enumerate(roots):
                after = before = None
                if len(array.options[k]) > 1 and len(nodes) == 1:
                    after = _neighbour(cells, array, choice, roots, k, +1, barriers)
                    before = _neighbour(cells, array, choice, roots, k, -1, barriers)
                for n in nodes:
                    seen.add(n)
                    note(following, n, after)
                    note(preceding, n, before)
    return {
        b: a
        for a, b in following.items()
        if b is not None
        and b != a
        and preceding.get(b) == a
        and not cells.is_fixed(a)
        and not cells.is_fixed(b)
    }


def _leading(factor, at: int):
    """The leaf factor that a cut of a factor falls on."""
    flat = factor.flat()
    width = factor.size // flat[0].size
    return [(flat[0], at // width)] if at % width == 0 else []


def _neighbour(cells: Cells, array, choice, roots, k: int, step: int, barriers) -> int | None:
    """The class of the segment next to leaf factor ``k`` in the same surroundings, if it stands there alone."""
    options = array.options[k]
    here = options[choice[k]]
    for i, other in enumerate(options):
        if step > 0:
            touching = other.start == here.start + here.leaves[0]
            border = other.start
        else:
            touching = len(other.leaves) == 1 and other.start + other.leaves[0] == here.start
            border = here.start
        if not touching or len(other.leaves) != 1 or (id(array.factors[k]), border) in barriers:
            continue
        there = array.cells.get((*choice[:k], i, *choice[k + 1 :]))
        if there is None:
            return None
        for j, nodes in enumerate(there):
            if j != k and tuple(cells.root(n) for n in nodes) != roots[j]:
                return None
        return cells.root(there[k][0])
    return None


def fuse_factors(cells: Cells) -> dict[int, int]:
    """Classes that are one set of units, indexed by a product: ``{class: the first of its group}``."""
    together: dict[int, set[int]] = {}
    alone: set[int] = set()
    for _, _, cell in cells.every_cell():
        counts: dict[int, int] = defaultdict(int)
        for nodes in cell:
            for n in nodes:
                counts[cells.root(n)] += 1
        free = {c for c, k in counts.items() if k == 1 and not cells.is_fixed(c)}
        alone |= {c for c, k in counts.items() if k > 1}
        for c in free:
            together[c] = together[c] & free if c in together else set(free)
    groups: dict[int, int] = {}
    for c in sorted(together):
        if c in alone or c in groups:
            continue
        mates = [
            d
            for d in together[c]
            if d != c and d not in alone and c in together.get(d, ()) and together[d] == together[c]
        ]
        for d in mates:
            groups[d] = c
        if mates:
            groups[c] = c
    return groups
