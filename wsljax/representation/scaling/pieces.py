"""How the scales and signs of a spec move its blocks: every block in pieces of one charge.

A :class:`~wsljax.symmetry.Scale` multiplies a coordinate by ``s ** exponent``, a
:class:`~wsljax.symmetry.Sign` by ``e``. The *charge* of an index tuple lists these exponents. A piece is a
block, or the part of one that a generator moves by itself (the value half of a packed gate), so that
all its coordinates have charges of one form.

The pieces have a spec of their own, so that whatever reads a spec reads pieces. In it a fixed axis
along which a generator scales is a set of units: it is no longer folded into channels, each of which
would need another charge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import jax

from ...symmetry.annotation import Leaf, Units
from ...symmetry.axes import Fixed, Unit
from ...symmetry.generators import Generator, Scale, Sign, Term
from ...symmetry.generators.base import part_slices
from ...symmetry.layout import Block
from ...symmetry.spec import Spec
from ..blocks.indices import index_axes, structure

KINDS = ("scale", "sign")
"""Kinds of generators that multiply each coordinate by a number."""


@dataclass(frozen=True)
class Move:
    """A factor ``element[where] ** exponent``; ``sign`` for elements of +1 and -1.

    ``where`` are axes of the piece, in the order of the element's axes.
    """

    generator: str
    where: tuple[int, ...]
    exponent: float
    sign: bool


@dataclass(frozen=True)
class Piece:
    """A part of a block; ``part`` and ``offset`` are as in :class:`~wsljax.symmetry.Term`."""

    name: str
    block: str
    part: tuple[tuple[int, int], ...]
    moves: tuple[Move, ...]
    offset: float

    @property
    def flips(self) -> bool:
        """Whether a sign moves it."""
        return any(m.sign for m in self.moves)

    @property
    def scales(self) -> bool:
        """Whether a positive scale moves it."""
        return any(not m.sign for m in self.moves)


@dataclass(frozen=True)
class Pieces:
    """All pieces of a spec, in the order of its layout.

    Attributes:
        spec: the annotation of ``{piece: array}``; it has permutations only.
        source: the annotation of the weights.
        members: the pieces.
    """

    spec: Spec
    source: Spec
    members: tuple[Piece, ...]

    def cut(self, blocks: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Blocks to pieces."""
        return {p.name: blocks[p.block][_slices(p, blocks[p.block].ndim)] for p in self.members}

    def join(self, found: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Pieces to blocks: the inverse of :meth:`cut`."""
        shapes = {b.name: b.shape for b in self.source.layout}
        out: dict[str, jax.Array] = {}
        for p in self.members:
            x = found[p.name]
            if not p.part:
                out[p.block] = x
                continue
            if p.block not in out:
                out[p.block] = jax.numpy.zeros(
                    (*shapes[p.block], *x.shape[len(shapes[p.block]) :]), x.dtype
                )
            out[p.block] = out[p.block].at[_slices(p, x.ndim)].set(x)
        return out


def _slices(piece: Piece, rank: int) -> tuple[slice, ...]:
    return part_slices(piece.part, rank)


@lru_cache(maxsize=64)
def pieces(spec: Spec) -> Pieces:
    """The pieces of a spec, and how its scales and signs move each.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((2, 3)), "v": jnp.ones((3, 1))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "v": "h _"})
        >>> scale = symmetry.Scale("s", "h", (symmetry.Term("w", 1), symmetry.Term("v", 0, -1)), 3)
        >>> for p in pieces(with_generators(spec, [scale])).members:
        ...     print(p.name, [(m.generator, m.where, m.exponent) for m in p.moves])
        v [('s', (0,), -1.0)]
        w [('s', (1,), 1.0)]
    """
    terms: dict[str, list[tuple[Generator, Term]]] = defaultdict(list)
    for gen in spec.generators:
        if isinstance(gen, (Scale, Sign)):
            for term in gen.terms:
                terms[term.block].append((gen, term))
    members: list[Piece] = []
    shapes: dict[str, tuple[Block, tuple[int, ...]]] = {}
    for block in spec.layout:
        cut = sorted({k for _, term in terms[block.name] for k, _ in term.part})
        for index in product(*(range(block.shape[k]) for k in cut)):
            part = tuple(zip(cut, index, strict=True))
            name = block.name + (f"[{','.join(map(str, index))}]" if part else "")
            here = [(g, t) for g, t in terms[block.name] if set(t.part) <= set(part)]
            offsets = {t.offset for _, t in here if t.offset}
            members.append(Piece(name, block.name, part, _moves(here), next(iter(offsets), 0.0)))
            shapes[name] = (
                block,
                tuple(1 if k in cut else n for k, n in enumerate(block.shape)),
            )
    return Pieces(_own_spec(spec, members, shapes), spec, tuple(members))


def _moves(terms: Sequence[tuple[Generator, Term]]) -> tuple[Move, ...]:
    total: dict[tuple[str, tuple[int, ...], bool], float] = defaultdict(float)
    for gen, term in terms:
        sign = isinstance(gen, Sign)
        total[gen.name, term.where, sign] += 1.0 if sign else term.exponent
    found = (
        Move(name, where, n % 2 if sign else n, sign) for (name, where, sign), n in total.items()
    )
    return tuple(m for m in found if m.exponent)


def _own_spec(
    spec: Spec, members: Sequence[Piece], shapes: Mapping[str, tuple[Block, tuple[int, ...]]]
) -> Spec:
    """The spec of the pieces, scaled fixed axes being units."""
    labels = _scaled_axes(spec, members, shapes)
    leaves, extra = [], {}
    for p in sorted(members, key=lambda p: p.name):
        block, shape = shapes[p.name]
        trees = []
        for k, (label, n) in enumerate(zip(block.axes, shape, strict=True)):
            if (p.name, k) in labels:
                trees.append(Unit(labels[p.name, k], n))
                extra[labels[p.name, k]] = Units(labels[p.name, k], n)
            elif label.startswith("_"):
                trees.append(Fixed(n, label if label != "_" else None))
            else:
                above = block.parents[k] if block.parents else ()
                at = tuple(block.axes[:a].count(block.axes[a]) for a in above)
                trees.append(Unit(label, n, None, at))
        leaves.append(Leaf(p.name, shape, tuple(trees)))
    used = {a.name for leaf in leaves for a in leaf.trees if isinstance(a, Unit)}
    units = tuple(replace(u, parts=()) for u in (*spec.units, *extra.values()) if u.name in used)
    treedef = jax.tree.structure({leaf.path: 0 for leaf in leaves})
    return Spec(tuple(leaves), units, treedef=treedef)


def _scaled_axes(
    spec: Spec, members: Sequence[Piece], shapes: Mapping[str, tuple[Block, tuple[int, ...]]]
) -> dict[tuple[str, int], str]:
    """The fixed axes that generators scale, with one label for all that the same element scales."""
    label: dict[tuple[str, int], str] = {}  # (generator, axis of its element) to a label
    found: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    for p in members:
        block = shapes[p.name][0]
        kept = index_axes(spec, block)
        for m in p.moves:
            for n, k in enumerate(m.where):
                if k not in kept:
                    found[p.name, k].append((m.generator, n))
    for axes in found.values():
        name = min(label.get(a, f"{a[0]}.{a[1]}") for a in axes)
        old = {label[a] for a in axes if a in label}
        label.update({a: name for a in axes})
        label.update({a: name for a, other in label.items() if other in old})
    return {axis: label[axes[0]] for axis, axes in found.items()}


Charge = tuple[tuple[str, float], ...]
"""Generators and exponents, sorted; those of signs are one."""


@dataclass(frozen=True)
class Site:
    """An index of a piece with those it is nested over: what a node is, and a generator acts on.

    Attributes:
        at: positions among the indices of the piece.
        charge: the exponents of all generators that act there.
        flips: the generators among them that are signs.
    """

    at: tuple[int, ...]
    charge: Charge
    flips: tuple[str, ...]


@lru_cache(maxsize=64)
def sites(spec: Spec) -> tuple[tuple[Site, ...], ...]:
    """The sites of every piece, in the order of ``structure(pieces(spec).spec)``."""
    own = pieces(spec)
    moves = {p.name: p.moves for p in own.members}
    layout = {b.name: b for b in own.spec.layout}
    out = []
    for indices in structure(own.spec):
        axes = index_axes(own.spec, layout[indices.name])
        at: dict[tuple[int, ...], list[Move]] = {
            (*above, k): [] for k, above in enumerate(indices.parents)
        }
        for m in moves[indices.name]:
            at.setdefault(tuple(axes.index(k) for k in m.where), []).append(m)
        out.append(
            tuple(
                Site(
                    where,
                    tuple(sorted((m.generator, m.exponent) for m in found)),
                    tuple(sorted(m.generator for m in found if m.sign)),
                )
                for where, found in at.items()
            )
        )
    return tuple(out)


def with_generators(spec: Spec, generators: Sequence[Generator]) -> Spec:
    """A spec with generators written by hand, such as one made by :func:`wsljax.symmetry.parse`.

    Args:
        spec: the annotation; its own generators are kept, those of the same names replaced.
        generators: what else leaves the function unchanged.

    Raises:
        ValueError: if a generator names blocks or axes that the spec does not have.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((2, 3)), "v": jnp.ones((3, 1))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "v": "h _"})
        >>> flip = symmetry.Sign("flip", "h", (symmetry.Term("w", 1), symmetry.Term("v", 0)), 3)
        >>> sorted(with_generators(spec, [flip]).identity())
        ['flip', 'h']
    """
    names = {g.name for g in generators}
    kept = tuple(g for g in spec.generators if g.name not in names)
    out = replace(spec, generators=(*kept, *generators))
    out.validate()
    return out
