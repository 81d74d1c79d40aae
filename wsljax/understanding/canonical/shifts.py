"""Shifts: what may be added is taken away. Means become zero, free biases vanish, phases come near zero."""

from __future__ import annotations

import numpy as np

from wsljax.symmetry import Shift
from wsljax.symmetry.generators import Phase
from wsljax.symmetry.generators.amounts import shrink
from wsljax.symmetry.layout import spread

from .progress import Progress


def centre(state: Progress) -> None:
    """Bring the target of every shift to mean zero along the axes on which its amount is constant.

    Where there are none, the target becomes zero. Shifts that carry into the target of another come
    first. Where two shifts have one target, one of them is told by another block that it alone moves. Of a
    sine's phase so many half periods are taken that the bias is within a quarter of zero.
    """
    waiting = [g for g in state.spec.generators if isinstance(g, Shift)]
    while waiting:
        ready = [g for g in waiting if not _fed(g, waiting)] or waiting
        free = [g for g in ready if _told_by(g, waiting) is not None]
        if not _fed(ready[0], waiting) and free:
            gen = max(free, key=lambda g: (_told_by(g, waiting) or ("",))[0] != g.target)
        else:
            state.note(
                f"shifts {[g.name for g in waiting]} move the same blocks: their order decides"
            )
            gen = ready[0]
        block, exponent = _told_by(gen, waiting) or (gen.target, 1.0)
        waiting.remove(gen)
        amount = _amount(gen, block, exponent, state.blocks)
        if isinstance(gen, Phase):
            half_periods = -np.round(amount / gen.step)
            if np.any(half_periods):
                state.apply({gen.name: half_periods.astype(np.int64)})
        elif np.any(amount):
            state.apply({gen.name: -amount})


def _fed(gen: Shift, waiting) -> bool:
    """Whether another shift carries into the target."""
    return any(c.bias == gen.target for g in waiting if g is not gen for c in g.carries)


def _told_by(gen: Shift, waiting) -> tuple[str, float] | None:
    """A block (and the exponent there) by which the amount of this shift is told from those of others."""
    others = [g for g in waiting if g is not gen]
    same = [
        g for g in others if g.target == gen.target and g.part == gen.part and g.kind == gen.kind
    ]
    if not same:
        return gen.target, 1.0
    taken = set().union(
        *({g.target, *(t.block for t in g.terms), *(c.bias for c in g.carries)} for g in others)
    )
    for term in gen.terms:
        if gen.kind == "shift" and term.block not in taken:
            return term.block, term.exponent
    return None


def _amount(gen: Shift, block: str, exponent: float, blocks) -> np.ndarray:
    x = blocks[block] / exponent
    if block == gen.target:
        for h in gen.gains:
            x = x / spread((blocks[h.block] + h.offset) ** h.power, gen.seats, x.ndim)
    if gen.basis:
        return np.asarray(shrink(gen, x))
    chosen = dict(gen.part)
    index = tuple(
        slice(chosen[k], chosen[k] + 1) if k in chosen else slice(None) for k in range(x.ndim)
    )
    gone = tuple(sorted({*gen.constant, *chosen}))
    return x[index].mean(gone) if gone else x[index]
