"""The search for what mixes the coordinates of units: ``Scale``, ``Linear``, ``Orthogonal``, ``Uniform``.

A candidate acts by a matrix unit at each place where the units stand. One derivative for each place is a
column; the null space of the columns *is* the set of exponents, whatever the function is made of.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .kinds import Linear, Orthogonal, Scale, Shift, Term, Uniform
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


def scales(search: Search, units) -> tuple[list[Scale], list[Shift]]:
    """Positive scalings of single coordinates of ``units``, and shifts of several of their biases at once.

    Blocks with no other axes than the units may also move by a constant: with a scaling, that is one
    about an offset (the variance of BatchNorm, used as ``v + eps``); alone, it is a shift.
    """
    places = search.places(units.name)
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
            shifts.append(
                Shift(
                    search.named("shift", target, shifts), units.name, terms, units.size,
                    axes, (*sizes, units.size), (), target,
                )
            )  # fmt: skip
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
    found: list[Linear] = []
    if units.size < 2:
        return found
    candidates = [
        s for s in scalings if all(abs(t.exponent) == 1 and not t.offset for t in s.terms)
    ]
    for scaling in candidates:
        places = [Occurrence(t.block, t.axis, t.parents, (), t.part) for t in scaling.terms]
        duals = [t.exponent < 0 for t in scaling.terms]

        def make(k, leaves, places=places, duals=duals):
            copy, (i, j) = copies(search.probe, units.over, k), coordinates(units.size, k, 2)
            moves = [
                (o, matrix_unit(search.probe, leaves, o, copy, i, j, dual))
                for o, dual in zip(places, duals, strict=True)
            ]
            return [{o.block: x} for o, x in moves] + [sums(moves, [1.0] * len(moves))]

        columns = search.some_columns(make)
        sizes = np.linalg.norm(columns, axis=0)
        if sizes[-1] <= search.tolerance * np.max(sizes[:-1]):
            terms = tuple(o.term(-1 if d else 1) for o, d in zip(places, duals, strict=True))
            found.append(
                Linear(
                    search.named("linear", units.name, found), units.name, terms, units.size,
                    units.over, search.sizes(units.over),
                )
            )  # fmt: skip
    return found


def gains(search: Search, units, scalings: list[Scale]) -> dict[tuple[str, int], str]:
    """Gains that stand in front of readers of ``units``: ``{place of a reader: block of the gain}``.

    They show as a scaling of one block, with no other axes than the units, against the readers.
    """
    out: dict[tuple[str, int], str] = {}
    axes = (*units.over, units.name)
    for s in scalings:
        for sign in (1, -1):
            up = [t for t in s.terms if t.exponent == sign]
            down = [t for t in s.terms if t.exponent == -sign]
            if len(up) == 1 and down and len(up) + len(down) == len(s.terms):
                (gain,) = up
                if search.blocks[gain.block].axes == axes and not out.keys() & {
                    (t.block, t.axis) for t in down
                }:
                    out |= {(t.block, t.axis): gain.block for t in down}
                    break
    return out


def orthogonal(search: Search, units, scalings: list[Scale]) -> list[Orthogonal]:
    """All orthogonal matrices; gains in front of readers are folded into them for the action."""
    found: list[Orthogonal] = []
    if units.size < 2:
        return found
    folds = gains(search, units, scalings)
    plain = search.places(units.name)
    variants = [plain]
    if folds:
        folded = [
            replace(o, through=(folds[o.block, o.axis],)) if (o.block, o.axis) in folds else o
            for o in plain
            if o.block not in folds.values()
        ]
        variants = [folded, plain]
    for places in variants:

        def make(k, leaves, places=places):
            copy, (i, j) = copies(search.probe, units.over, k), coordinates(units.size, k, 2)
            return [
                {
                    o.block: matrix_unit(search.probe, leaves, o, copy, i, j)
                    - matrix_unit(search.probe, leaves, o, copy, j, i)
                }
                for o in places
            ]

        for v in search.null(make, len(places)) if places else ():
            if set(v) <= {0.0, 1.0}:
                terms = [o.term(1) for o, e in zip(places, v, strict=True) if e]
                terms = whole(terms, search.blocks)
                found.append(
                    Orthogonal(
                        search.named("orthogonal", units.name, found), units.name, terms,
                        units.size, units.over, search.sizes(units.over),
                    )
                )  # fmt: skip
        if found:
            break
    return found


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
