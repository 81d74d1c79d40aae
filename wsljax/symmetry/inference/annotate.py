"""From classes to annotations: which classes are one set of units, their nesting, their names."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..axes import Axis, Fixed, Unit, default_seats
from .cells import Cells
from .merge import fuse_factors, joint_segments
from .nest import parents
from .shown import Shown, depends, follow_the_read, make_expressible
from .trees import Trees


class Annotator(Trees):
    """Names classes and writes the trees of arrays."""

    def __init__(self, cells: Cells, shown: Sequence[Shown], free_ends: Sequence[Shown] = ()):
        self.cells = cells
        self.shown = list(shown)
        every = [*shown, *free_ends]
        follow_the_read(cells, shown)
        make_expressible(cells, every)
        self._pin_unread(shown, free_ends)
        self.needs = {
            id(s): {k: depends(cells, s.array, k) for k in range(len(s.array.factors))}
            for s in every
            if s.array is not None
        }
        self._join(every)
        chained = {c for chain in self.chains.values() for c in chain}
        self.fused = {c: h for c, h in fuse_factors(cells).items()}
        for c in list(self.fused):
            if any(d in chained for d, h in self.fused.items() if h == self.fused[c]):
                del self.fused[c]
        self.members: dict[int, list[int]] = {}
        visible = {
            cells.root(n)
            for s in every
            if s.array is not None
            for cell in s.array.cells.values()
            for nodes in cell
            for n in nodes
        }
        free = {c for c in visible if c not in cells.reasons}
        self.over: dict[int, list[tuple[int, int]]] = {}
        self.seats: dict[tuple[int, int, int], dict[int, int]] = {}
        self._nest(parents(cells, free), free, chained, every)
        self.names: dict[int, str] = {}
        self.sizes: dict[int, int] = {}
        self.fixed_used: set[int] = set()
        self._name(every)

    def key(self, c: int) -> int:
        """The class that stands for a set of units."""
        c = self.fused.get(c, c)
        return self.head_of.get(c, c)

    def _join(self, every: Sequence[Shown]) -> None:
        """Segments that are one set of units: ``chains[head]`` lists them in the set's own order."""
        place: dict[int, int] = {}
        for s in every:
            for _, k in s.leaves():
                starts = [b.start for b in s.array.options[k]]  # type: ignore[union-attr]
                for i in sorted(range(len(starts)), key=starts.__getitem__):
                    for choice, cell in s.array.cells.items():  # type: ignore[union-attr]
                        if choice[k] == i:
                            for n in cell[k]:
                                place.setdefault(self.cells.root(n), len(place))
        self.chains: dict[int, list[int]] = {}
        for group in joint_segments(self.cells):
            group = sorted(group, key=lambda c: place.get(c, len(place)))
            self.chains[group[0]] = group
        while True:
            self.head_of = {c: head for head, chain in self.chains.items() for c in chain}
            self.cells.joined = set(self.head_of)
            apart = {h for s in every for h in self._unclear(s)}
            if not apart:
                return
            self.chains = {h: chain for h, chain in self.chains.items() if h not in apart}

    def _unclear(self, s: Shown) -> set[int]:
        """Joint sets whose segments one order of an axis cannot bring together."""
        if s.array is None or not s.array.cut:
            return set()
        needs = self.needs[id(s)]
        chosen = {g for gs in needs.values() for g in gs}
        across = {k for k, gs in needs.items() for g in gs if s.axis_of(g) != s.axis_of(k)}
        found: set[int] = set()
        for axis, k in s.leaves():
            orders = {tuple(self.sequence(s, k, rest)) for rest in s.contexts(k)}
            mixed = len(orders) > 1 or any(
                kind == "leaf" and j in across for kind, j in s.axes[axis]
            )
            uneven = depends(self.cells, s.array, k) != needs[k]
            if (
                k in chosen
                or uneven
                or (mixed and orders != {tuple(range(len(s.array.options[k])))})
            ):
                found |= {
                    self.head_of[c]
                    for cell in s.array.cells.values()
                    for c in map(self.cells.root, cell[k])
                    if c in self.head_of
                }
        return found

    def sequence(self, s: Shown, k: int, rest: tuple[int, ...]) -> list[int]:
        """The segments of a leaf factor, joint ones brought together, in one cell of the others."""
        array = s.array
        classes = []
        for i in range(len(array.options[k])):  # type: ignore[union-attr]
            nodes = array.cells[(*rest[:k], i, *rest[k:])][k]  # type: ignore[union-attr]
            classes.append(self.cells.root(nodes[0]) if len(nodes) == 1 else None)
        starts = [b.start for b in array.options[k]]  # type: ignore[union-attr]
        where: dict[int | None, list[int]] = {}
        for i in sorted(range(len(classes)), key=starts.__getitem__):
            where.setdefault(classes[i], []).append(i)
        out = []
        for i, c in enumerate(classes):
            if c not in self.head_of:
                out.append(i)
            elif self.head_of[c] == c:
                turn = where[c].index(i)
                out += [where[d][turn] for d in self.chains[c]]
        return out

    def _pin_unread(self, shown: Sequence[Shown], free_ends: Sequence[Shown]) -> None:
        touched = {self.cells.root(n) for n, t in enumerate(self.cells.touched) if t}
        for s in free_ends:
            for cell in () if s.array is None else s.array.cells.values():
                touched |= {self.cells.root(n) for nodes in cell for n in nodes}
        for s in shown:
            for cell in () if s.array is None else s.array.cells.values():
                for nodes in cell:
                    for n in nodes:
                        if self.cells.root(n) not in touched:
                            self.cells.reasons.setdefault(
                                self.cells.root(n), "not read by the function"
                            )

    def _nest(self, found, free: set[int], chained: set[int], every: Sequence[Shown]) -> None:
        """Which sets of units are nested over which (``(class, how many of that class before it)``)."""
        order, alike = self._ordinals(every), self._alike(every)
        per_key: dict[int, list[dict[tuple[int, int], dict[int, int]]]] = {}
        for c in sorted(free):
            mine: dict[tuple[int, int], dict[int, int]] = {}
            count: dict[int, int] = {}
            for b, seats in found.get(c, ()):
                key = self.key(b)
                if b in chained or key == self.key(c) or self.fused.get(b, b) != b:
                    continue
                if not self._steady(seats, order, alike):
                    continue
                mine[key, count.get(key, 0)] = seats
                count[key] = count.get(key, 0) + 1
            per_key.setdefault(self.key(c), []).append(mine)
        for key, tables in per_key.items():
            common = [k for k in tables[0] if all(k in t for t in tables)]
            self.over[key] = sorted(common)
            for k in common:
                self.seats[(key, *k)] = {
                    n: order.get(m, 0) for t in tables for n, m in t[k].items()
                }
        again = True
        while again:  # parents' own parents must be parents too, else the nesting is given up
            again = False
            for above in self.over.values():
                for b in list(above):
                    if not set(self.over.get(b[0], ())) <= set(above):
                        above.remove(b)
                        again = True

    def _ordinals(self, every: Sequence[Shown]) -> dict[int, int]:
        """For nodes of shown arrays: how many of the same class stand before them in their block."""
        order: dict[int, int] = {}
        for s in every:
            if s.array is None:
                continue
            places = [k for items in s.axes for kind, k in items if kind == "leaf"]
            places += [k for k in range(len(s.array.factors)) if k not in places]
            for cell in s.array.cells.values():
                count: dict[int, int] = {}
                for k in places:
                    for n in cell[k]:
                        root = self.cells.root(n)
                        order[n] = count.get(root, 0)
                        count[root] = order[n] + 1
        return order

    def _alike(self, every: Sequence[Shown]) -> dict[int, int]:
        """Nodes of one leaf factor, in cells where they are of one class: each to the first of them."""
        first: dict[int, int] = {}
        for s in every:
            if s.array is None or not s.array.cut:
                continue
            for k in range(len(s.array.factors)):
                seen: dict[tuple[int, int], int] = {}
                for cell in s.array.cells.values():
                    for t, n in enumerate(cell[k]):
                        first[n] = seen.setdefault((t, self.cells.root(n)), n)
        return first

    @staticmethod
    def _steady(seats: dict[int, int], order: dict[int, int], alike: dict[int, int]) -> bool:
        """Whether the parent is the same occurrence in all cells that one annotation covers."""
        return all(
            order.get(m, 0) == order.get(seats[alike[n]], 0)
            for n, m in seats.items()
            if alike.get(n, n) in seats and n in alike
        )

    def _name(self, every: Sequence[Shown]) -> None:
        wanted = {b for above in self.over.values() for b, _ in above}
        count = fixed = 0
        for s in every:
            if s.array is None:
                continue
            order = [k for items in s.axes for kind, k in items if kind == "leaf"]
            for k in order:
                for cell in s.array.cells.values():
                    for n in cell[k]:
                        root = self.cells.root(n)
                        if self.cells.is_fixed(n):
                            if root in wanted and root not in self.names:
                                self.names[root] = "_L" + (str(fixed) if fixed else "")
                                self.sizes[root] = self.cells.size[n]
                                fixed += 1
                            continue
                        key = self.key(root)
                        if key not in self.names:
                            self.names[key] = f"h{count}"
                            count += 1
                        if root in self.fused:
                            group = self.members.setdefault(key, [])
                            if root not in group:
                                group.append(root)
        for c in self.names:
            if not self.names[c].startswith("_"):
                self.sizes[c] = self._size(c)
        self.over = {c: [b for b in above if b[0] in self.names] for c, above in self.over.items()}

    def _size(self, key: int) -> int:
        if key in self.members:
            return prod(self.cells.size[c] for c in self.members[key])
        return sum(self.cells.size[c] for c in self.chains.get(key, [key]))

    def atom(self, node: int) -> Axis | None:
        """The atom of a node; None for a segment that has been joined to the one before it."""
        root = self.cells.root(node)
        if self.cells.is_fixed(node):
            return Fixed(self.cells.size[node], self.names.get(root))
        if self.head_of.get(root, root) != root:
            return None
        key = self.key(root)
        above = self.over.get(key, [])
        at = tuple(self.seats[(key, *b)][node] for b in above)
        if at == default_seats(tuple(self.names[b] for b, _ in above)):
            at = ()
        if key in self.members:
            return Unit(self.names[key], self.cells.size[node], self.members[key].index(root), at)
        return Unit(self.names[key], self.sizes[key], None, at)
