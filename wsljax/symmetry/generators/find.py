"""``find``: all generators of a function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from .absorbed import absorbed_shifts
from .epsilon import approximate
from .flips import signs
from .kinds import KINDS, Generator, named_apart
from .matrices import Matrices
from .mixing import linear, orthogonal, scales, uniform
from .norms import Norm, gained_shifts, norms, over_gain, reader_shifts
from .phases import half_periods, phases
from .probe import CannotProbe, Probe
from .rotary import rotary
from .search import Search
from .shifts import carried_shifts, free_shifts
from .translations import translations
from .verify import verified


class Generators(NamedTuple):
    """What :func:`find` gives.

    ``approximate`` are pairs of a generator and the relative change that it makes; ``skipped`` says what was
    not looked for, or dropped, and why.
    """

    exact: tuple[Generator, ...] = ()
    approximate: tuple[tuple[Generator, float], ...] = ()
    skipped: tuple[str, ...] = ()


def find(
    fn: Callable, params: Any, spec, inputs: tuple, kinds: Sequence[str] | None = None
) -> Generators:
    """Generators of ``fn`` beyond the permutations of ``spec``."""
    wanted = [k for k in KINDS if kinds is None or k in kinds]
    if not wanted:
        return Generators()
    try:
        probe = Probe(fn, spec, params, inputs)
        refused: set = set()  # matrices that do not hold, where smaller groups may
        for shared in (True, False, False):
            search = Search(probe, shared)
            candidates = _candidates(search, wanted, refused)
            found, failed, notes = verified(search, candidates)
            wrong = {_key(g) for g in candidates if g.name in failed and isinstance(g, Matrices)}
            if not failed or not shared and wrong <= refused:
                break
            refused |= wrong
        return Generators(found, approximate(probe, found, wanted), notes)
    except CannotProbe as e:
        return Generators(skipped=(f"generators {', '.join(wanted)}: {e}",))


class _Found(NamedTuple):
    """What is known of one set of units."""

    mixing: list[Generator]
    flips: list[Generator]
    shifts: list[Generator]
    phases: list[Generator]


def _candidates(search: Search, wanted: Sequence[str], refused: Collection) -> list[Generator]:
    firsts = [f[0] for f in search.kin.families(search.places)]
    steps = half_periods(search, firsts) if "phase" in wanted else {}
    by_units = search.by_family(lambda units: _of_units(search, units, wanted, steps, refused))
    each = [_Found(*by_units[u.name]) for u in search.spec.units]
    mixing = [g for f in each for g in f.mixing]
    flips = [g for f in each for g in f.flips]
    mixing = [g for g in mixing if not any(_inside(g, o) for o in mixing)]
    flips = [g for g in flips if not any(_inside(g, o) for o in (*mixing, *flips))]
    found = [g for g in (*mixing, *flips) if g.kind in wanted]
    found += [g for f in each for g in f.phases]
    if "uniform" in wanted:
        found += uniform(search, mixing)
    if "shift" in wanted:
        free = free_shifts(search)
        found += [*free, *translations(search, free), *(g for f in each for g in f.shifts)]
    return named_apart(found)


def _of_units(
    search: Search, units, wanted: Sequence[str], steps: dict[str, float], refused: Collection
) -> _Found:
    found = _Found([], [], [], [])
    around: list[Norm] = []
    layers = [(u, _Known(search, u)) for u in search.layered(units)]
    for layered, known in layers:
        around += known.norms
        found.mixing.extend(known.scaled)
        if "sign" in wanted:
            found.flips.extend(signs(search, layered, known.scaled))
    known = _Known(search, units)
    around += known.norms
    full = [g for g in linear(search, units, known.scaled) if _key(g) not in refused]
    round_ = [] if full else orthogonal(search, units, around)
    round_ = [g for g in round_ if _key(g) not in refused]
    inside = {_support(g) for g in full}
    remaining = [s for s in known.scaled if _support(s) not in inside]
    found.mixing.extend([*full, *round_, *remaining])
    if "linear" in wanted:
        found.mixing.extend(rotary(search, units))
    if "sign" in wanted:
        # the flips that a linear or orthogonal generator contains are not listed again
        whole = [*full, *(g for g in round_ if not g.centred)]
        taken = {frozenset(p[:2] for p in _support(g)) for g in whole}
        found.flips.extend(
            s
            for s in signs(search, units, remaining)
            if s.carries or frozenset(p[:2] for p in _support(s)) not in taken
        )
    if "phase" in wanted:
        found.phases.extend(phases(search, units, steps))
    if "shift" in wanted:
        under = {t.block: t for g in round_ for t in g.terms if t.under}
        for u, k in [*layers, (units, known)]:
            found.shifts.extend(k.joint)
            found.shifts.extend(over_gain(g, under.get(g.target)) for g in k.carried)
            found.shifts.extend(reader_shifts(search, k.norms))
            found.shifts.extend(gained_shifts(search, u, k.scaled))
        found.shifts.extend(absorbed_shifts(search, units))
    return found


class _Known:
    """Scalings, shifts and norms of one set of units."""

    def __init__(self, search: Search, units):
        self.scaled, self.joint = scales(search, units)
        if not self.scaled and not units.over:
            whole = len(search.places(units))
            search.split.add(units.name)
            if len(search.places(units)) > whole:
                self.scaled, self.joint = scales(search, units)
            if not self.scaled:
                search.split.discard(units.name)
        self.carried = carried_shifts(search, units)
        self.norms = norms(search, units, self.scaled, {g.target for g in self.carried})


def _key(g: Generator) -> tuple:
    return g.kind, _support(g)


def _support(g: Generator) -> frozenset:
    return frozenset((t.block, t.axis, t.part) for t in g.terms)


def _exponents(g: Generator) -> dict:
    return {(t.block, t.axis, t.part): t.exponent for t in g.terms}


def _inside(g: Generator, other: Generator) -> bool:
    """Whether ``g``, which treats all coordinates of a parent's copies alike, is part of ``other``:
    scaling a whole head, where any matrix may act inside it, or all layers of a stack at once."""
    if g.kind == other.kind and g.units == other.units and set(g.over) < set(other.over):
        return _exponents(g) in (_exponents(other), {k: -e for k, e in _exponents(other).items()})
    if g.kind not in ("scale", "sign") or g.units not in other.over or g.carries:
        return False
    if other.kind not in {"scale": ("scale", "linear"), "sign": ("sign", "linear")}[g.kind]:
        return False
    seat = other.over.index(g.units)
    mine = _exponents(g)
    theirs = {(t.block, t.parents[seat], t.part): t.exponent for t in other.terms}
    if g.kind == "sign":  # whether all places flip; parts that do not matter are in neither
        return {p[:2] for p in mine} == {p[:2] for p in theirs}
    return mine in (theirs, {place: -e for place, e in theirs.items()})
