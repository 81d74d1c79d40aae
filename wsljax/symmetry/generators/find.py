"""``find``: all generators of a function, each verified by finite action before it is returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ..._compat import enable_x64
from .flips import signs
from .kinds import KINDS, Generator, Shift
from .mixing import linear, orthogonal, scales, uniform
from .phases import phases
from .probe import CannotProbe, Probe
from .rotary import rotary
from .search import Search
from .shifts import carried_shifts, free_shifts

DRAWS = 3


def find(
    fn: Callable, params: Any, spec, inputs: tuple, kinds: Sequence[str] | None = None
) -> tuple[tuple[Generator, ...], tuple[str, ...]]:
    """Generators of ``fn`` beyond the permutations of ``spec``, and what was skipped and why."""
    wanted = [k for k in KINDS if kinds is None or k in kinds]
    if not wanted:
        return (), ()
    try:
        search = Search(Probe(fn, spec, params, inputs))
        candidates = _candidates(search, wanted)
        return _verified(search, candidates)
    except CannotProbe as e:
        return (), (f"generators {', '.join(wanted)}: {e}",)


def _candidates(search: Search, wanted: Sequence[str]) -> list[Generator]:
    flips: list[Generator] = []
    together: list[Generator] = []
    all_kinds: list[Generator] = []
    for units in search.spec.units:
        scaled, joint = scales(search, units)
        together += joint
        full = linear(search, units, scaled)
        round_ = [] if full else orthogonal(search, units, scaled)
        inside = {_support(g) for g in full}
        scaled = [s for s in scaled if _support(s) not in inside]
        all_kinds += [*full, *round_, *scaled]
        if "linear" in wanted:
            all_kinds += rotary(search, units)
        if "sign" in wanted:
            # the flips that a linear or orthogonal generator contains are not listed again
            taken = {frozenset(p[:2] for p in _support(g)) for g in (*full, *round_)}
            flips += [
                s
                for s in signs(search, units, scaled)
                if s.carries or frozenset(p[:2] for p in _support(s)) not in taken
            ]
    all_kinds = [g for g in all_kinds if not any(_inside(g, o) for o in all_kinds)]
    flips = [g for g in flips if not any(_inside(g, o) for o in (*all_kinds, *flips))]
    found = [g for g in (*all_kinds, *flips) if g.kind in wanted]
    if "phase" in wanted:
        found += phases(search)
    if "uniform" in wanted:
        found += uniform(search, all_kinds)
    if "shift" in wanted:
        found += [*free_shifts(search), *together]
        for units in search.spec.units:
            found += carried_shifts(search, units)
    return found


def _support(g: Generator) -> frozenset:
    return frozenset((t.block, t.axis, t.part) for t in g.terms)


def _inside(g: Generator, other: Generator) -> bool:
    """Whether ``g``, which treats all coordinates of a parent's copies alike, is part of ``other``:
    scaling a whole head, where any matrix may act inside it."""
    if g.kind not in ("scale", "sign") or g.units not in other.over or g.carries:
        return False
    if other.kind not in {"scale": ("scale", "linear"), "sign": ("sign", "linear")}[g.kind]:
        return False
    seat = other.over.index(g.units)
    mine = {(t.block, t.axis, t.part): t.exponent for t in g.terms}
    theirs = {(t.block, t.parents[seat], t.part): t.exponent for t in other.terms}
    if g.kind == "sign":  # whether all places flip; parts that do not matter are in neither
        return {p[:2] for p in mine} == {p[:2] for p in theirs}
    return mine in (theirs, {place: -e for place, e in theirs.items()})


def _verified(
    search: Search, candidates: list[Generator]
) -> tuple[tuple[Generator, ...], tuple[str, ...]]:
    """The candidates that hold for random elements, whole, and whose group laws hold."""
    notes: list[str] = []
    kept: list[Generator] = []
    candidates = [_centred(g, candidates) for g in candidates]
    for g in candidates:
        why = _unlawful(g, candidates)
        if why:
            notes.append(f"{g.name}: {why}")
        else:
            kept.append(g)
    candidates = kept
    if not candidates:
        return (), tuple(notes)
    spec = replace(search.spec, generators=tuple(candidates))
    probe = search.probe
    limit = max(search.tolerance, 1e-9)

    with enable_x64():
        neutral = {g.name: np.asarray(g.neutral()) for g in candidates}

    def moved(g, leaves, ins):
        return probe.flat(jax.tree.leaves(spec.act(g, probe.treedef.unflatten(leaves))), ins)

    worst = dict.fromkeys(neutral, 0.0)
    for k in range(DRAWS):
        leaves, inputs, y = probe.draw(k)
        random = np.random.default_rng([k, 41])
        for g in candidates:
            some = neutral | {g.name: _element(g, random)}
            new = np.asarray(probe.program("moved", moved, some, leaves, inputs))
            worst[g.name] = max(worst[g.name], probe.apart(new, y))
    for g in candidates:
        if not worst[g.name] <= limit:
            notes.append(
                f"{g.name}: the outputs change by {worst[g.name]:.1e} of their spread under it"
            )
    return tuple(g for g in candidates if worst[g.name] <= limit), tuple(notes)


def _element(g: Generator, random: np.random.Generator) -> np.ndarray:
    """A random element, as ``g.draw`` makes them, but without a program to be compiled."""
    x = random.standard_normal(g.shape)
    if g.kind == "shift":
        return x
    if g.kind == "phase":
        return random.integers(-2, 3, g.shape).astype(np.int32)
    if g.kind == "sign":
        return np.where(x > 0, 1, -1).astype(np.int32)
    if g.kind in ("scale", "uniform"):
        return np.exp(0.5 * x)
    if getattr(g, "pairs", ()):
        with enable_x64():
            return np.asarray(g.exp(0.5 * random.standard_normal(g.algebra_shape)))
    q, _ = np.linalg.qr(x)
    if g.kind == "orthogonal":
        return q
    triangle = np.triu(random.standard_normal(g.shape), 1) / g.size
    return q @ (triangle + np.eye(g.size) * np.exp(0.25 * random.standard_normal(g.shape)))


def _centred(g: Generator, others: Sequence[Generator]) -> Generator:
    """Carries through weights that may be shifted by a constant bring no constant with them."""
    constant = {
        o.target: o.constant for o in others if isinstance(o, Shift) and len(o.constant) == 1
    }
    carries = []
    for c in g.carries:
        if c.weight in constant:
            operands, output = c.equation.split("->")
            letter = operands.split(",")[1][constant[c.weight][0]]
            if letter in output:
                c = replace(c, centre=(output.index(letter),))
        carries.append(c)
    return replace(g, carries=tuple(carries))


def _unlawful(g: Generator, others: Sequence[Generator]) -> str | None:
    """Why a shift would not compose with the other generators."""
    if not isinstance(g, Shift):
        return None
    for o in others:
        for t in o.terms:
            if t.block == g.target and (t.axis in g.constant or t.through or t.offset):
                return f"its constant direction is mixed by {o.name}"
    targets = {o.target: o.name for o in others if isinstance(o, Shift)}
    for c in g.carries:
        if c.weight in targets and not c.centre:
            return f"it reads {c.weight}, which {targets[c.weight]} shifts"
    return None
