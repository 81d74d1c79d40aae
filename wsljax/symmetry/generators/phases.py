"""The search for phases: biases inside a sine, which may move by half a period if the readers change sign."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np

from .kinds import Phase
from .occurrences import Occurrence, coordinates, copies
from .search import Search

STEP = 0.01
FREQUENCIES = (1.0, 30.0, np.pi, 2 * np.pi)
MOST_READERS = 3
DRAWS = 3


def half_periods(search: Search, sets_of_units) -> dict[str, float]:
    """For biases inside a sine that nothing but linear maps follow: half a period, told by derivatives."""
    found = {}
    for units in sets_of_units:
        for bias in _biases(search, units):
            if len(search.places(units)) - 1 <= MOST_READERS:
                step = _half_period(search, units, bias)
                if step is not None:
                    found[bias.block] = step
    return found


def phases(search: Search, units, measured: dict[str, float]) -> list[Phase]:
    """Half periods of single coordinates of ``units``.

    Where the period of a bias has not been measured, those of others are tried, and the usual ones.
    """
    usual = [*dict.fromkeys(measured.values()), *(np.pi / w for w in FREQUENCIES)]
    axes = (*units.over, units.name)
    places = search.places(units)
    found: list[Phase] = []
    for bias in _biases(search, units):
        readers = [o for o in places if o.block != bias.block]
        if len(readers) > MOST_READERS:
            continue
        steps = [measured[bias.block]] if bias.block in measured else usual
        sets = chain.from_iterable(combinations(readers, m) for m in range(1, len(readers) + 1))
        left = [(step, s) for s in sets for step in steps]
        for k in range(DRAWS):
            left = _kept(search, units, bias, left, k)
        if left:
            step, moved = left[0]
            terms = tuple(o.term(1) for o in moved)
            sizes = (*search.sizes(units.over), units.size)
            name = search.named("phase", units.name, found)
            found.append(
                Phase(name, units.name, terms, units.size, axes, sizes, (), bias.block, step=step)
            )
    return found


def _biases(search: Search, units) -> list[Occurrence]:
    axes = (*units.over, units.name)
    return [o for o in search.places(units) if search.blocks[o.block].axes == axes]


def _half_period(search: Search, units, bias: Occurrence) -> float | None:
    """From the derivative ``d`` by one bias: ``d(b + h) + d(b - h) = 2 cos(w h) d(b)`` for a sine of ``w b``."""
    ratios = []
    for k in range(DRAWS):
        leaves, inputs, _ = search.probe.draw(k)
        copy, (i,) = copies(search.probe, units.over, k), coordinates(units.size, k, 1)
        one = np.zeros(search.blocks[bias.block].shape)
        one[(*copy, i)] = 1.0
        leaf, index = search.probe.places[bias.block]
        rows = []
        for h in (-STEP, 0.0, STEP):
            near = [x.copy() for x in leaves]
            near[leaf].reshape(-1)[index] += h * one
            rows.append(search.probe.push([{bias.block: one}], near, inputs)[0])
        before, here, after = rows
        size = here @ here
        ratio = (before + after) @ here / size / 2 if size else 1.0
        if np.linalg.norm(before + after - 2 * ratio * here) > 1e-8 * np.sqrt(size):
            return None
        ratios.append(ratio)
    if not max(ratios) - min(ratios) < 1e-8 or not -1 < ratios[0] < 1 - 1e-8:
        return None
    frequency = float(np.arccos(np.mean(ratios)) / STEP)
    simple = round(frequency, 5)  # the cosine tells it to some eight digits
    return float(np.pi / (simple if abs(simple - frequency) < 1e-8 else frequency))


def _kept(search: Search, units, bias, tried: list, k: int) -> list:
    """The pairs of a step of the bias and readers whose change of sign makes up for it."""
    if not tried:
        return []
    leaves, inputs, y = search.probe.draw(k)
    copy, (i,) = copies(search.probe, units.over, k), coordinates(units.size, k, 1)
    many = []
    for step, readers in tried:
        moved = [x.copy() for x in leaves]
        for o in (bias, *readers):
            leaf, index = search.probe.places[o.block]
            at = index[o.at(index.ndim, copy, i)]
            if o is bias:
                moved[leaf].reshape(-1)[at] += step
            else:
                moved[leaf].reshape(-1)[at] *= -1
        many.append(moved)
    found = search.probe.evaluate(many, inputs)
    return [s for s, new in zip(tried, found, strict=True) if search.probe.apart(new, y) < 1e-7]
