"""Where units stand in blocks, and directions that act on one place by a matrix unit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..layout import spread
from .kinds import Term, part_slices
from .probe import Probe

LONGEST_PACK = 3
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Occurrence:
    """One axis of a block that is the units in question; ``parents`` as in :class:`~.kinds.Term`."""

    block: str
    axis: int
    parents: tuple[int, ...] = ()
    through: tuple[str, ...] = ()
    part: tuple[tuple[int, int], ...] = ()
    under: tuple[str, ...] = ()
    seats: tuple[int, ...] = ()

    @staticmethod
    def of(term: Term) -> Occurrence:
        """Where a term that has an axis acts."""
        assert term.axis is not None
        return Occurrence(term.block, term.axis, term.parents, (), term.part)

    @property
    def place(self) -> tuple:
        return self.block, self.axis, self.part

    def term(self, exponent: float) -> Term:
        return Term(
            self.block, self.axis, float(exponent), self.parents, 0.0, self.through, self.part,
            self.under, self.seats,
        )  # fmt: skip

    def at(self, rank: int, copy: Sequence[int], i) -> tuple:
        """Index of coordinate ``i``, in one copy."""
        index: list = list(part_slices(self.part, rank))
        for k, c in zip(self.parents, copy, strict=True):
            index[k] = c
        index[self.axis] = i
        return tuple(index)


def occurrences(
    spec, name: str, leave_out: set[str], parts_left_out: Collection = (), split: bool = False
) -> list:
    """All places of the units ``name``, in the order of the layout; ``split``: with the parts of any block."""
    return [
        Occurrence(b.name, k, b.parents[k] if b.parents else (), (), part)
        for b in spec.layout
        if b.name not in leave_out
        for k, label in enumerate(b.axes)
        if label == name
        for part in (parts(spec, b, split) if split or spec.over(name) else ((),))
        if (b.name, part) not in parts_left_out
    ]


def parts(spec, block, split: bool = False) -> list[tuple[tuple[int, int], ...]]:
    """The parts of a block that may move apart: where dimensions of heads stand beside a short fixed axis,
    that may count queries, keys and values; with ``split``, any units beside the shortest fixed axis, that
    may count values and gates."""
    nested = any(label in spec._units and spec.over(label) for label in block.axes)
    short = [
        k
        for k, (label, n) in enumerate(zip(block.axes, block.shape, strict=True))
        if label == "_" and 1 < n <= LONGEST_PACK
    ]
    if split:
        short = sorted(short, key=lambda k: (block.shape[k], -k))[:1]
    if not (nested or split) or len(short) != 1:
        return [()]
    return [((short[0], i),) for i in range(block.shape[short[0]])]


def whole(terms: Sequence[Term], blocks) -> tuple[Term, ...]:
    """The terms, with all parts of a block that move alike joined."""
    out: list[Term] = []
    for t in terms:
        same = [s for s in terms if replace(s, part=()) == replace(t, part=())]
        if t.part and len(same) == blocks[t.block].shape[t.part[0][0]]:
            t = replace(t, part=())
        if t not in out:
            out.append(t)
    return tuple(out)


def matrix_unit(probe: Probe, leaves, o: Occurrence, copy, i: int, j: int, dual: bool = False):
    """The direction in which ``E_ij`` moves one place (of ``A^-1`` from the left, if ``dual``)."""
    x = probe.block(leaves, o.block)
    gain = 1.0
    seats = o.seats or (*o.parents, o.axis)
    for name in o.through:
        gain = gain * spread(probe.block(leaves, name), seats, x.ndim)
    for name in o.under:
        gain = gain / spread(probe.block(leaves, name), seats, x.ndim)
    folded = x * gain
    out = np.zeros_like(x)
    source, target = (j, i) if dual else (i, j)
    out[o.at(x.ndim, copy, target)] = (-1 if dual else 1) * folded[o.at(x.ndim, copy, source)]
    return out / gain


def copies(probe: Probe, over: Sequence[str], k: int) -> tuple[int, ...]:
    """The copy that is looked at in the ``k``-th draw."""
    random = np.random.default_rng([k, 3])
    return tuple(int(random.integers(probe.spec.size_of(o))) for o in over)


def coordinates(size: int, k: int, n: int) -> tuple[int, ...]:
    """``n`` different coordinates that are looked at in the ``k``-th draw."""
    random = np.random.default_rng([k, size, 11])
    return tuple(int(i) for i in random.permutation(size)[:n])


def sums(parts: Sequence[tuple[Occurrence, np.ndarray]], weights) -> dict[str, np.ndarray]:
    """A direction that is a combination of directions of single places."""
    out: dict[str, np.ndarray] = {}
    for (o, x), w in zip(parts, weights, strict=True):
        if w:
            out[o.block] = out.get(o.block, 0) + w * x
    return out


def matched_axes(spec, weight, bias, contracted: int) -> list[int] | None:
    """The axes of the block ``weight`` that those of ``bias`` stand for, ``contracted`` not among them."""
    out: list[int] = []
    for label, size in zip(bias.axes, bias.shape, strict=True):
        fits = [
            k
            for k, (other, n) in enumerate(zip(weight.axes, weight.shape, strict=True))
            if k != contracted and k not in out and other == label and n == size
        ]
        if not fits:
            return None
        out.append(fits[-1])
    return out


def carry_equation(spec, o: Occurrence, weight, bias) -> str | None:
    """The einsum by which an amount ``(*over, units)`` goes through ``weight`` into ``bias``, if it can.

    Axes of the weight that are neither are summed (the places of a convolution's kernel).
    """
    onto = matched_axes(spec, weight, bias, o.axis)
    if onto is None or o.part:
        return None
    letters = LETTERS[: len(weight.axes)]
    amount = "".join(letters[k] for k in (*o.parents, o.axis))
    return f"{amount},{letters}->{''.join(letters[k] for k in onto)}"
