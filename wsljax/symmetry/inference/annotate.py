"""From classes to annotations: axis trees, unit names, nesting, and the reasons for what is pinned."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..axes import Alt, Axis, Fixed, Prod, Reorder, Sum, Unit, default_seats
from .branches import coordinates
from .cells import Array, Cells
from .merge import fuse_factors, joint_segments
from .nest import parents
from .ports import LEAF, find, inverse, is_identity, opened
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
                        bad |= any(_shuffled(array, j) for kind, j in s.axes[here] if kind == "leaf")
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


class Annotator:
    """Names classes and writes the trees of arrays; see :func:`annotate`."""

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
            orders = {tuple(self._sequence(s, k, rest)) for rest in s.contexts(k)}
            mixed = len(orders) > 1 or any(
                kind == "leaf" and j in across for kind, j in s.axes[axis]
            )
            uneven = depends(self.cells, s.array, k) != needs[k]
            if k in chosen or uneven or (mixed and orders != {tuple(range(len(s.array.options[k])))}):
                found |= {
                    self.head_of[c]
                    for cell in s.array.cells.values()
                    for c in map(self.cells.root, cell[k])
                    if c in self.head_of
                }
        return found

    def _sequence(self, s: Shown, k: int, rest: tuple[int, ...]) -> list[int]:
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

    # ------------------------------------------------------------------ trees
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
        return np.concatenate([found[i] for i in self._sequence(s, k, s.contexts(k)[0])])

    def _trees(self, s: Shown, needs: dict[int, set[int]], choice: dict[int, int]) -> list[Axis]:
        array = s.array
        for k, gs in needs.items():
            for g in gs:
                if g in choice or s.axis_of(g) == s.axis_of(k):
                    continue
                axis = s.axis_of(g)
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
        parts: list[Axis] = []
        for j, (kind, k) in enumerate(items):
            if kind == "wild":
                parts.append(Fixed(k))
                continue
            options = range(len(s.array.options[k]))
            if k in choice:
                parts += self._leaves(s, choice, k)
                continue
            if len(options) == 1:
                parts += self._leaves(s, {**choice, k: 0}, k)
                continue
            later = items[j + 1 :]
            if any(kind2 == "leaf" and k in needs[m] for kind2, m in later):
                rows = []
                for i in options:
                    sub = self._axis(s, needs, {**choice, k: i}, [items[j], *later], 0)
                    if sub is not None:
                        rows.append(sub)
                parts.append(Sum(tuple(rows)))
                return Prod(tuple(parts))
            rows = []
            for i in options:
                leaves = self._leaves(s, {**choice, k: i}, k)
                if leaves is not None and None not in leaves:
                    rows.append(Prod(tuple(leaves)) if leaves else Fixed(1))
            parts.append(Sum(tuple(rows)))
        if not parts:
            return Fixed(1 if size == 0 else size)
        return parts[0] if len(parts) == 1 else Prod(tuple(parts))

    def _leaves(self, s: Shown, choice: dict[int, int], k: int) -> list[Axis]:
        """The atoms of one leaf factor in a cell that agrees with ``choice`` (others do not matter)."""
        full = tuple(choice.get(g, 0) for g in range(len(s.array.options)))
        return [self.atom(n) for n in s.array.cells[full][k]] or (
            [Fixed(1)] if len(s.array.options[k]) > 1 else []
        )


def _sequence(items: list[tuple[str, int]], needs: dict[int, set[int]]) -> list[int]:
    """The order in which the factors of an axis are written: those that decide on others before them."""
    here = {k for kind, k in items if kind == "leaf"}
    left, done, out = list(range(len(items))), set(), []
    while left:
        j = next(
            j for j in left if items[j][0] == "wild" or needs[items[j][1]] & here <= done
        )
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
        both = isinstance(last[axis], Fixed) and isinstance(sub[axis], Fixed)
        if alike and both and not last[axis].name and not sub[axis].name:
            merged = list(last)
            merged[axis] = Fixed(last[axis].size + sub[axis].size)
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
    flat: list[Axis] = []
    for p in map(_tidy, tree.parts):
        flat += p.parts if type(p) is type(tree) else (p,)
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
