"""Undo needless refinement: segments and factors that always stand side by side are one set of units.

Two classes that are segments of the same axes wherever either appears, in the same surroundings, and
that every equation ties in the same way, can be exchanged: nothing ever tells them apart, however far
from one another they stand. Likewise two classes of which every array that has one has the other too,
once each, form one set of units indexed by a product (this is how a channel shuffle between two dense
layers keeps the whole group).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable

from .cells import Cells

Seen = dict[Hashable, list[int]]
"""Where a class appears: for each surrounding, its nodes in the order of the axis."""


def joint_segments(cells: Cells) -> list[list[int]]:
    """Groups of classes that are one set of units, each at least two."""
    found = _segment_classes(cells)
    if len(found) < 2:
        return []
    seen: dict[int, Seen] = {c: defaultdict(list) for c in found}
    for array in cells.arrays.values():
        starts = [[b.start for b in o] for o in array.options]
        for choice, cell in array.cells.items():
            roots = [tuple(cells.root(n) for n in nodes) for nodes in cell]
            beside = [
                tuple(-1 if cells.size[c] < 2 or cells.is_fixed_class(c) else c for c in nodes)
                for nodes in roots
            ]
            for k, nodes in enumerate(roots):
                for t, c in enumerate(nodes):
                    if c not in seen:
                        continue
                    alone = len(nodes) == 1 and len(array.options[k]) > 1
                    around = (
                        id(array),
                        k,
                        cells.colours.get((id(array), k, choice[k])),
                        choice[:k] + choice[k + 1 :],
                        tuple(beside[:k] + beside[k + 1 :]),
                        None if alone else (choice[k], t),
                    )
                    seen[c][around].append((starts[k][choice[k]], cell[k][t]))  # type: ignore[arg-type]
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for c, where in seen.items():
        alike[frozenset((a, len(ns)) for a, ns in where.items())].append(c)
    groups = [g for g in alike.values() if len(g) > 1]
    if not groups:
        return []
    ties = _ties(cells, {c for g in groups for c in g})
    joint = []
    for group in groups:
        rows: list[list[int]] = []
        for c in group:
            for row in rows:
                if _tied_alike(ties[row[0]], ties[c], _partners(seen[row[0]], seen[c])):
                    row.append(c)
                    break
            else:
                rows.append([c])
        joint += [row for row in rows if len(row) > 1]
    return joint


def _segment_classes(cells: Cells) -> set[int]:
    """Free classes that are a whole segment somewhere."""
    found = set()
    for array in cells.arrays.values():
        if not array.cut:
            continue
        for cell in array.cells.values():
            for nodes, options in zip(cell, array.options, strict=True):
                if len(nodes) == 1 and len(options) > 1:
                    found.add(cells.root(nodes[0]))
    return {c for c in found if c not in cells.reasons}


def _ties(cells: Cells, classes: set[int]) -> dict[int, Counter]:
    """For each class the groups of nodes that the equations tie."""
    found: dict[int, Counter] = {c: Counter() for c in classes}
    for instance in cells.instances:
        for group in instance.groups:
            c = cells.root(group[0][1])
            if c in found:
                found[c][instance.link, frozenset(group)] += 1
    return found


def _partners(ours: Seen, theirs: Seen) -> dict[int, int]:
    """The node of one class that stands where a node of the other stands."""
    out: dict[int, int] = {}
    for around, nodes in ours.items():
        for (_, a), (_, b) in zip(sorted(nodes), sorted(theirs[around]), strict=True):  # type: ignore[misc]
            out[a] = b
    return out


def _tied_alike(ours: Counter, theirs: Counter, partner: dict[int, int]) -> bool:
    moved: Counter = Counter()
    for (link, group), n in ours.items():
        moved[link, frozenset((role, partner[node]) for role, node in group)] += n
    return moved == theirs


def fuse_factors(cells: Cells) -> dict[int, int]:
    """Classes that are one set of units, indexed by a product: ``{class: the first of its group}``."""
    together: dict[int, set[int]] = {}
    alone: set[int] = set()
    apart: set[int] = set()  # classes that have stood without any other
    every = cells.roots()
    for _, _, cell in cells.every_cell():
        roots = [every[n] for nodes in cell for n in nodes]
        if apart.issuperset(roots):
            continue
        if len(roots) == 1:
            apart.add(roots[0])
        counts = Counter(roots)
        free = {c for c, k in counts.items() if k == 1 and not cells.is_fixed(c)}
        alone |= {c for c, k in counts.items() if k > 1}
        for c in free:
            together[c] = together[c] & free if c in together else set(free)
            if len(together[c]) == 1:
                apart.add(c)
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
