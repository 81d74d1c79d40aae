"""The action of permutations on annotated arrays, coordinate by coordinate, in numpy.

An independent, slow reading of the axis grammar: every entry of an array looks up, atom by atom,
which entry it takes its value from. The library's own action (gathers on blocks) is judged by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wsljax.symmetry import Block, Leaf, Spec
from wsljax.symmetry.axes import Alt, Fixed, Prod, Reorder, Sum, Unit


@dataclass(eq=False)
class Occurrence:
    """One place in one array where a set of units, or a fixed axis, stands.

    ``pieces`` are ``(axis, stride, coordinate)``, one for each factor in order, on a reindexed axis in
    the coordinates of its tree; ``where`` marks the
    entries of the array at which the occurrence exists (a segment of a sum, an alternative); ``at``
    says which of several parents of one name is meant, by default one after the other.
    """

    name: str
    sizes: list[int] = field(default_factory=list)
    pieces: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    where: np.ndarray | None = None
    at: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return int(np.prod(self.sizes))

    @property
    def coordinate(self) -> np.ndarray:
        """Index within the units at every entry (row-major over factors)."""
        flat = np.zeros_like(self.pieces[0][2])
        for size, (_, _, c) in zip(self.sizes, self.pieces):
            flat = flat * size + c
        return np.clip(flat, 0, self.size - 1)

    def describe(self) -> str:
        axes = "/".join(str(axis) for axis, _, _ in self.pieces)
        entries = (
            "" if self.where.all() else f" in {int(self.where.sum())} of {self.where.size} entries"
        )
        return f"{self.name} on axis {axes}{entries}"


def occurrences(leaf: Leaf) -> list[Occurrence]:
    """All occurrences in one array, factors of a product unit brought together."""
    grids = tree_coordinates(leaf)
    trees = [t.tree if isinstance(t, Reorder) else t for t in leaf.trees]
    leaf = Leaf(leaf.path, leaf.shape, tuple(trees))
    atoms = [
        atom
        for axis, tree in enumerate(trees)
        for atom in _walk(leaf, grids, tree, axis, 1, grids[axis], np.ones(leaf.shape, bool))
    ]
    found: list[Occurrence] = []
    for atom, axis, stride, coordinate, where in atoms:
        part = atom.part if isinstance(atom, Unit) else None
        home = None
        if part is not None:
            home = next(
                (
                    o
                    for o in found
                    if o.name == atom.name and part not in o.parts and (o.where & where).any()
                ),
                None,
            )
        if home is None:
            home = Occurrence(atom.name or "_", where=where, at=getattr(atom, "at", ()))
            found.append(home)
        home.where = home.where & where
        home.sizes.append(atom.size)
        home.pieces.append((axis, stride, coordinate))
        home.parts.append(-1 if part is None else part)
    for o in found:
        order = np.argsort(o.parts, kind="stable")
        o.sizes = [o.sizes[i] for i in order]
        o.pieces = [o.pieces[i] for i in order]
    return found


def tree_coordinates(leaf: Leaf) -> list[np.ndarray]:
    """For each axis, the coordinate of its tree at every entry; a reindexed axis looks it up."""
    grids = list(np.indices(leaf.shape))
    for axis, tree in enumerate(leaf.trees):
        if isinstance(tree, Reorder):
            assert sorted(tree.order) == list(range(leaf.shape[axis]))
            grids[axis] = np.asarray(tree.order)[grids[axis]]
    return grids


def _walk(leaf: Leaf, grids, tree, axis, stride, coordinate, where) -> Iterator[tuple]:
    if isinstance(tree, (Fixed, Unit)):
        yield tree, axis, stride, coordinate, where
    elif isinstance(tree, Prod):
        found = []
        for part in reversed(tree.parts):
            below = _walk(leaf, grids, part, axis, stride, coordinate % part.size, where)
            found.append(list(below))
            stride, coordinate = stride * part.size, coordinate // part.size
        for below in reversed(found):
            yield from below
    elif isinstance(tree, Sum):
        start = 0
        for part in tree.parts:
            here = where & (coordinate >= start) & (coordinate < start + part.size)
            yield from _walk(leaf, grids, part, axis, stride, coordinate - start, here)
            start += part.size
    elif isinstance(tree, Alt):
        start = 0
        for option, segment in zip(tree.parts, leaf.trees[tree.axis].parts, strict=True):
            chosen = (grids[tree.axis] >= start) & (grids[tree.axis] < start + segment.size)
            yield from _walk(leaf, grids, option, axis, stride, coordinate, where & chosen)
            start += segment.size
    else:
        raise TypeError(f"unknown node {tree!r}")


def source(
    leaf: Leaf,
    found: Sequence[Occurrence],
    new: Mapping[int, np.ndarray],
) -> tuple[np.ndarray, ...]:
    """Index arrays: for each entry, where its value comes from.

    ``new`` maps positions in ``found`` to the coordinate that each entry reads there.
    """
    index = [g.copy() for g in tree_coordinates(leaf)]
    for i, goal in new.items():
        o, rest = found[i], goal
        for size, (axis, stride, coordinate) in reversed(list(zip(o.sizes, o.pieces))):
            index[axis] += np.where(o.where, stride * (rest % size - coordinate), 0)
            rest = rest // size
    for axis, tree in enumerate(leaf.trees):
        if isinstance(tree, Reorder):
            place = {c: i for i, c in enumerate(tree.order)}
            index[axis] = np.vectorize(place.__getitem__, otypes=[int])(index[axis])
    return tuple(index)


def target(spec: Spec, found: Sequence[Occurrence], i: int, perm: np.ndarray) -> np.ndarray:
    """What occurrence ``i`` reads at every entry; ``perm`` has an axis for each parent first."""
    o = found[i]
    over = spec.over(o.name)
    seats = o.at or [over[:k].count(parent) for k, parent in enumerate(over)]
    index = []
    for parent, seat in zip(over, seats, strict=True):
        met, at = np.zeros(o.where.shape, int), np.full(o.where.shape, -1)
        for p in found:
            if p.name == parent:
                at = np.where(p.where & (met == seat), p.coordinate, at)
                met += p.where
        if (at[o.where] < 0).any():
            raise AssertionError(f"{o.describe()}: its parent {parent!r} does not stand beside it")
        index.append(np.maximum(at, 0))
    return perm[(*index, o.coordinate)]


def act(
    spec: Spec,
    g: Mapping[str, np.ndarray],
    leaf: Leaf,
    x: np.ndarray,
    skip: Occurrence | None = None,
    found: Sequence[Occurrence] | None = None,
) -> np.ndarray:
    """``x`` moved by ``g``; the occurrence ``skip`` is left where it is."""
    found = occurrences(leaf) if found is None else found
    new = {
        i: target(spec, found, i, np.asarray(g[o.name]))
        for i, o in enumerate(found)
        if o.name in g and o is not skip
    }
    return np.asarray(x)[source(leaf, found, new)] if new else np.asarray(x)


def permute_fixed(leaf: Leaf, found, i: int, perm: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``x`` with the coordinates of one fixed occurrence permuted, and nothing else."""
    return np.asarray(x)[source(leaf, found, {i: perm[found[i].coordinate]})]


def act_on_block(g: Mapping[str, np.ndarray], block: Block, x: np.ndarray) -> np.ndarray:
    """``new[.., h, .., j, ..] = old[.., pi[h], .., sigma[h, j], ..]`` on a block."""
    grids = list(np.indices(x.shape))
    index = [
        np.asarray(g[name])[(*(grids[p] for p in parents), grid)] if name in g else grid
        for grid, name, parents in zip(grids, block.axes, block.parents, strict=True)
    ]
    return x[tuple(index)]
