"""From links to classes: coordinates that must move together.

Where an axis has been cut into segments, an array falls into *cells*, one for each choice of segments,
and every cell has nodes of its own for all its axes: so the three parts of a packed query-key-value
kernel are free of one another until an equation ties them. The nodes of an array's cells are united
along every link; the classes that remain are the candidate units.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as cross
from math import prod
from typing import NamedTuple

from .ports import PROD, SUM, Port, find
from .values import Entry, Factor, Struct
from .walk import Walk

MAX_CELLS = 20000


class Branch(NamedTuple):
    """One choice of segments inside a port: the least coordinate it has, and the sizes of its leaves."""

    start: int
    leaves: tuple[int, ...]


def branches(port: Port, memo: dict[int, list[Branch]]) -> list[Branch]:
    """All choices of segments of a port."""
    root = find(port)
    got = memo.get(id(root))
    if got is not None:
        return got
    if root.kind == SUM:
        out, at = [], 0
        for p in root.parts:
            out += [Branch(at + b.start, b.leaves) for b in branches(p, memo)]
            at += p.size
    elif root.kind == PROD:
        out, stride = [Branch(0, ())], root.size
        for p in root.parts:
            stride //= p.size
            out = [
                Branch(a.start + b.start * stride, a.leaves + b.leaves)
                for a in out
                for b in branches(p, memo)
            ]
    else:
        out = [Branch(0, (root.size,) if root.size > 1 else ())]
    memo[id(root)] = out
    return out


class Array:
    """A struct with its nodes: ``cells[choice][k]`` are the nodes of leaf factor ``k`` in one cell."""

    __slots__ = ("factors", "places", "options", "cells", "cut")

    def __init__(self, struct: Struct, memo: dict[int, list[Branch]]):
        self.factors: list[Factor] = [f for r in struct.roots for f in r.flat()]
        self.places = {id(f): k for k, f in enumerate(self.factors)}
        self.options = [branches(f.port, memo) for f in self.factors]
        self.cells: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self.cut = any(len(o) > 1 for o in self.options)

    @property
    def only(self) -> list[tuple[int, ...]]:
        """The nodes of an array that is not cut."""
        return next(iter(self.cells.values()))


class Instance(NamedTuple):
    """One link on one choice of cells: ``groups[g]`` are the (role, node) pairs that are one index."""

    groups: list[list[tuple[int, int]]]


class Cells:
    """All nodes of a walk, united into classes."""

    def __init__(self, walk: Walk):
        self.walk = walk
        self.memo: dict[int, list[Branch]] = {}
        self.arrays: dict[int, Array] = {}
        self.size: list[int] = []
        self.parent: list[int] = []
        self.touched: list[bool] = []
        self.reasons: dict[int, object] = {}
        self.instances: list[Instance] = []
        self.too_many: list[Struct] = []
        structs: dict[int, Struct] = {id(s): s for s in walk.structs}
        for s in structs.values():
            self._number(s)
        for link in walk.links:
            self._apply(link)
        for factor, reason in walk.pins:
            self._pin(factor, reason)

    # ------------------------------------------------------------------ nodes
    def _number(self, struct: Struct) -> None:
        array = Array(struct, self.memo)
        self.arrays[id(struct)] = array
        if not array.cut:
            cell, at = [], len(self.size)
            for (option,) in array.options:
                n = len(option.leaves)
                self.size += option.leaves
                cell.append((at,) if n == 1 else tuple(range(at, at + n)))
                at += n
            more = at - len(self.parent)
            self.parent += range(at - more, at)
            self.touched += [False] * more
            array.cells[(0,) * len(array.options)] = cell
            return
        total = prod(len(o) for o in array.options)
        if total > MAX_CELLS:
            self.too_many.append(struct)
        shared: dict[tuple[int, int], tuple[int, ...]] = {}
        for choice in cross(*[range(len(o)) for o in array.options]):
            cell = []
            for k, c in enumerate(choice):
                leaves = array.options[k][c].leaves
                if total > MAX_CELLS and (k, c) in shared:
                    cell.append(shared[k, c])
                    continue
                nodes = tuple(range(len(self.size), len(self.size) + len(leaves)))
                self.size += leaves
                self.parent += nodes
                self.touched += [False] * len(leaves)
                shared[k, c] = nodes
                cell.append(nodes)
            array.cells[choice] = cell
            if total > MAX_CELLS and len(array.cells) >= MAX_CELLS:
                break

    def root(self, node: int) -> int:
        """The representative of a node's class."""
        parent = self.parent
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def unite(self, a: int, b: int) -> None:
        """Make two classes one."""
        a, b = self.root(a), self.root(b)
        if a != b:
            self.parent[b] = a
            if b in self.reasons:
                self.reasons.setdefault(a, self.reasons[b])

    def _pin(self, factor: Factor, reason: object) -> None:
        for f in factor.flat():
            array = self.arrays[id(f.struct)]
            k = array.places[id(f)]
            for cell in array.cells.values():
                for node in cell[k]:
                    self.touched[node] = True
                    self.reasons.setdefault(self.root(node), reason)

    def is_fixed(self, node: int) -> bool:
        """Whether a node's coordinates each stand for themselves."""
        return self.size[node] < 2 or self.root(node) in self.reasons

    def is_fixed_class(self, root: int) -> bool:
        """Whether a class is pinned."""
        return root in self.reasons

    # ------------------------------------------------------------------ links
    def _choices(self, entry: Entry) -> dict[int, list[tuple[Factor, int]]]:
        """``{start: [(leaf factor, option)]}`` over the product of an entry's items."""
        found: dict[int, list[tuple[Factor, int]]] = {0: []}
        stride = prod(f.size for f in entry.items)
        for item in entry.items:
            stride //= item.size
            inner = item.size
            options: dict[int, list[tuple[Factor, int]]] = {0: []}
            for f in item.flat():
                inner //= f.size
                opts = branches(f.port, self.memo)
                options = {
                    s + b.start * inner: [*chosen, (f, i)]
                    for s, chosen in options.items()
                    for i, b in enumerate(opts)
                }
            found = {
                s + t * stride: chosen + more
                for s, chosen in found.items()
                for t, more in options.items()
            }
        return found

    def _apply_uncut(self, link) -> bool:
        """A link among arrays that are not cut; False if it is not one."""
        arrays = self.arrays
        groups: list[list[tuple[int, int]]] = []
        for v in link.variables:
            lists = []
            for role, items, offset in v.entries:
                array = arrays[id(items[0].struct)]
                if array.cut or offset or (len(items) == 1 and items[0].port.size != v.size):
                    return False
                cell = array.only
                nodes: tuple[int, ...] = ()
                for item in items:
                    if item.kids is None and id(item) in array.places:
                        nodes += cell[array.places[id(item)]]
                    else:
                        for f in item.flat():
                            nodes += cell[array.places[id(f)]]
                lists.append((role, nodes))
            length = len(lists[0][1])
            for _, nodes in lists:
                if len(nodes) != length:
                    return False
            for t in range(length):
                groups.append([(role, nodes[t]) for role, nodes in lists])
        touched = self.touched
        for group in groups:
            first = group[0][1]
            touched[first] = True
            for _, n in group[1:]:
                touched[n] = True
                self.unite(first, n)
        self.instances.append(Instance(groups))
        return True

    def _apply(self, link) -> None:
        if self._apply_uncut(link):
            return
        structs: list[Struct | None] = [None] * link.roles
        per_variable = []
        for v in link.variables:
            tables = []
            for e in v.entries:
                structs[e.role] = e.items[0].struct
                table = self._choices(e)
                whole = prod(f.size for f in e.items)
                if e.offset or whole != v.size:
                    table = {
                        s - e.offset: c
                        for s, c in table.items()
                        if e.offset <= s < e.offset + v.size
                    }
                tables.append(table)
            starts = [s for s in tables[0] if all(s in t for t in tables)]
            per_variable.append(
                [[(e.role, t[s]) for e, t in zip(v.entries, tables)] for s in starts]
            )
        arrays = [None if s is None else self.arrays[id(s)] for s in structs]
        covered: list[set[int]] = [set() for _ in arrays]
        for options in per_variable:
            for option in options[:1]:
                for role, chosen in option:
                    covered[role] |= {id(f) for f, _ in chosen}
        for role, array in enumerate(arrays):
            for f in () if array is None else array.factors:
                if id(f) not in covered[role]:
                    n = len(branches(f.port, self.memo))
                    per_variable.append([[(role, [(f, i)])] for i in range(n)])
        for combination in cross(*per_variable):
            self._instance(arrays, combination)

    def _instance(self, arrays: list[Array | None], combination) -> None:
        choice = [None if a is None else [0] * len(a.factors) for a in arrays]
        for option in combination:
            for role, chosen in option:
                for f, i in chosen:
                    choice[role][arrays[role].places[id(f)]] = i  # type: ignore[index, union-attr]
        cells = [
            None if a is None else a.cells.get(tuple(c))
            for a, c in zip(arrays, choice, strict=True)  # type: ignore[arg-type]
        ]
        groups: list[list[tuple[int, int]]] = []
        for option in combination:
            lists = []
            for role, chosen in option:
                cell, array = cells[role], arrays[role]
                if cell is None:
                    continue
                lists.append([(role, n) for f, _ in chosen for n in cell[array.places[id(f)]]])  # type: ignore[union-attr]
            if not lists:
                continue
            if len({len(x) for x in lists}) > 1:
                for entries in lists:
                    for _, n in entries:
                        self.reasons.setdefault(self.root(n), "axes refined differently")
                continue
            for together in zip(*lists, strict=True):
                first = together[0][1]
                for _, n in together:
                    self.touched[n] = True
                    self.unite(first, n)
                groups.append(list(together))
        self.instances.append(Instance(groups))

    # ------------------------------------------------------------------ reading
    def every_cell(self) -> Iterator[tuple[Array, tuple[int, ...], list[tuple[int, ...]]]]:
        """All arrays' cells: (array, choice, nodes per leaf factor)."""
        for array in self.arrays.values():
            for choice, cell in array.cells.items():
                yield array, choice, cell
