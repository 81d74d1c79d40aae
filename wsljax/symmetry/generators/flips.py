"""The search for signs: which places of a unit may be flipped together, about zero or about a centre.

Flips are tried on the function itself. The sets of places that may be flipped are closed under symmetric
difference, so a basis of them is returned.
"""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np

from .kinds import Carry, Scale, Sign
from .occurrences import Occurrence, carry_equation, coordinates, copies, matrix_unit, whole
from .search import Search

MOST_PLACES = 6
"""All subsets of so many places are tried; of more, those that scalings and whole sets suggest."""
MOST_CARRIES = 4
DRAWS = 3
NEAR_ZERO = 1e-3


def _flipped(search: Search, leaves, places, copy, i, carries=()) -> list[np.ndarray]:
    out = [x.copy() for x in leaves]
    probe = search.probe
    for c in carries:
        weight = probe.block(leaves, c.weight)
        o = next(p for p in places if p.block == c.weight)
        amount = np.zeros([weight.shape[k] for k in (*o.parents, o.axis)])
        amount[(*copy, i)] = 2.0
        leaf, index = probe.places[c.bias]
        out[leaf].reshape(-1)[index] += c.factor * np.einsum(c.equation, amount, weight)
    for o in places:
        leaf, index = probe.places[o.block]
        out[leaf].reshape(-1)[index[o.at(index.ndim, copy, i)]] *= -1
    return out


def _survivors(search: Search, units, candidates: list) -> list:
    """The candidates ``(places, carries)`` that leave the function alone."""
    left = list(candidates)
    for k in range(DRAWS):
        if not left:
            break
        leaves, inputs, y = search.probe.draw(k)
        copy, (i,) = copies(search.probe, units.over, k), coordinates(units.size, k, 1)
        many = [_flipped(search, leaves, places, copy, i, carries) for places, carries in left]
        found = search.probe.evaluate(many, inputs)
        left = [
            c
            for c, new in zip(left, found, strict=True)
            if search.probe.apart(new, y) <= search.tolerance
        ]
    return left


def signs(search: Search, units, scalings: list[Scale]) -> list[Sign]:
    """Flips of single coordinates of ``units``."""
    places = search.places(units)
    if not places:
        return []
    subsets = _candidates(places, scalings)
    if len(places) > MOST_PLACES:
        subsets = list(dict.fromkeys([*subsets, *_near_zero(search, units, places)]))
    kept = [p for p, _ in _survivors(search, units, [(s, ()) for s in subsets])]
    found: list[Sign] = []
    span: list[int] = []
    for subset in sorted(kept, key=len):
        mask = sum(1 << places.index(o) for o in subset)
        for other in span:
            mask = min(mask, mask ^ other)
        if mask:
            span.append(mask)
            found.append(_sign(search, units, subset, (), found))
    if not found and len(places) <= MOST_PLACES:
        found = _about_centres(search, units, places)
    return found


def _candidates(places: list[Occurrence], scalings: list[Scale]) -> list[tuple[Occurrence, ...]]:
    if len(places) <= MOST_PLACES:
        n = len(places)
        return list(chain.from_iterable(combinations(places, m) for m in range(1, n + 1)))
    out = [tuple(places)]
    gains = set()
    for s in scalings:
        moved = {(t.block, t.axis) for t in s.terms if t.exponent % 2 == 1}
        odd = tuple(o for o in places if (o.block, o.axis) in moved)
        if odd:
            out.append(odd)
            gains |= set(odd[:1])
    out.append(tuple(o for o in places if o not in gains))
    return [c for c in dict.fromkeys(out) if c]


def _near_zero(search: Search, units, places) -> list[tuple[Occurrence, ...]]:
    """Sets that a unit close to zero suggests: there an odd activation is linear, so that what is only a
    sign elsewhere shows as a scaling, and the odd exponents are those that flip."""

    def make(k, leaves):
        copy, (i,) = copies(search.probe, units.over, k), coordinates(units.size, k, 1)
        return [{o.block: matrix_unit(search.probe, leaves, o, copy, i, i)} for o in places]

    def shrink(k, leaves):
        copy, (i,) = copies(search.probe, units.over, k), coordinates(units.size, k, 1)
        out = [x.copy() for x in leaves]
        for o in places:
            leaf, index = search.probe.places[o.block]
            out[leaf].reshape(-1)[index[o.at(index.ndim, copy, i)]] *= NEAR_ZERO
        return out

    found = search.null(make, len(places), shrink, NEAR_ZERO**1.5)
    found = [v / np.max(np.abs(v)) for v in found]
    rows = [np.rint(v) for v in found if np.max(np.abs(v - np.rint(v))) < 0.1]
    if len(rows) <= MOST_PLACES:
        rows += [a + b for a, b in combinations(rows, 2)]
    sets = [tuple(o for o, e in zip(places, v, strict=True) if e % 2) for v in rows]
    return [s for s in sets if s]


def _sign(search: Search, units, subset, carries, found) -> Sign:
    return Sign(
        search.named("sign", units.name, found), units.name,
        whole([o.term(1) for o in subset], search.blocks),
        units.size, units.over, search.sizes(units.over), carries,
    )  # fmt: skip


def _about_centres(search: Search, units, places: list[Occurrence]) -> list[Sign]:
    """Flips of activations with ``s(-x) = 1 - s(x)``: the next bias takes up the flipped rows."""
    own = {o.block for o in places}
    carries = []
    for o in places:
        for name, b in search.blocks.items():
            if name in own or name in search.free:
                continue
            equation = carry_equation(search.spec, o, search.blocks[o.block], b)
            if equation:
                carries.append(Carry(name, o.block, equation, 0.5))
    carries = carries[: 2 * MOST_CARRIES]
    sets = chain.from_iterable(
        combinations(carries, m) for m in range(1, min(len(carries), MOST_CARRIES) + 1)
    )
    kept = _survivors(search, units, [(tuple(places), s) for s in sets])
    if not kept:
        return []
    subset, chosen = min(kept, key=lambda c: len(c[1]))
    return [_sign(search, units, subset, chosen, [])]
