"""Permutations: units in the order of their colours."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from wsljax._compat import enable_x64
from wsljax.symmetry.elements import parent_coordinates

from .colours import Colours, plain_colours, refine
from .progress import Progress

LIMIT, TIE = 64, 1e-9
"""At most so many ties are broken one by one; units tie whose colours differ by less."""


def sort_units(state: Progress, open_blocks: Collection[str] = ()) -> None:
    """Bring all units into the order of their colours, nested ones within each copy.

    Units with the same colour are tried: if exchanging them changes no weight they are copies of each
    other and their order does not matter. Else one of them is given a colour of its own, and all are refined
    anew, until nothing ties; that this choice does not matter is not known then, and is noted.

    ``open_blocks``: blocks of which only sizes may be looked at.
    """
    spec = state.spec
    if not spec.units:
        return
    look = {"unsigned": open_blocks, "floor": state.floor}
    colours = refine(spec, state.blocks, plain_colours(spec), **look)
    harmless: set[tuple] = set()
    broken = 0
    while (tie := _first_tie(colours, harmless)) is not None:
        name, copy, a, b = tie
        if _copies(state, name, copy, a, b):
            harmless.add(tie)
            continue
        state.note(
            f"units {name!r} tie in their surroundings without being copies of each other; one was "
            "chosen to come first"
        )
        if (broken := broken + 1) > LIMIT:
            state.note(f"more than {LIMIT} such ties; the order of the rest is arbitrary")
            break
        one = colours[name].copy()
        one[(*copy, a)] += 10.0
        colours = refine(spec, state.blocks, colours | {name: one}, **look)
        harmless.clear()
    state.apply(_order(state, colours))


def _first_tie(colours: Colours, harmless: set[tuple]):
    for name, c in colours.items():
        order = np.argsort(c, axis=-1, kind="stable")
        gaps = np.diff(np.take_along_axis(c, order, -1), axis=-1)
        for *copy, k in np.argwhere(gaps < TIE):
            copy = tuple(int(i) for i in copy)
            tie = (name, copy, int(order[(*copy, k)]), int(order[(*copy, k + 1)]))
            if tie not in harmless:
                return tie
    return None


def _copies(state: Progress, name: str, copy: tuple, a: int, b: int) -> bool:
    """Whether exchanging two units changes no weight (units nested in them being in the same order)."""
    with enable_x64():
        swap = np.array(state.spec.identity()[name])
    swap[(*copy, a)], swap[(*copy, b)] = b, a
    with enable_x64():
        moved = state.spec.blocks(state.moved({name: swap}))
    for n, x in state.blocks.items():
        size = np.max(np.abs(x), initial=0.0)
        if np.max(np.abs(np.asarray(moved[n]) - x), initial=0.0) > state.floor * size:
            return False
    return True


def _order(state: Progress, colours: Colours) -> dict[str, np.ndarray]:
    """The permutations that sort: parents first, then nested units by their colours at the old parents."""
    spec = state.spec
    out: dict[str, Any] = {}
    for u in sorted(spec.units, key=lambda u: len(u.over)):
        sorted_ = np.argsort(colours[u.name], axis=-1, kind="stable")
        if u.over:
            sorted_ = sorted_[tuple(np.asarray(c) for c in parent_coordinates(spec, out, u.name))]
        out[u.name] = sorted_
    return out
