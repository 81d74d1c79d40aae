"""The search around normalisations: their gains and shifts, and the directions that they alone leave free.

What a LayerNorm gives sums to nothing once divided by its gain, so a reader may gain a multiple of one over
the gain, if its bias takes back what the norm's own shift makes of that. In front of a BatchNorm in
inference, a bias may move if the shift behind takes back what gain and variance make of it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..layout import spread
from .kinds import Carry, Gain, Scale, Shift, Term
from .occurrences import (
    LETTERS,
    Occurrence,
    coordinates,
    copies,
    matched_axes,
)
from .search import LEAST_DRAWS, Search
from .shifts import shift_of

SAMPLES = 4
LARGEST_POWER = 4


class Norm(NamedTuple):
    """The gain of a norm, its other vectors (its shift), and the places that read it."""

    gain: str
    others: tuple[str, ...]
    readers: tuple[Occurrence, ...]


def norms(
    search: Search, units, scalings: list[Scale], shifted: Collection[str] = ()
) -> list[Norm]:
    """Gains that stand in front of readers of ``units``.

    They show as a scaling of blocks that have no other axes than the units, against the readers.
    ``shifted`` are blocks that are known to be biases.
    """
    out: list[Norm] = []
    known: dict[tuple, int | None] = {}
    axes = (*units.over, units.name)
    read: set[tuple] = set()
    for s in scalings:
        for sign in (1, -1):
            up = [t for t in s.terms if t.exponent == sign]
            down = [t for t in s.terms if t.exponent == -sign]
            places = tuple(Occurrence.of(t) for t in down)
            if (
                not up
                or not down
                or len(up) + len(down) < len(s.terms)
                or any(search.blocks[t.block].axes != axes or t.offset for t in up)
                or read & {o.place for o in places}
            ):
                continue
            names = [t.block for t in up]
            kind = tuple(search.kin.kind_of[t.block] for t in (*up, *down))
            if kind not in known:
                known[kind] = 0 if len(names) == 1 else _gain(search, names, places, shifted)
            if known[kind] is not None:
                gain = names[known[kind]]  # type: ignore[index]
                read |= {o.place for o in places}
                out.append(Norm(gain, tuple(n for n in names if n != gain), places))
                break
    return out


def _gain(search: Search, names: list[str], readers, shifted: Collection[str]) -> int | None:
    """Which of the blocks is the gain: of the others shifts are known, or, the others being zero, readers
    may gain a constant over it."""
    plain = [n for n, name in enumerate(names) if name not in shifted]
    if len(plain) == 1:
        return plain[0]
    for number, name in enumerate(names):

        def without(k, leaves, name=name):
            out = [x.copy() for x in leaves]
            for other in names:
                if other != name:
                    leaf, index = search.probe.places[other]
                    out[leaf].reshape(-1)[index] = 0.0
            return out

        def make(k, leaves, name=name):
            gain = search.probe.block(leaves, name)
            out = []
            for o in readers:
                shape = list(search.blocks[o.block].shape)
                shape[o.axis] = 1
                t = np.random.default_rng([k, 37]).standard_normal(shape)
                constant = t / spread(gain, (*o.parents, o.axis), len(shape))
                first = np.zeros_like(constant)
                at = (slice(None),) * o.axis + (0,)
                first[at] = constant[at]
                out += [{o.block: constant}, {o.block: first}]
            return out

        sizes = np.linalg.norm(search.some_columns(make, without), axis=0)
        if np.all(sizes[::2] <= search.tolerance * np.max(sizes[1::2])):
            return number
    return None


def reader_shifts(search: Search, found_norms: list[Norm]) -> list[Shift]:
    """Readers of norms, plus a constant over the gain."""
    pairs = [(norm, o) for norm in found_norms for o in norm.readers if not o.part]
    found = search.each(
        pairs,
        lambda pair: (pair[0].gain, *pair[0].others, pair[1].block),
        lambda pair: _reader_shift(search, *pair),
    )
    return [g for some in found for g in some]


def _reader_shift(search: Search, norm: Norm, o: Occurrence) -> list[Shift]:
    target = search.blocks[o.block]
    seats = (*o.parents, o.axis)
    kept = [k for k in range(len(target.axes)) if k != o.axis]
    letters = LETTERS[: len(target.axes)]
    vector = "".join(letters[k] for k in seats)
    amount = "".join(letters[k] for k in kept)
    carries = []
    for name, b in search.blocks.items() if norm.others else ():
        onto = matched_axes(search.spec, target, b, o.axis)
        if name not in search.free and onto is not None and sorted(onto) == kept:
            out = "".join(letters[k] for k in onto)
            carries += [
                Carry(
                    name,
                    other,
                    f"{amount},{vector},{vector}->{out}",
                    gains=(Gain(norm.gain, -1.0),),
                )
                for other in norm.others
            ]

    def make(k, leaves):
        probe = search.probe
        t = np.random.default_rng([k, 31]).standard_normal([target.shape[m] for m in kept])
        gain = probe.block(leaves, norm.gain)
        out = [{o.block: np.expand_dims(t, o.axis) / spread(gain, seats, len(target.axes))}]
        for c in carries:
            moved = np.einsum(c.equation, t, probe.block(leaves, c.weight), 1 / gain)
            out.append({c.bias: moved})
        return out

    for v in search.null(make, len(carries) + 1):
        if v[0] == 1:
            used = tuple(
                replace(c, factor=float(f)) for c, f in zip(carries, v[1:], strict=True) if f
            )
            shift = shift_of(search, o.block, (o.axis,), used, ())
            return [replace(shift, gains=(Gain(norm.gain, -1.0),), seats=seats)]
    return []


def over_gain(g: Shift, term: Term | None) -> Shift:
    """A shift of the shift of a norm, counted in multiples of the gain: by these, a matrix that mixes the
    units mixes it too."""
    if term is None:
        return g
    gains = tuple(Gain(b) for b in term.under)
    carries = []
    for c in g.carries:
        operands, out = c.equation.split("->")
        amount = operands.split(",")[0]
        equation = ",".join([operands, *[amount] * len(gains)]) + "->" + out
        carries.append(replace(c, equation=equation, gains=(*c.gains, *gains)))
    return replace(g, gains=gains, seats=term.seats, carries=tuple(carries))


def gained_shifts(search: Search, units, scalings: list[Scale]) -> list[Shift]:
    """Vectors of ``units`` that may move if another one takes it back, times powers of further vectors."""
    axes = (*units.over, units.name)
    flat = [o for o in search.places(units) if search.blocks[o.block].axes == axes]
    names = [o.block for o in flat]
    offsets = {
        t.block: t.offset for s in scalings for t in s.terms if t.offset and t.block in names
    }
    m = len(flat)
    if m < 3:
        return []
    ratios: list[np.ndarray] = []
    logs: list[np.ndarray] = []
    signs: list[np.ndarray] = []
    for k in range(LEAST_DRAWS):
        leaves, _, _ = search.probe.draw(k)
        copy, chosen = copies(search.probe, units.over, k), coordinates(units.size, k, SAMPLES)

        def make(_, leaves, copy=copy, chosen=chosen):
            out = []
            for i in chosen:
                for o in flat:
                    one = np.zeros(search.blocks[o.block].shape)
                    one[(*copy, i)] = 1.0
                    out.append({o.block: one})
            return out

        columns = search.columns(make, k)
        for n, i in enumerate(chosen):
            ratios.append(_ratios(columns[:, n * m : (n + 1) * m], search.tolerance))
            at = np.array([search.probe.block(leaves, b)[(*copy, i)] for b in names])
            at += [offsets.get(b, 0.0) for b in names]
            logs.append(np.log(np.abs(at) + 1e-300))
            signs.append(np.sign(at))
    found: list[Shift] = []
    parallel = np.all(np.isfinite(ratios), 0)
    taken: set[int] = set()
    pairs = [(a, c) for a in range(m) for c in range(m) if a != c and parallel[a, c]]
    fits = {pair: _monomial(pair, ratios, logs, signs) for pair in pairs}

    def plainness(pair):
        fit = fits[pair]
        return sum(p < 0 and not offsets.get(names[i]) for i, p in fit[0].items()) if fit else 99

    for a, c in sorted(pairs, key=plainness):
        fit = fits[a, c]
        if fit is None or not fit[0] or a in taken or c in taken:
            continue
        powers, factor = fit
        taken |= {a, c}
        letters = LETTERS[: len(axes)]
        gains = tuple(Gain(names[i], p, offsets.get(names[i], 0.0)) for i, p in powers.items())
        equation = ",".join([letters] * (1 + len(gains))) + "->" + letters
        carry = Carry(names[c], "", equation, factor, (), gains)
        found.append(shift_of(search, names[a], (), (carry,), found))
    return found


def _ratios(columns: np.ndarray, tolerance: float) -> np.ndarray:
    """``r[a, c]`` such that column ``a`` plus ``r`` times column ``c`` is nothing; nan if there is none."""
    m = columns.shape[1]
    out = np.full((m, m), np.nan)
    sizes = np.linalg.norm(columns, axis=0)
    for a in range(m):
        for c in range(m):
            if a != c and sizes[a] and sizes[c]:
                r = -(columns[:, a] @ columns[:, c]) / sizes[c] ** 2
                if np.linalg.norm(columns[:, a] + r * columns[:, c]) <= tolerance * sizes[a]:
                    out[a, c] = r
    return out


def _monomial(pair, ratios, logs, signs) -> tuple[dict[int, float], float] | None:
    """Powers of the other vectors, and a factor, of which the ratio is the product."""
    a, c = pair
    r = np.array([x[a, c] for x in ratios])
    others = [i for i in range(logs[0].size) if i not in pair]
    rows = np.array([[*x[others], 1.0] for x in logs])
    if len(rows) <= rows.shape[1]:
        return None
    solved, *_ = np.linalg.lstsq(rows, np.log(np.abs(r)), rcond=None)
    powers = np.rint(solved[:-1] * 2) / 2
    size = np.log(np.abs(r)) - rows[:, :-1] @ powers
    if np.max(np.abs(powers), initial=0) > LARGEST_POWER or np.ptp(size) > 1e-7:
        return None
    flips = np.prod(
        [np.where(p % 2 == 1, s, 1) for p, s in zip(powers, np.array(signs)[:, others].T)], 0
    )
    factor = np.sign(r) * flips * np.exp(size)
    if np.ptp(factor) > 1e-6 * abs(factor[0]):
        return None
    near = round(float(factor[0]), 6)
    value = near if abs(near - factor[0]) < 1e-7 else float(np.mean(factor))
    return {i: float(p) for i, p in zip(others, powers, strict=True) if p}, value
