"""The linear maps that commute with every exchange of units: enumerated, factored and counted.

A basis of the equivariant linear maps from block ``A`` to block ``B`` is the set of ways to tie the
indices of ``A`` and ``B`` together: set partitions in which equal labels alone may be tied, and a
nested index only where its parents are tied (the orbits of a wreath product). Zhou et al., *Universal
Neural Functionals*, 2024, section 3, state it for plain permutations.

A partition splits uniquely into three parts, so that no pair of blocks is ever visited:

- a :class:`Read` of ``A``: which of its indices are tied to each other, and which ties are *kept*; the
  others are averaged away;
- an index type, which both sides share: the labels of the kept ties and how they nest;
- a :class:`Write` to ``B``: which of its indices are tied, and where the kept ties go; the others are
  broadcast.

Every read of an index type pairs with every write of it: a layer is one matrix product per type.
Where an index type has symmetries of its own (two indices of the same units) the reads take one order
and the writes all of them. ``Bell(2k)`` maps between two ``k``-fold blocks come out as they must.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations, product

import numpy as np

from ...symmetry.spec import Spec
from ..blocks.indices import Indices, Structure, pattern, structure
from ..blocks.ties import Tie, closed_subsets, ties

TypeKey = tuple[tuple[str, tuple[int, ...]], ...]
"""Label and parents (positions within the type) of each index of an index type."""


@dataclass(frozen=True)
class Read:
    """Block ``block`` with its indices tied by ``tie``, averaged over all but ``kept``.

    ``kept`` lists ties by their first index, in the order of the index type.
    """

    block: int
    tie: Tie
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Write:
    """An array of the index type put on the ties ``kept`` of block ``block``, same on all others."""

    block: int
    tie: Tie
    kept: tuple[int, ...]


@dataclass(frozen=True)
class IndexType:
    """One matrix product: what is read into it and where it is written."""

    key: TypeKey
    reads: tuple[Read, ...]
    writes: tuple[Write, ...]
    symmetries: int

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for label, _ in self.key)


@dataclass(frozen=True)
class Role:
    """Index types that look alike: their matrices have one shape and are kept in one stack.

    Attributes:
        name: the labels, renamed ``a``, ``b``, …, and the numbers of reads and writes.
        members: positions of the index types in ``Basis.types``.
        reads, writes: how many each member has.
    """

    name: str
    members: tuple[int, ...]
    reads: int
    writes: int


@dataclass(frozen=True, eq=False)
class Basis:
    """All index types between two structures, and what they have in common; see :func:`basis`."""

    inputs: Structure
    outputs: Structure
    types: tuple[IndexType, ...]
    roles: tuple[Role, ...]

    @property
    def constants(self) -> int:
        """How many ways there are to write a constant: the parameters of a bias of one channel."""
        return sum(len(t.writes) for t in self.types if not t.key)


@lru_cache(maxsize=64)
def basis(inputs: Structure, outputs: Structure) -> Basis:
    """The factored basis of equivariant linear maps between features of two structures.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> s = structure(symmetry.parse({"w": jnp.zeros((4, 4))}, {"w": "h h"}))
        >>> for t in basis(s, s).types:
        ...     print(t.labels, len(t.reads), len(t.writes))
        () 2 2
        ('h',) 3 3
        ('h', 'h') 1 2
    """
    reads: dict[TypeKey, list] = defaultdict(list)
    writes: dict[TypeKey, list] = defaultdict(list)
    symmetries: dict[TypeKey, int] = {}
    for b, tie, kept in _reductions(inputs):
        key, orders = _index_type(inputs[b], tie, kept)
        reads[key].append(Read(b, tie, orders[0]))
        symmetries[key] = len(orders)
    for b, tie, kept in _reductions(outputs):
        key, orders = _index_type(outputs[b], tie, kept)
        writes[key] += [Write(b, tie, order) for order in orders]
    keys = sorted((key for key in reads if key in writes), key=len)
    types = tuple(_laid_out(k, reads[k], writes[k], symmetries[k]) for k in keys)
    members: dict[str, list[int]] = defaultdict(list)
    for t, kind in enumerate(types):
        name = pattern(kind.labels, [above for _, above in kind.key]) or "1"
        members[f"{name}: {len(kind.reads)}x{len(kind.writes)}"].append(t)
    roles = [
        Role(name, tuple(ts), len(types[ts[0]].reads), len(types[ts[0]].writes))
        for name, ts in members.items()
    ]
    return Basis(inputs, outputs, types, tuple(roles))


def _reductions(blocks: Structure) -> list[tuple[int, Tie, frozenset[int]]]:
    """All reductions ``(block, tie, kept)``, those of blocks of one kind together, like after like."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for b, block in enumerate(blocks):
        kinds[block.kind].append(b)
    return [
        (b, tie, kept)
        for members in kinds.values()
        for tie in ties(blocks[members[0]])
        for kept in closed_subsets(blocks[members[0]], tie)
        for b in members
    ]


def _index_type(
    block: Indices, tie: Tie, kept: frozenset[int]
) -> tuple[TypeKey, list[tuple[int, ...]]]:
    """The index type of kept ties, and all orders of them that show it."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i in sorted(kept):
        groups[len(block.parents[i]), block.labels[i]].append(i)
    best, orders = None, []
    for parts in product(*(permutations(groups[g]) for g in sorted(groups))):
        order = tuple(i for part in parts for i in part)
        key = tuple(
            (block.labels[i], tuple(order.index(tie[p]) for p in block.parents[i])) for i in order
        )
        if best is None or key < best:
            best, orders = key, [order]
        elif key == best:
            orders.append(order)
    assert best is not None
    return best, orders


def _laid_out(key: TypeKey, reads: list[Read], writes: list[Write], symmetries: int) -> IndexType:
    """The type with its indices in the order of a block that is read whole, and so not transposed."""
    first = min(reads, key=lambda r: len(r.tie))
    order = sorted(range(len(key)), key=lambda k: first.kept[k])
    place = {k: n for n, k in enumerate(order)}
    return IndexType(
        tuple((key[k][0], tuple(place[p] for p in key[k][1])) for k in order),
        tuple(replace(r, kept=tuple(r.kept[k] for k in order)) for r in reads),
        tuple(replace(w, kept=tuple(w.kept[k] for k in order)) for w in writes),
        symmetries,
    )


Context = tuple[str, tuple[int, ...]]
"""A label, and the ties of its parents: coordinates in different contexts are never compared."""


def contexts(block: Indices, term: Read | Write) -> dict[Context, int]:
    """How many different coordinates each context has in the ties of a read or write."""
    counts: dict[Context, int] = defaultdict(int)
    for i in sorted(set(term.tie)):
        counts[block.labels[i], tuple(term.tie[p] for p in block.parents[i])] += 1
    return counts


def alive(found: Basis, kind: IndexType, widths: Mapping[str, int]) -> np.ndarray | None:
    """Which pairs ``(read, write)`` are independent maps at the given widths; None if all are.

    A pair that needs more different coordinates of some units than there are is a combination of
    others: with ``n`` coordinates only the partitions into at most ``n`` ties are a basis.

    Returns:
        Booleans of shape ``(reads, writes)``, or None.
    """
    sides = []
    for blocks, terms in ((found.inputs, kind.reads), (found.outputs, kind.writes)):
        counts = [contexts(blocks[t.block], t) for t in terms]
        fits = np.array([all(n <= widths[label] for (label, _), n in c.items()) for c in counts])
        sides.append((terms, counts, fits))
    ok = sides[0][2][:, None] & sides[1][2][None, :]
    shared = {(label, ()) for side in sides for c in side[1] for (label, above) in c if not above}
    shared |= {(label, above) for label, above in kind.key if above}
    shared |= {
        (label, tuple(term.kept.index(p) for p in above))
        for terms, counts, _ in sides
        for term, c in zip(terms, counts)
        for (label, above) in c
        if above and all(p in term.kept for p in above)
    }
    for label, above in shared:
        tied = kind.key.count((label, above))
        most = [
            np.array(
                [c.get((label, tuple(t.kept[k] for k in above)), 0) for t, c in zip(terms, counts)]
            )
            for terms, counts, _ in sides
        ]
        if most[0].max() + most[1].max() - tied > widths[label]:
            ok &= most[0][:, None] + most[1][None, :] - tied <= widths[label]
    return None if ok.all() else ok


def count_terms(spec_in: Spec, spec_out: Spec | None = None) -> int:
    """The number of independent equivariant linear maps between the weights of two specs.

    Counted for one channel on each side and one coordinate of every anonymous fixed axis; named
    fixed axes that units are nested over count as units (see :mod:`.indices`).

    Args:
        spec_in: the annotation of the input.
        spec_out: that of the output, over the same units; by default that of the input.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> count_terms(symmetry.parse({"w": jnp.zeros((4, 4))}, {"w": "h h"}))
        15
        >>> count_terms(symmetry.parse({"w": jnp.zeros((3, 3))}, {"w": "h h"}))  # one needs 4 units
        14
    """
    spec_out = spec_in if spec_out is None else spec_out
    found = basis(structure(spec_in), structure(spec_out))
    labels = {a for s in (found.inputs, found.outputs) for i in s for a in i.labels}
    widths = {}
    for spec in (spec_in, spec_out):
        known = {a for i in structure(spec) for a in i.labels}
        for label in labels & known:
            if widths.setdefault(label, spec.size_of(label)) != spec.size_of(label):
                raise ValueError(
                    f"units {label!r} have {widths[label]} coordinates in one spec and "
                    f"{spec.size_of(label)} in the other; both must describe the same units"
                )
    total = 0
    for kind in found.types:
        ok = alive(found, kind, widths)
        total += len(kind.reads) * len(kind.writes) if ok is None else int(ok.sum())
    return total
