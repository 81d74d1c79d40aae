"""Generators of a function without its epsilons: what holds but for the small number under a root.

A normalisation divides by ``sqrt(variance + eps)``, so that scaling what it normalises does not leave it
alone, but nearly. Such generators are those of the function in which small constants that are added, or are
the other side of a maximum, are zero; each is reported with the change it makes to the function as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import Literal
from ..rewrite import Places, plain, run
from .kinds import Generator, named_apart
from .mixing import scales, uniform
from .nullspace import rank
from .probe import CannotProbe, Probe
from .search import Search
from .verify import errors

LARGEST_EPSILON = 2e-3
LARGEST_CHANGE = 0.1
"""What changes the outputs by more of their spread is no symmetry."""


def approximate(
    probe: Probe, exact: Sequence[Generator], wanted: Sequence[str]
) -> tuple[tuple[Generator, float], ...]:
    """Scalings that hold up to an epsilon, each with the change that it makes to the function.

    The change is that of the outputs under random elements, at random parameters, relative to their spread.
    """
    try:
        limit = without_epsilons(probe) if {"scale", "uniform"} & set(wanted) else None
        if limit is None:
            return ()
        search = Search(limit)
        by_units = search.by_family(lambda units: [scales(search, units)[0]])
        found: list = [g for (scalings,) in by_units.values() for g in scalings]
        if "uniform" in wanted:
            found += uniform(search, [*found, *exact])
        found = [g for g in found if g.kind in wanted and not _spanned(g, exact)]
        found = named_apart(found, {g.name for g in exact})
        there = errors(limit, found)
        found = [g for g in found if there[g.name] <= limit.tolerance]
        here = errors(probe, found)
    except CannotProbe:
        return ()
    return tuple(
        (g, float(f"{here[g.name]:.1e}"))
        for g in found
        if probe.tolerance < here[g.name] <= LARGEST_CHANGE
    )


def _spanned(g: Generator, exact: Sequence[Generator]) -> bool:
    """Whether scalings that are known do the same, offsets aside."""
    known = [o for o in exact if o.kind == g.kind and (o.units, o.over) == (g.units, g.over)]
    places = sorted({(t.block, t.axis or 0, t.part) for o in (g, *known) for t in o.terms})
    rows = np.zeros((len(known) + 1, len(places)))
    for row, o in zip(rows, (*known, g), strict=True):
        for t in o.terms:
            row[places.index((t.block, t.axis or 0, t.part))] = t.exponent
    return rank(rows) == rank(rows[:-1])


def without_epsilons(probe: Probe) -> Probe | None:
    """The function with its small constants zero; None if it has none."""
    closed = probe.traced
    places = Places(_adds_epsilon)
    if not places.holds(closed):
        return None

    def change(path, eqn, values):
        return plain(
            eqn, [v if _epsilon(a) is None else v * 0 for a, v in zip(eqn.invars, values)]
        ), None

    def flat(leaves, ins):
        return run(closed, jax.tree.leaves((leaves, ins)), places, change)[0][0]

    return probe.of(flat)


def _adds_epsilon(eqn: Any) -> bool:
    return eqn.primitive.name in ("add", "max") and any(_epsilon(a) is not None for a in eqn.invars)


def _epsilon(atom: Any) -> float | None:
    """The value of a small constant."""
    if (
        not isinstance(atom, Literal)
        or np.ndim(atom.val)
        or not jnp.issubdtype(cast(Any, atom.aval).dtype, jnp.floating)
    ):
        return None
    return float(atom.val) if 0 < atom.val <= LARGEST_EPSILON else None
