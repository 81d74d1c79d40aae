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

import numpy as np

from .branches import Branch, branches, coordinates
from .constants import UNEVEN
from .ports import Port, inverse
from .values import Entry, Factor, Struct
from .walk import Walk

MAX_CELLS = 20000


class Shared(dict):
    """Cells of an array cut so often that they share their nodes: listed are enough to meet them all."""

    def __init__(self, nodes: dict[tuple[int, int], tuple[int, ...]]):
        super().__init__()
        self.nodes = nodes

    def __missing__(self, choice: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [self.nodes[k, c] for k, c in enumerate(choice)]

    def get(self, choice, default=None):
        return self[choice]


class Array:
    """A struct with its nodes: ``cells[choice][k]`` are the nodes of leaf factor ``k`` in one cell."""

    __slots__ = ("factors", "places", "options", "cells", "cut", "only")

    def __init__(self, struct: Struct, memo: dict[int, list[Branch]]):
        self.factors: list[Factor] = [f for r in struct.roots for f in r.flat()]
        self.places = {id(f): k for k, f in enumerate(self.factors)}
        self.options = [branches(f.port, memo) for f in self.factors]
        self.cells: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self.cut = any([len(o) > 1 for o in self.options])
        self.only: list[tuple[int, ...]] = []  # the nodes, if it is not cut


class Instance(NamedTuple):
    """One link on one choice of cells: ``groups[g]`` are the (role, node) pairs that are one index."""

    link: int
    groups: list[list[tuple[int, int]]]


class Cells:
    """All nodes of a walk, united into classes."""

    def __init__(self, walk: Walk):
        self.walk = walk
        self.memo: dict[int, list[Branch]] = {}
        self.arrays: dict[int, Array] = {}
        self.size: list[int] = []
        self.leaf: list[Port] = []
        self.parent: list[int] = []
        self.touched: list[bool] = []
        self.reasons: dict[int, object] = {}
        self.joined: set[int] = set()  # classes that are part of a larger set of units
        self.instances: list[Instance] = []
        structs: dict[int, Struct] = {id(s): s for s in walk.structs}
        for s in structs.values():
            self._number(s)
        for k, link in enumerate(walk.links):
            self._apply(k, link)
        for factor, reason in walk.pins:
            self._pin(factor, reason)
        self.colours: dict[tuple[int, int, int], bytes] = {}
        for factor, labels in walk.colours:
            self._colour(factor, labels)

    # ------------------------------------------------------------------ nodes
    def _number(self, struct: Struct) -> None:
        array = Array(struct, self.memo)
        self.arrays[id(struct)] = array
        if not array.cut:
            array.only = [self._add(option.leaves) for (option,) in array.options]
            array.cells[(0,) * len(array.options)] = array.only
            return
        if prod(len(o) for o in array.options) > MAX_CELLS:
            nodes: dict[tuple[int, int], tuple[int, ...]] = {}
            for k, options in enumerate(array.options):
                for c, option in enumerate(options):
                    nodes[k, c] = self._add(option.leaves)
            array.cells = Shared(nodes)
            for c in range(max(map(len, array.options))):
                choice = tuple(min(c, len(o) - 1) for o in array.options)
                array.cells[choice] = array.cells.__missing__(choice)  # type: ignore[attr-defined]
            return
        for choice in cross(*[range(len(o)) for o in array.options]):
            array.cells[choice] = [
                self._add(array.options[k][c].leaves) for k, c in enumerate(choice)
            ]

    def _add(self, leaves: tuple[Port, ...]) -> tuple[int, ...]:
        """New nodes, one for each leaf."""
        first = len(self.size)
        self.size += [port.size for port in leaves]
        self.leaf += leaves
        nodes = tuple(range(first, len(self.size)))
        self.parent += nodes
        self.touched += [False] * len(leaves)
        return nodes

    def root(self, node: int) -> int:
        """The representative of a node's class."""
        parent = self.parent
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def unite(self, a: int, b: int) -> None:
        """Make two classes one."""
        parent = self.parent
        if parent[a] != a:
            a = self.root(a)
        if parent[b] != b:
            b = self.root(b)
        if a != b:
            parent[b] = a
            if b in self.reasons:
                self.reasons.setdefault(a, self.reasons[b])

    def tie(self, a: int, b: int) -> None:
        """:meth:`unite` for nodes of one index set; others have been refined apart and are pinned."""
        if self.leaf[a] is self.leaf[b] or self.size[a] == self.size[b] == 1:
            self.unite(a, b)
        else:
            for n in (a, b):
                self.reasons.setdefault(self.root(n), "axes refined differently")

    def _pin(self, factor: Factor, reason: object) -> None:
        for f in factor.flat():
            array = self.arrays[id(f.struct)]
            k = array.places[id(f)]
            for cell in array.cells.values():
                for node in cell[k]:
                    self.touched[node] = True
                    self.reasons.setdefault(self.root(node), reason)

    def _colour(self, factor: Factor, labels: np.ndarray) -> None:
        """Note what a constant shows along each segment; segments along which it varies are pinned."""
        flat = factor.flat()
        table = labels.reshape([f.size for f in flat])
        for axis, f in enumerate(flat):
            array = self.arrays[id(f.struct)]
            k = array.places[id(f)]
            for i, at in enumerate(coordinates(f.port)):
                shown = np.take(table, at, axis)
                self.colours[id(array), k, i] = np.take(shown, 0, axis).tobytes()
                if (shown == np.take(shown, [0], axis)).all():
                    continue
                for choice, cell in array.cells.items():
                    if choice[k] == i:
                        for n in cell[k]:
                            self.reasons.setdefault(self.root(n), UNEVEN)

    def is_fixed(self, node: int) -> bool:
        """Whether a node's coordinates each stand for themselves."""
        root = self.root(node)
        return root in self.reasons or (self.size[node] < 2 and root not in self.joined)

    def is_fixed_class(self, root: int) -> bool:
        """Whether a class is pinned."""
        return root in self.reasons

    # ------------------------------------------------------------------ links
    def _choices(self, entry: Entry) -> dict[int, list[tuple[Factor, int]]]:
        """``{start: [(leaf factor, option)]}`` over the product of an entry's items."""
        if entry.order is not None:
            return self._choices_in_order(entry)
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

    def _choices_in_order(self, entry: Entry) -> dict[int, list[tuple[Factor, int]]]:
        found: list[tuple[np.ndarray, list[tuple[Factor, int]]]] = [(np.zeros(1, np.int64), [])]
        stride = prod(f.size for f in entry.items)
        for f in (f for item in entry.items for f in item.flat()):
            stride //= f.size
            found = [
                ((at[:, None] + c[None, :] * stride).reshape(-1), [*chosen, (f, i)])
                for at, chosen in found
                for i, c in enumerate(coordinates(f.port))
            ]
        back = inverse(entry.order)  # type: ignore[arg-type]
        return {int(back[at].min()): chosen for at, chosen in found}

    def _apply_uncut(self, number: int, link) -> bool:
        """A link among arrays that are not cut; False if it is not one."""
        arrays = self.arrays
        groups: list[list[tuple[int, int]]] = []
        for v in link.variables:
            lists = []
            for role, items, offset, order in v.entries:
                array = arrays[id(items[0].struct)]
                if (
                    array.cut
                    or offset
                    or order is not None
                    or (len(items) == 1 and items[0].port.size != v.size)
                ):
                    return False
                cell, places = array.only, array.places
                nodes: tuple[int, ...] = ()
                for item in items:
                    if item.kids is None and id(item) in places:
                        nodes += cell[places[id(item)]]
                    else:
                        for f in item.flat():
                            nodes += cell[places[id(f)]]
                lists.append((role, nodes))
            length = len(lists[0][1])
            for _, nodes in lists:
                if len(nodes) != length:
                    return False
            for t in range(length):
                groups.append([(role, nodes[t]) for role, nodes in lists])
        touched, leaf = self.touched, self.leaf
        for group in groups:
            first = group[0][1]
            for _, n in group:
                touched[n] = True
                if n != first:
                    (self.unite if leaf[n] is leaf[first] else self.tie)(first, n)
        self.instances.append(Instance(number, groups))
        return True

    def _apply(self, number: int, link) -> None:
        if self._apply_uncut(number, link):
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
            self._instance(number, arrays, combination)

    def _instance(self, number: int, arrays: list[Array | None], combination) -> None:
        choice = [None if a is None else [0] * len(a.factors) for a in arrays]
        for option in combination:
            for role, chosen in option:
                for f, i in chosen:
                    choice[role][arrays[role].places[id(f)]] = i  # type: ignore[index, union-attr]
        cells = [
            None if a is None or c is None else a.cells.get(tuple(c))
            for a, c in zip(arrays, choice, strict=True)
        ]
        groups: list[list[tuple[int, int]]] = []
        for option in combination:
            lists = []
            for role, chosen in option:
                cell, array = cells[role], arrays[role]
                if cell is None:
                    continue
                nodes = [n for f, _ in chosen for n in cell[array.places[id(f)]]]  # type: ignore[union-attr]
                lists.append([(role, n) for n in nodes])
            if len({len(x) for x in lists}) > 1:
                lists = [self._widest(nodes) for nodes in lists]
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
                    self.tie(first, n)
                groups.append(list(together))
        self.instances.append(Instance(number, groups))

    def _widest(self, nodes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Nodes without the single coordinates among them, which are pinned where they are left out."""
        wide = [(r, n) for r, n in nodes if self.size[n] > 1] or nodes[-1:]
        for entry in nodes:
            if entry not in wide:
                self.reasons.setdefault(self.root(entry[1]), "axes refined differently")
        return wide

    # ------------------------------------------------------------------ reading
    def roots(self) -> list[int]:
        """The representative of every node."""
        return [self.root(n) for n in range(len(self.size))]

    def every_cell(self) -> Iterator[tuple[Array, tuple[int, ...], list[tuple[int, ...]]]]:
        """All arrays' cells: (array, choice, nodes per leaf factor)."""
        for array in self.arrays.values():
            for choice, cell in array.cells.items():
                yield array, choice, cell
