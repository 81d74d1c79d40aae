"""Units of which others are not matched yet: only sums over those are compared, which no exchange changes.

This is the gradient of the relaxed objective at the centre of all doubly stochastic matrices; see
:mod:`.weight_matching`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from wsljax.symmetry import Block

from .problem import Problem, belongs, part_of


@dataclass(frozen=True)
class Reduction:
    """A block summed over the axes ``gone``; what is left is described by ``block``."""

    source: str
    gone: tuple[int, ...]
    block: Block


@lru_cache(maxsize=4096)
def reduced(
    problem: Problem, name: str, is_open: frozenset[str]
) -> tuple[Problem, tuple[Reduction, ...]]:
    """The problem for the units ``name`` and what is nested in them while others are not matched yet.

    Of the axes of other open units only sums are compared, which no exchange changes. One block for each
    place of the units, on which they meet themselves no more.
    """
    u = problem.by_name[name]
    family = {name, *(m.name for m in problem.nested(name))}
    found, seen = [], {}
    for place in problem.places(name):
        b = place.block
        mine = {
            k
            for k, axis in enumerate(b.axes)
            if k == place.axis or (axis in family - {name} and belongs(problem, place, k, u))
        }
        drop = {k for k, axis in enumerate(b.axes) if axis in is_open and k not in mine}
        drop |= {k for k in mine if set(b.parents[k]) & drop}  # nested over others that are open
        if not all(problem.signless(b, k) for k in drop):
            continue  # the mean over what is open is zero
        gone = tuple(sorted(drop))
        kept = [k for k in range(len(b.axes)) if k not in gone]
        parents = tuple(
            tuple(kept.index(p) for p in b.parents[k]) if not set(b.parents[k]) & set(gone) else ()
            for k in kept
        )
        axes = tuple("_" if (k not in mine and b.axes[k] in family) else b.axes[k] for k in kept)
        shape = tuple(b.shape[k] for k in kept)
        found.append(Reduction(b.name, gone, Block(place.name, b.path, axes, shape, parents)))
        seen |= {(b.name, k, place.name): kept.index(k) for k in mine if k in kept}
    units = tuple(m for m in problem.units if m.name in family)
    return part_of(problem, tuple(r.block for r in found), units, seen), tuple(found)


def anchored(problem: Problem, name: str, is_open: Collection[str]) -> float:
    """How much is known of each of some units while others are open: the entries of its reduced blocks."""
    u = problem.by_name[name]
    family = {name, *(m.name for m in problem.nested(name))}
    total = 0.0
    for place in problem.places(name):
        b = place.block
        if not all(
            axis in family or axis not in is_open or problem.signless(b, k)
            for k, axis in enumerate(b.axes)
        ):
            continue
        known = prod(
            size
            for axis, size in zip(b.axes, b.shape, strict=True)
            if axis in family or axis not in is_open
        )
        total += known / (u.size * prod(b.shape[p] for p in place.parents))
    return total


@lru_cache(maxsize=256)
def anchored_order(problem: Problem) -> tuple[str, ...]:
    """Roots in the order in which most is known of each, those before it being matched."""
    waiting, out = [u.name for u in problem.roots], []
    is_open = {u.name for u in problem.units}
    while waiting:
        best = max(waiting, key=lambda n: anchored(problem, n, is_open))
        waiting.remove(best)
        out.append(best)
        is_open -= {best, *(m.name for m in problem.nested(best))}
    return tuple(out)
