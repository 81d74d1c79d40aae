"""Ways to tie the indices of a block: set partitions in which only equal labels go together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from .indices import Indices

Tie = tuple[int, ...]
"""For each index of a block the first index that it is tied to: ``(0, 1, 0)`` ties the outer two."""


def ties(block: Indices) -> list[Tie]:
    """All ways to tie the indices of one block: equal labels, children only with their parents.

    Example:
        >>> ties(Indices("w", ("h", "m", "m"), ((), (0,), (0,))))
        [(0, 1, 2), (0, 1, 1)]
    """
    order = sorted(range(len(block.labels)), key=lambda i: (len(block.parents[i]), i))

    def extend(tie: dict[int, int], rest: list[int]) -> Iterator[Tie]:
        if not rest:
            yield tuple(tie[i] for i in range(len(tie)))
            return
        i, rest = rest[0], rest[1:]
        yield from extend({**tie, i: i}, rest)
        above = [tie[p] for p in block.parents[i]]
        for j in sorted(set(tie.values())):
            if block.labels[j] == block.labels[i] and [tie[p] for p in block.parents[j]] == above:
                yield from extend({**tie, i: j}, rest)

    return list(extend({}, order))


def closed_subsets(block: Indices, tie: Tie) -> Iterator[frozenset[int]]:
    """Sets of ties that may be kept: with each tie the ties of its parents."""
    firsts = sorted(set(tie))
    for keep in product((False, True), repeat=len(firsts)):
        kept = frozenset(i for i, k in zip(firsts, keep) if k)
        if all(tie[p] in kept for i in kept for p in block.parents[i]):
            yield kept
