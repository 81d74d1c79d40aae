"""Which fixed axes are neurons, and in which direction the network computes: read off a spec.

A spec says which coordinates may be exchanged, not what the others are. A kernel's fixed axis is an end
of the network (its inputs, its outputs, a vocabulary) if it stands where kernels have units: opposite to
units in a matrix; among several fixed axes, where other arrays of the same rank have their units, else
beside the units. It is only a reading: whatever is decided, nothing is lost and nothing that could be
exchanged becomes fixed or the other way round.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from ...symmetry.axes import Alt, Axis, Fixed, Prod, Reorder, Sum, Unit
from ...symmetry.layout import Block, fused_order, pieces
from ...symmetry.spec import Spec


@dataclass(frozen=True)
class Face:
    """A fixed axis of a block that is a set of nodes.

    Attributes:
        label: the name of the node set.
        size: its coordinates.
        input: whether it is where the network begins.
    """

    label: str
    size: int
    input: bool


@dataclass(frozen=True)
class _Seen:
    """A block, with the axis of the leaf that each of its axes lies on."""

    block: Block
    owners: tuple[int, ...]
    rank: int
    units: tuple[int, ...]  # block axes that are ends and units
    free: tuple[int, ...]  # block axes that are fixed and a whole axis of the leaf


@lru_cache(maxsize=256)
def faces(spec: Spec) -> dict[str, dict[int, Face]]:
    """For every block of ``spec`` its fixed axes that are nodes: ``{block: {axis: Face}}``.

    The only axis of a bias is where the kernel beside it has an end of that size; at the outputs if
    inputs and outputs both have.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"k": jnp.zeros((3, 3, 1, 8)), "w": jnp.zeros((8, 10)), "b": jnp.zeros(10)}
        >>> found = faces(symmetry.parse(params, {"k": "_ _ _ c", "w": "c _", "b": "_"}))
        >>> {name: {k: f.label for k, f in ends.items()} for name, ends in found.items()}
        {'b': {0: '_outputs10'}, 'k': {2: '_inputs1'}, 'w': {1: '_outputs10'}}
    """
    seen = [_seen(spec, leaf.trees, block) for leaf in spec.leaves for block in _of(spec, leaf)]
    where = _unit_places(seen)
    chosen = {s.block.name: _choose(s, where) for s in seen}
    forward = first_is_source(spec)
    out: dict[str, dict[int, Face]] = {}
    for s in seen:
        ends = chosen[s.block.name]
        made = {}
        for k in ends:
            others = [*s.units, *(e for e in ends if e != k)]
            if others:
                before = s.owners[k] < s.owners[others[0]]
                made[k] = _face(s.block.shape[k], before == forward)
        out[s.block.name] = made
    known = [(_folder(s.block.path), face) for s in seen for face in out[s.block.name].values()]
    for s in seen:  # biases of fixed ends: the end of the kernel beside them
        for k in chosen[s.block.name]:
            if k not in out[s.block.name]:
                out[s.block.name][k] = _beside(s.block, s.block.shape[k], known)
    return out


def first_is_source(spec: Spec) -> bool:
    """Whether kernels are stored ``(in, out)`` (the default) or ``(out, in)``: biases tell it.

    A bias has the units, or the size, of the axis that comes out of the only kernel beside it with such.
    """
    votes = 0
    kernels: dict[str, list[Block]] = {}
    for block in spec.layout:
        if len(block.axes) >= 2:
            kernels.setdefault(_folder(block.path), []).append(block)
    for block in spec.layout:
        if len(block.axes) == 1:
            own = (block.axes[0], block.shape[0])
            beside = [
                list(zip(kernel.axes, kernel.shape, strict=True))
                for kernel in kernels.get(_folder(block.path), ())
            ]
            beside = [places for places in beside if places.count(own) == 1]
            if len(beside) == 1:  # a bias of this kernel, and of no other
                at = beside[0].index(own)
                votes += (at == len(beside[0]) - 1) - (at == 0)
    return votes >= 0


def _face(size: int, is_input: bool) -> Face:
    return Face(f"_{'inputs' if is_input else 'outputs'}{size}", size, is_input)


def _beside(block: Block, size: int, known: list[tuple[str, Face]]) -> Face:
    """An end of that size, of the block's own folder rather than of others, outputs rather than inputs."""
    ranked = [
        (folder != _folder(block.path), face.input) for folder, face in known if face.size == size
    ]
    return _face(size, min(ranked)[1] if ranked else False)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _of(spec: Spec, leaf) -> list[Block]:
    return [block for block in spec.layout if block.path == leaf.path]


def _tagged(tree: Axis, k: int) -> Axis:
    """The tree with the axis that it stands for written on its atoms."""
    if isinstance(tree, Fixed):
        return Fixed(tree.size, str(k))
    if isinstance(tree, Unit):
        return Unit(tree.name, tree.size, tree.part, (k,))
    if isinstance(tree, Reorder):
        return Reorder(_tagged(tree.tree, k), tree.order)
    if isinstance(tree, Alt):
        return Alt(tree.axis, tuple(_tagged(p, k) for p in tree.parts))
    return type(tree)(tuple(_tagged(p, k) for p in tree.parts))


def _seen(spec: Spec, trees: tuple[Axis, ...], block: Block) -> _Seen:
    found = pieces(tuple(_tagged(t, k) for k, t in enumerate(trees)))
    number = int(block.name.rpartition("#")[2]) if block.name != block.path else 0
    atoms = found[number]
    owners = tuple(
        int(atom.name or 0) if isinstance(atom, Fixed) else atom.at[0]
        for atom in (atoms[group[0]] for group in fused_order(atoms))
    )
    above = {p for parents in block.parents for p in parents}
    nested = {name for u in spec.units for name in u.over}
    units = tuple(k for k, a in enumerate(block.axes) if not a.startswith("_") and k not in above)
    whole = [
        k
        for k, a in enumerate(block.axes)
        if a.startswith("_")
        and a not in nested
        and owners.count(owners[k]) == 1
        and not isinstance(trees[owners[k]], (Sum, Prod, Alt))
    ]
    return _Seen(block, owners, len(trees), units, tuple(whole))


def _unit_places(seen: list[_Seen]) -> dict[int, tuple[int, int]]:
    """For each rank the two leaf axes on which most arrays of that rank have their units."""
    counts: dict[int, Counter] = {}
    for s in seen:
        places = sorted({s.owners[k] for k in s.units})
        if len(places) == 2:
            counts.setdefault(s.rank, Counter())[tuple(places)] += 1
    return {rank: count.most_common(1)[0][0] for rank, count in counts.items()}


def _choose(s: _Seen, where: dict[int, tuple[int, int]]) -> tuple[int, ...]:
    """The fixed axes of a block that are nodes."""
    if not s.free or len(s.units) > 1:
        return ()
    by_owner = {s.owners[k]: k for k in s.free}
    pair = where.get(s.rank)
    if not s.units:
        if len(s.free) <= 2:
            return s.free
        if pair and set(pair) <= set(by_owner):
            return tuple(by_owner[p] for p in pair)
        return s.free[-2:]
    if len(s.free) == 1:
        return s.free
    own = s.owners[s.units[0]]
    if pair and own in pair:
        other = pair[0] if own == pair[1] else pair[1]
        return (by_owner[other],) if other in by_owner else ()
    last = s.rank - 1
    beside = {0: 1, 1: 0, last - 1: last, last: last - 1}.get(own)
    return (by_owner[beside],) if beside in by_owner else ()
