"""What there is to match: blocks, the units on their axes, and the smaller problems inside of nested units.

Everything here is static. A :class:`Problem` is a list of blocks and of units; two sets of arrays with
these blocks, ``a`` and ``b``, are to be brought together by exchanging units of ``b``. Units that others are
nested over (attention heads, experts) are matched with those in one go: for every pair of outer units, one of
``a`` and one of ``b``, there is a problem of its own, of the same kind, made of the blocks with the outer
axis taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from wsljax.symmetry import Block, Spec, Units


@dataclass(frozen=True)
class Place:
    """Where units stand: an axis of a block, and the axes of their parents in the order of ``over``."""

    block: Block
    axis: int

    @property
    def parents(self) -> tuple[int, ...]:
        return self.block.parents[self.axis]

    @property
    def name(self) -> str:
        return f"{self.block.name}@{self.axis}"


@dataclass(frozen=True)
class Turn:
    """Units that are turned by an orthogonal matrix and not permuted.

    Attributes:
        name: of the units.
        pairs: if not empty, only the planes of these pairs of coordinates are turned.
        centred: whether the mean of the coordinates stays where it is.
    """

    name: str
    pairs: tuple[tuple[int, int], ...] = ()
    centred: bool = False


@dataclass(frozen=True)
class Flip:
    """Signs of units, decided together with their exchange.

    Attributes:
        name: the key of the signs in an element.
        units: whose signs.
        at: places, as pairs of a block and an axis, where the sign multiplies.
        bias: where whole steps are added, the sign being that of an odd number of them (the phase of a
            sine); ``None`` for signs alone.
        step: the step.
    """

    name: str
    units: str
    at: frozenset[tuple[str, int]]
    bias: tuple[str, int] | None = None
    step: float = 0.0


@dataclass(frozen=True)
class Problem:
    """Blocks to be compared and units to be exchanged.

    Attributes:
        blocks: what is compared. Axes whose label is not among the units are fixed.
        units: what may be exchanged, or turned.
        turns: which of the units are turned.
        flips: signs of units.
        still: units that have signs only.
    """

    blocks: tuple[Block, ...]
    units: tuple[Units, ...]
    turns: tuple[Turn, ...] = ()
    flips: tuple[Flip, ...] = ()
    still: tuple[str, ...] = ()

    @cached_property
    def turned(self) -> dict[str, Turn]:
        return {t.name: t for t in self.turns}

    @cached_property
    def by_flip(self) -> dict[str, Flip]:
        return {f.name: f for f in self.flips}

    @cached_property
    def plain(self) -> bool:
        """Whether there is nothing but permutations."""
        return not (self.turns or self.flips or self.still)

    def flips_of(self, name: str) -> tuple[Flip, ...]:
        """The signs of some units."""
        return tuple(f for f in self.flips if f.units == name)

    def signless(self, b: Block, k: int) -> bool:
        """Whether a sum over this axis says anything while its units are not matched."""
        if self.plain:
            return True
        axis = b.axes[k]
        return axis not in self.turned and not any((b.name, k) in f.at for f in self.flips)

    @cached_property
    def by_name(self) -> dict[str, Units]:
        return {u.name: u for u in self.units}

    @cached_property
    def _places(self) -> dict[str, tuple[Place, ...]]:
        return {
            u.name: tuple(
                Place(b, k) for b in self.blocks for k, axis in enumerate(b.axes) if axis == u.name
            )
            for u in self.units
        }

    def places(self, name: str) -> tuple[Place, ...]:
        """All places of some units."""
        return self._places[name]

    @cached_property
    def roots(self) -> tuple[Units, ...]:
        """Units that are not nested over other units of the problem."""
        return tuple(u for u in self.units if not set(u.over) & self.by_name.keys())

    @cached_property
    def _nested(self) -> dict[str, tuple[Units, ...]]:
        return {
            u.name: tuple(
                m for m in self.units if m.over.count(u.name) == 1 and set(u.over) <= set(m.over)
            )
            for u in self.units
        }

    def nested(self, name: str) -> tuple[Units, ...]:
        """The units that are matched together with these: nested over them, once."""
        return self._nested[name]

    @cached_property
    def _linear(self) -> dict[str, bool]:
        out = {}
        for u in self.units:
            family = {u.name, *(m.name for m in self.nested(u.name))}
            carried = {m.name for m in self.units if u.name in m.over}
            count = {b.name: b.axes.count(u.name) for b in self.blocks}
            inner = self.inner(u.name) if len(family) > 1 else None
            seen = inner is None or all(
                sum(axis in family for axis in b.axes) - 1
                == sum(axis in inner.by_name for axis in part.axes)
                for part, b in zip(
                    inner.blocks, (p.block for p in self.places(u.name)), strict=True
                )
            )
            out[u.name] = max(count.values(), default=0) < 2 and carried <= family and seen
        return out

    def linear(self, name: str) -> bool:
        """Whether what is gained by exchanging these units is a sum over them.

        It is not for units that meet themselves in a block, as in the recurrent kernel of an RNN.
        """
        return self._linear[name]

    @cached_property
    def _inner(self) -> dict[str, Problem]:
        return {u.name: _inner_problem(self, u) for u in self.units}

    def inner(self, name: str) -> Problem:
        """The problem for one pair of these units: a block for each of their places, in order."""
        return self._inner[name]

    @cached_property
    def coupled(self) -> bool:
        """Whether some units meet others (or themselves) in a block."""
        return any(sum(axis in self.by_name for axis in b.axes) > 1 for b in self.blocks)

    @cached_property
    def neighbours(self) -> dict[str, frozenset[str]]:
        """For each units set those whose best exchange depends on it."""
        out = {}
        for u in self.units:
            near = {n for p in self.places(u.name) for n in p.block.axes if n in self.by_name}
            if self.linear(u.name) and not self.nested(u.name):
                near.discard(u.name)
            out[u.name] = frozenset(near)
        return out

    def size_of(self, name: str) -> int:
        """The size of units, or of a fixed axis that units are nested over."""
        if name in self.by_name:
            return self.by_name[name].size
        return next(b.shape[b.axes.index(name)] for b in self.blocks if name in b.axes)

    def copies(self, name: str) -> tuple[int, ...]:
        """The sizes of what the units are nested over."""
        return tuple(self.size_of(o) for o in self.by_name[name].over)


@lru_cache(maxsize=256)
def problem_of(spec: Spec, skip: tuple[str, ...] = (), in_parts: tuple[str, ...] = ()) -> Problem:
    """All blocks of a spec that carry units, but those to be skipped; units without a block are left out.

    Args:
        spec: the spec.
        skip: names of blocks that are not compared.
        in_parts: names of blocks of complex numbers, which have real and imaginary parts as a last axis.
    """
    placed = {axis for b in spec.layout if b.name not in skip for axis in b.axes}
    units = tuple(u for u in spec.units if u.name in placed)
    names = {u.name for u in units}
    blocks = tuple(
        _with_parts(b) if b.name in in_parts else b
        for b in spec.layout
        if b.name not in skip and names & set(b.axes)
    )
    return Problem(blocks, units)


def _with_parts(b: Block) -> Block:
    parents = (*b.parents, ())
    return Block(b.name, b.path, (*b.axes, "_"), (*b.shape, 2), parents)


def _inner_problem(problem: Problem, u: Units) -> Problem:
    """The blocks of ``u`` with its axis and those of its parents taken out, one for each place."""
    nested = {m.name: m for m in problem.nested(u.name)}
    blocks, seen = [], {}
    for place in problem.places(u.name):
        b, gone = place.block, {place.axis, *place.parents}
        kept = [k for k in range(len(b.axes)) if k not in gone]
        active = {k for k in kept if b.axes[k] in nested and belongs(problem, place, k, u)}
        seats = {p for k in active for p in b.parents[k]} - gone
        labels, parents = [], []
        for k in kept:
            fixed = f"_{b.axes[k]}" if k in seats else "_"
            own = b.axes[k] if k in active or b.axes[k].startswith("_") and k in seats else fixed
            labels.append(own)
            above = [p for p in b.parents[k] if p not in gone] if k in active else []
            parents.append(tuple(kept.index(p) for p in above))
        shape = tuple(b.shape[k] for k in kept)
        blocks.append(Block(place.name, b.path, tuple(labels), shape, tuple(parents)))
        seen |= {(b.name, k, place.name): kept.index(k) for k in active}
    active_names = {axis for b in blocks for axis in b.axes}
    units = []
    for m in nested.values():
        if m.name not in active_names:
            continue
        rest = [o for o in m.over if o != u.name and o not in u.over]
        over = tuple(o if o in nested or o.startswith("_") else f"_{o}" for o in rest)
        units.append(Units(m.name, m.size, over))
    return part_of(problem, tuple(blocks), tuple(units), seen)


def part_of(
    problem: Problem,
    blocks: tuple[Block, ...],
    units: tuple[Units, ...],
    seen: Mapping[tuple[str, int, str], int],
) -> Problem:
    """A problem with some of the units, turned and signed as in the whole one.

    Args:
        problem: the whole.
        blocks, units: of the part.
        seen: ``{(block, axis, block of the part): axis there}``.
    """
    if problem.plain:
        return Problem(blocks, units)
    names = {u.name for u in units}
    flips = []
    for f in (f for f in problem.flips if f.units in names):
        at = frozenset((to, j) for (b, k, to), j in seen.items() if (b, k) in f.at)
        bias = next(((to, j) for (b, k, to), j in seen.items() if (b, k) == f.bias), None)
        flips.append(replace(f, at=at, bias=bias))
    turns = tuple(t for t in problem.turns if t.name in names)
    return Problem(
        blocks, units, turns, tuple(flips), tuple(n for n in problem.still if n in names)
    )


def belongs(problem: Problem, place: Place, k: int, u: Units) -> bool:
    """Whether the nested units on axis ``k`` are those of the outer units at this place."""
    m = problem.by_name[place.block.axes[k]]
    seats = dict(zip(m.over, place.block.parents[k], strict=True))
    above = zip(u.over, place.parents, strict=True)
    return seats[u.name] == place.axis and all(seats[o] == p for o, p in above)
