"""The search for rotations with scaling in the planes of pairs: what rotary positions leave of a head's
queries and keys, whose dimensions stand still as far as permutations go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .kinds import Linear
from .occurrences import Occurrence, copies, matrix_unit, sums
from .search import Search

Pairs = tuple[tuple[int, int], ...]


def patterns(n: int) -> Iterator[Pairs]:
    """The ways in which rotary positions pair ``n`` dimensions: halves or neighbours, of some or all."""
    for turned in range(n - n % 2, 1, -2):
        half = turned // 2
        yield tuple((i, i + half) for i in range(half))
        if half > 1:
            yield tuple((2 * i, 2 * i + 1) for i in range(half))


def rotary(search: Search, heads) -> list[Linear]:
    """Planes of fixed axes beside ``heads`` that may be turned and scaled, one copy for each head."""
    found: list[Linear] = []
    over = (*heads.over, heads.name)
    for n in sorted({n for o, n in _places(search, heads) if n > 1}):
        places = [o for o, m in _places(search, heads) if m == n]
        for pairs in patterns(n) if len(places) > 1 else ():
            exponents = _exponents(search, places, over, pairs[0])
            if exponents is None:
                continue
            if _turns(search, places, exponents, over, pairs):
                terms = tuple(o.term(e) for o, e in zip(places, exponents, strict=True) if e)
                name = search.named("linear", f"{heads.name}:pairs", found)
                sizes = search.sizes(over)
                found.append(Linear(name, None, terms, n, over, sizes, pairs=pairs))
                break
    return found


def _places(search: Search, heads) -> list[tuple[Occurrence, int]]:
    out = []
    for name, b in search.blocks.items():
        seats = [k for k, label in enumerate(b.axes) if label == heads.name]
        if name in search.free or len(seats) != 1:
            continue
        parents = (*(b.parents[seats[0]] if b.parents else ()), seats[0])
        out += [
            (Occurrence(name, k, parents), n)
            for k, (label, n) in enumerate(zip(b.axes, b.shape, strict=True))
            if label == "_"
        ]
    return out


def _exponents(search: Search, places, over, pair) -> np.ndarray | None:
    """By which the plane of one pair may be scaled."""

    def make(k, leaves):
        copy = copies(search.probe, over, k)
        return [
            {o.block: sum(matrix_unit(search.probe, leaves, o, copy, i, i) for i in pair)}
            for o in places
        ]

    for v in search.null(make, len(places)):
        if set(np.abs(v)) <= {0.0, 1.0} and np.sum(v != 0) > 1:
            return v
    return None


def _turns(search: Search, places, exponents, over, pairs: Pairs) -> bool:
    """Whether the plane of every pair may be turned at these places."""
    used = [o for o, e in zip(places, exponents, strict=True) if e]

    def make(k, leaves):
        copy = copies(search.probe, over, k)
        out = []
        for i, j in pairs:
            moves = [
                (
                    o,
                    matrix_unit(search.probe, leaves, o, copy, i, j)
                    - matrix_unit(search.probe, leaves, o, copy, j, i),
                )
                for o in used
            ]
            out += [{moves[0][0].block: moves[0][1]}, sums(moves, [1.0] * len(moves))]
        return out

    sizes = np.linalg.norm(search.some_columns(make), axis=0)
    return bool(np.all(sizes[1::2] <= search.tolerance * np.max(sizes[::2])))
