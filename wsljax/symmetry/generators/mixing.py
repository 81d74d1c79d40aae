"""The search for what mixes the coordinates of units: ``Scale``, ``Linear``, ``Orthogonal``, ``Uniform``.

A candidate acts by a matrix unit at each place where the units stand. One derivative for each place is a
column; the null space of the columns *is* the set of exponents, whatever the function is made of.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .kinds import Linear, Orthogonal, Scale, Shift, Term, Uniform
from .norms import Norm
from .nullspace import rank, reduced
from .occurrences import (
    Occurrence,
    coordinates,
    copies,
    matrix_unit,
    sums,
    whole,
)
from .search import Search
from .shifts import shift_of


def scales(search: Search, units) -> tuple[list[Scale], list[Shift]]:
    """Positive scalings of single coordinates of ``units``, and shifts of several of their biases at once.

    Blocks with no other axes than the units may also move by a constant: with a scaling, that is one
    about an offset (the variance of BatchNorm, used as ``v + eps``); alone, it is a shift.
    """
    places = search.places(units)
    axes = (*units.over, units.name)
    flat = [n for n, o in enumerate(places) if search.blocks[o.block].axes == axes]
    n = len(places)
    if not places:
        return [], []

    def make(k, leaves):
        copy, (i,) = copies(search.probe, units.over, k), coordinates(units.size, k, 1)
        out = [{o.block: matrix_unit(search.probe, leaves, o, copy, i, i)} for o in places]
        for m in flat:
            one = np.zeros(search.blocks[places[m].block].shape)
            one[(*copy, i)] = 1.0
            out.append({places[m].block: one})
        return out

    sizes = search.sizes(units.over)
    found: list[Scale] = []
    shifts: list[Shift] = []
    # without the constants first: these vectors are the simplest
    plain = search.null(lambda k, leaves: make(k, leaves)[:n], n)
    vectors = [np.append(v, np.zeros(len(flat))) for v in plain]
    span = reduced(np.array(vectors).reshape(-1, n + len(flat)))
    for v in search.null(make, n + len(flat)) if flat else ():
        wider = np.concatenate([span, v[None]])
        if rank(wider) > len(span):
            span = wider
            vectors.append(v)
    for v in vectors:
        constants = dict(zip(flat, v[n:], strict=True))
        if not v[:n].any():
            first, *rest = [(m, c) for m, c in constants.items() if c]
            terms = tuple(places[m].term(c / first[1]) for m, c in rest)
            target = places[first[0]].block
            shifts.append(replace(shift_of(search, target, (), (), shifts), terms=terms))
        elif not any(c and not v[m] for m, c in constants.items()):
            terms = whole([
                replace(o.term(e), offset=float(constants.get(m, 0.0) / e))
                for m, (o, e) in enumerate(zip(places, v, strict=False))
                if e
            ], search.blocks)  # fmt: skip
            found.append(
                Scale(
                    search.named("scale", units.name, found), units.name, terms, units.size,
                    units.over, sizes,
                )
            )  # fmt: skip
    return found, [s for s in shifts if s.terms]


def linear(search: Search, units, scalings: list[Scale]) -> list[Linear]:
    """All invertible matrices, where a scaling with exponents of one is part of them."""
    if units.size < 2:
        return []
    candidates = [
        s for s in scalings if all(abs(t.exponent) == 1 and not t.offset for t in s.terms)
    ]
    found = search.each(
        candidates,
        lambda s: [t.block for t in s.terms],
        lambda s: _linear(search, units, s),
    )
    return [g for some in found for g in some]


def _linear(search: Search, units, scaling: Scale) -> list[Linear]:
    places = [Occurrence.of(t) for t in scaling.terms]
    duals = [t.exponent < 0 for t in scaling.terms]

    def make(k, leaves):
        copy, (i, j) = copies(search.probe, units.over, k), coordinates(units.size, k, 2)
        moves = [
            (o, matrix_unit(search.probe, leaves, o, copy, i, j, dual))
            for o, dual in zip(places, duals, strict=True)
        ]
        return [{o.block: x} for o, x in moves] + [sums(moves, [1.0] * len(moves))]

    sizes = np.linalg.norm(search.some_columns(make), axis=0)
    if sizes[-1] > search.tolerance * np.max(sizes[:-1]):
        return []
    terms = tuple(o.term(-1 if d else 1) for o, d in zip(places, duals, strict=True))
    name = search.named("linear", units.name)
    return [Linear(name, units.name, terms, units.size, units.over, search.sizes(units.over))]


def orthogonal(search: Search, units, found_norms: list[Norm]) -> list[Orthogonal]:
    """All orthogonal matrices, or those that keep the mean; gains in front of readers are folded into them
    for the action, and taken out of the shifts of norms."""
    found: list[Orthogonal] = []
    if units.size < 2:
        return found
    plain = search.places(units)
    variants = [plain]
    if found_norms:
        gains = {n.gain for n in found_norms}
        reads = {o.place: (n.gain, o) for n in found_norms for o in n.readers}
        under = {other: n.gain for n in found_norms for other in n.others}
        folded = []
        for o in plain:
            if o.place in reads:
                gain, reader = reads[o.place]
                o = replace(o, through=(gain,), seats=(*reader.parents, reader.axis))
            elif o.block in under:
                o = replace(o, under=(under[o.block],), seats=tuple(range(o.axis + 1)))
            if o.block not in gains:
                folded.append(o)
        variants = [folded, plain]
    for places in variants:
        for centred in (False, True)[: units.size - 1]:

            def make(k, leaves, places=places, centred=centred):
                copy = copies(search.probe, units.over, k)
                chosen = coordinates(units.size, k, 2 + centred)
                turn = list(zip(chosen, chosen[1:] + chosen[:1], strict=True))
                return [
                    {o.block: _turned(search.probe, leaves, o, copy, turn if centred else turn[:1])}
                    for o in places
                ]

            for v in search.null(make, len(places)) if places else ():
                if set(v) <= {0.0, 1.0}:
                    terms = [o.term(1) for o, e in zip(places, v, strict=True) if e]
                    terms = whole(terms, search.blocks)
                    found.append(
                        Orthogonal(
                            search.named("orthogonal", units.name, found), units.name, terms,
                            units.size, units.over, search.sizes(units.over), centred=centred,
                        )
                    )  # fmt: skip
            if found:
                return found
    return found


def _turned(probe, leaves, o: Occurrence, copy, planes) -> np.ndarray:
    """The direction in which the coordinates of one place turn in these planes."""
    turns = [
        matrix_unit(probe, leaves, o, copy, i, j) - matrix_unit(probe, leaves, o, copy, j, i)
        for i, j in planes
    ]
    return np.asarray(sum(turns))


def uniform(search: Search, others: list) -> list[Uniform]:
    """Scalings of whole blocks that the other generators do not contain."""
    names = [n for n in search.blocks if n not in search.free]
    if len(names) < 1:
        return []

    def make(k, leaves):
        return [{n: search.probe.block(leaves, n)} for n in names]

    known = []
    for g in others:
        if g.kind in ("scale", "linear"):
            v = np.zeros(len(names))
            for t in g.terms:
                if t.block in names:
                    v[names.index(t.block)] += t.exponent
            if any(t.part for t in g.terms):
                continue
            known.append(v)
    span = reduced(np.array(known).reshape(-1, len(names)))
    found: list[Uniform] = []
    vectors = search.null(make, len(names))
    for v in sorted(vectors, key=lambda v: int(np.sum(v != 0))):
        wider = np.concatenate([span, v[None]])
        if rank(wider) > len(span):
            span = wider
            terms = tuple(Term(n, None, float(e)) for n, e in zip(names, v, strict=True) if e)
            found.append(Uniform(search.named("uniform", "all", found), None, terms, 1))
    return found
