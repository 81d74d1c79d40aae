"""Signs: of odd and even activations, and those that singular vectors and principal axes leave open.

A sign is fixed by a statistic that is odd in it and does not depend on any sign or order that is still open:
a sum of the weights along the unit, each times a number for what it joins (a colour for a unit, a fixed
number for a fixed coordinate). Of several such statistics the one that is largest is made positive, so that a sum
that happens to be small decides nothing. Signs are fixed from where only one of them acts on a block
(layers next to inputs or outputs), and then on through the network.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsljax.symmetry import Generator, Linear, Orthogonal, Sign

from .colours import Colours, block_sizes, hashed_weights, plain_colours, refine
from .progress import Progress, through_gains
from .rotations import frame, in_frame

TRIES, ZERO = 8, 1e-7


class Flip(NamedTuple):
    """Signs that a generator leaves open, in the frame in which it acts."""

    generator: Generator

    @property
    def name(self) -> str:
        return self.generator.name

    @property
    def blocks(self) -> set[str]:
        return {t.block for t in self.generator.terms}

    @property
    def centred(self) -> bool:
        """Whether the signs are of directions, not of units."""
        return getattr(self.generator, "centred", False)

    @property
    def carried(self) -> set[str]:
        """Biases that change with the signs, by more than a sign."""
        return {c.bias for c in self.generator.carries}


def open_flips(state: Progress) -> list[Flip]:
    """All signs that are open once scalings and matrices are fixed."""
    return [
        Flip(g)
        for g in state.spec.generators
        if isinstance(g, (Sign, Linear, Orthogonal)) and g.name not in state.fixed
    ]


def fix_signs(state: Progress) -> set[str]:
    """Fix all signs that can be; returns the blocks on which some stay open."""
    waiting = open_flips(state)
    while waiting:
        touched = set().union(*(f.blocks for f in waiting))
        carried = set().union(*(f.carried for f in waiting))
        for flip in waiting:
            carried |= flip.blocks if flip.centred else set()
        colours = refine(
            state.spec, state.blocks, plain_colours(state.spec),
            unsigned=touched, without=carried, floor=state.floor, seed=1,
        )  # fmt: skip
        done = []
        for flip in waiting:
            others = set().union(*(f.blocks | f.carried for f in waiting if f is not flip))
            terms = _usable(flip, others)
            if terms:
                done.append((flip, _decide(state, flip, terms, colours)))
        if not done:
            names = sorted(f.name for f in waiting)
            state.note(f"signs of {names} act on shared blocks only and stay open")
            return touched | carried
        for flip, element in done:
            state.apply({flip.name: element})
            waiting.remove(flip)
    return set()


def _usable(flip: Flip, others: set[str]):
    """Terms on blocks that no other open sign touches, and this one once."""
    blocks = [t.block for t in flip.generator.terms]
    return [
        t
        for t in flip.generator.terms
        if t.block not in others and (blocks.count(t.block) == 1 or t.part)
    ]


def _decide(state: Progress, flip: Flip, terms, colours: Colours) -> np.ndarray:
    gen = flip.generator
    basis = frame(gen)
    layout = {b.name: b for b in state.spec.layout}
    lengths = block_sizes(state.blocks, state.floor)
    terms = [t for t in terms if lengths[t.block]]
    best = np.zeros((*gen.sizes, basis.shape[1]))
    size = np.zeros_like(best)
    for attempt in range(TRIES):
        odd = np.zeros_like(best)
        for term in terms:
            b, where = layout[term.block], term.where
            x = through_gains(gen, term, state.blocks)
            weights = hashed_weights(
                state.spec,
                b.axes,
                b.parents,
                b.shape,
                where[-1],
                colours,
                f"sign {attempt} {b.name}",
            )
            part = term.slices(x.ndim)
            weights = np.broadcast_to(weights, x.shape)[part]
            x = x[part]
            length = lengths[term.block]
            odd += _gather(x * weights, where) @ basis / length
            if attempt == 0:
                turned = np.moveaxis(np.moveaxis(x, where[-1], -1) @ basis, -1, where[-1])
                size += np.sqrt(_gather(turned**2, where)) / length
        if gen_pairs := getattr(gen, "pairs", ()):
            odd = _joined(odd, gen_pairs)
        best = np.where(np.abs(odd) > np.abs(best), odd, best)
    undecided = np.abs(best) <= ZERO * size
    if np.any(undecided & (size > ZERO)):
        state.note(f"{flip.name!r}: some signs have no odd statistic and stay as they are")
    elif np.any(size == 0) and isinstance(gen, Sign):
        state.note(f"{flip.name!r}: some units have no weights to tell their sign by")
    signs = np.where((best < 0) & ~undecided, -1, 1)
    if isinstance(gen, Sign):
        return signs
    if isinstance(gen, Orthogonal):
        return in_frame(gen, np.eye(basis.shape[1]) * signs[..., None, :])
    return np.eye(gen.size) * signs[..., None, :]


def _gather(x: np.ndarray, where: tuple[int, ...]) -> np.ndarray:
    rest = tuple(k for k in range(x.ndim) if k not in where)
    kept = sorted(where)
    return x.sum(rest).transpose([kept.index(k) for k in where])


def _joined(odd: np.ndarray, pairs) -> np.ndarray:
    """Both coordinates of a plane have the statistic of the first; others, that never move, none."""
    out = np.zeros_like(odd)
    for first, second in pairs:
        out[..., first] = out[..., second] = odd[..., first]
    return out
