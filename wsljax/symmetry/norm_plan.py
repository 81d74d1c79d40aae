"""What :func:`~wsljax.symmetry.fold_norms` does to the weights: which of them are gains, shifts, readers and writers.

None of it goes by name. A writer may be shifted by a constant along the stream, and nothing changes. A gain is
scaled against its readers; and what it multiplies has no mean, so that readers may be shifted by constants
over the gain. A shift is scaled beside the gain; it goes where adding it, times a reader, to a bias makes up
for it. All that is asked of the function is how it responds to such directions at random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from .generators import Scale, Shift
from .generators.occurrences import LETTERS, matched_axes
from .generators.probe import Probe
from .layout import Block, spread
from .spec import Spec

DRAWS = 3


@dataclass(frozen=True)
class Norm:
    """A gain, the shift beside it if there is one, and the readers of both, with the axis of the units."""

    gain: tuple[str, int]
    shift: tuple[str, int] | None
    readers: tuple[tuple[str, int], ...]
    into: tuple[tuple[str, str, float], ...] | None
    """Where the shift goes: reader, bias, factor; None if it cannot go."""


class Plan:
    """What is done to the weights: a function of any weights of the architecture."""

    def __init__(self, spec: Spec, probe: Probe):
        self.spec, self.probe = spec, probe
        self.blocks: dict[str, Block] = {b.name: b for b in spec.layout}
        self.folded: list[str] = []
        self.left: list[str] = []
        self.centred = self._centred()
        self.norms = [n for s in spec.generators if isinstance(s, Scale) for n in self._norm(s)]

    # -------------------------------------------------------------- what is there
    def _centred(self) -> list[tuple[str, int]]:
        """Blocks that may be shifted by a constant along the axis of some units."""
        out = [
            (s.target, s.constant[0])
            for s in self.spec.generators
            if isinstance(s, Shift) and len(s.constant) == 1 and not s.carries and not s.terms
            and not s.part and not s.gains
            and not self.blocks[s.target].axes[s.constant[0]].startswith("_")
        ]  # fmt: skip
        self.folded += [f"{name} is centred along axis {k}" for name, k in out]
        return out

    def _norm(self, scale: Scale) -> list[Norm]:
        """The norm whose gain a scaling moves against its readers."""
        places = {t.block: t for t in scale.terms}
        axes = {t.block: t.axis for t in scale.terms if t.axis is not None}
        if len(axes) < len(scale.terms) or any(t.part or t.offset for t in scale.terms):
            return []
        rank = min(len(self.blocks[n].shape) for n in places)
        flat = [n for n in places if len(self.blocks[n].shape) == rank]
        sign = places[flat[0]].exponent
        readers = tuple((n, axis) for n, axis in axes.items() if n not in flat)
        fits = (
            abs(sign) == 1
            and all(places[n].exponent == sign for n in flat)
            and readers
            and all(places[n].exponent == -sign for n, _ in readers)
            and all(
                self._onto((n, axes[n]), reader) is not None for n in flat for reader in readers
            )
        )
        if not fits:
            return []
        for n in flat:
            gain = (n, axes[n])
            rest = [(m, axes[m]) for m in flat if m != n]
            if len(rest) < 2 and self._is_gain(gain, [m for m, _ in rest], readers):
                return self._foldable(gain, rest[0] if rest else None, readers)
        return []

    def _foldable(self, gain, shift, readers) -> list[Norm]:
        into, names = None, ", ".join(n for n, _ in readers)
        if shift is not None:
            into = self._carried(shift, readers)
            there = ", ".join(dict.fromkeys(b for _, b, _ in into or ()))
            if into:
                self.folded.append(f"{shift[0]} goes through {names} into {there}")
            else:
                self.left.append(f"{shift[0]}: not all of its readers {names} have a bias")
                if not np.all(self.probe.block(self.probe.given, gain[0])):
                    self.left.append(f"{gain[0]}: zero in places, beside a shift that stays")
                    return []
        self.folded.append(f"{gain[0]} goes into {names}")
        return [Norm(gain, shift, readers, into)]

    def _onto(self, vector: tuple[str, int], other: tuple[str, int]) -> tuple[int, ...] | None:
        """The axes of a block that those of a vector along the same units stand for."""
        a, b = self.blocks[vector[0]], self.blocks[other[0]]
        out: list[int] = []
        for k, (label, n) in enumerate(zip(a.axes, a.shape, strict=True)):
            if k == vector[1]:
                out.append(other[1])
                continue
            fits = [
                m
                for m, (o, size) in enumerate(zip(b.axes, b.shape, strict=True))
                if label != "_" and o == label and size == n and m != other[1] and m not in out
            ]
            if not fits:
                return None
            out.append(fits[0])
        return tuple(out)

    def _spread(self, x, vector, other):
        """A vector along the units with the axes of another block."""
        onto = self._onto(vector, other)
        assert onto is not None
        return spread(x, onto, len(self.blocks[other[0]].shape))

    # -------------------------------------------------------------- how the function responds
    def _is_gain(self, gain, shifts: Sequence[str], readers) -> bool:
        """Whether what is multiplied has no mean: readers may then move by constants over the gain."""
        for k in range(DRAWS):
            leaves, inputs, _ = self.probe.draw(k)
            leaves = [np.array(x) for x in leaves]
            for name in shifts:
                i, index = self.probe.places[name]
                leaves[i].reshape(-1)[index] = 0.0
            random = np.random.default_rng([k, 53])
            null, other = {}, {}
            for name, axis in readers:
                shape = list(self.blocks[name].shape)
                other[name] = random.standard_normal(shape)
                shape[axis] = 1
                inverse = 1 / self.probe.block(leaves, gain[0])
                null[name] = random.standard_normal(shape) * self._spread(
                    inverse, gain, (name, axis)
                )
            small, large = np.linalg.norm(self.probe.push([null, other], leaves, inputs), axis=1)
            if not small <= self._tolerance * large:
                return False
        return True

    def _carried(self, shift, readers) -> tuple[tuple[str, str, float], ...] | None:
        """The biases behind the readers that a shift may go into, and by which factors."""
        pairs = [
            (reader, name, equation)
            for reader in readers
            for name, b in self.blocks.items()
            if name not in (shift[0], reader[0])
            for equation in [self._equation(shift, reader, b)]
            if equation
        ]
        if not pairs:
            return None
        rows, goals = [], []
        for k in range(DRAWS):
            leaves, inputs, _ = self.probe.draw(k)
            amount = np.random.default_rng([k, 59]).standard_normal(self.blocks[shift[0]].shape)
            directions = [{shift[0]: amount}]
            for reader, name, equation in pairs:
                weight = self.probe.block(leaves, reader[0])
                directions.append({name: np.einsum(equation, amount, weight)})
            goal, *found = self.probe.push(directions, leaves, inputs)
            rows.append(np.stack(found, 1))
            goals.append(goal)
        matrix, goal = np.concatenate(rows), np.concatenate(goals)
        factors = np.linalg.lstsq(matrix, goal, rcond=1e-9)[0]
        if not np.linalg.norm(matrix @ factors - goal) <= self._tolerance * np.linalg.norm(goal):
            return None
        factors = np.where(np.abs(factors - np.round(factors)) < 1e-6, np.round(factors), factors)
        return tuple(
            (reader[0], name, float(f)) for (reader, name, _), f in zip(pairs, factors) if f
        )

    def _equation(self, shift, reader, bias: Block) -> str | None:
        """The einsum of an amount and a reader that gives a bias."""
        weight = self.blocks[reader[0]]
        onto = matched_axes(self.spec, weight, bias, reader[1])
        if onto is None:
            return None
        along = self._onto(shift, reader)
        assert along is not None
        if any(k not in onto for k in along if k != reader[1]):
            return None
        letters = LETTERS[: len(weight.axes)]
        amount = "".join(letters[k] for k in along)
        return f"{amount},{letters}->{''.join(letters[k] for k in onto)}"

    @property
    def _tolerance(self) -> float:
        return 1e-8 if self.probe.exact else 1e-3

    # -------------------------------------------------------------- the map
    def __call__(self, params: Any) -> Any:
        """The weights folded."""
        x = dict(self.spec.blocks(params))
        for norm in self.norms:
            gain = x[norm.gain[0]]
            if norm.shift is not None:
                shift, axes = x[norm.shift[0]], dict(norm.readers)
                for reader, bias, factor in norm.into or ():
                    equation = self._equation(norm.shift, (reader, axes[reader]), self.blocks[bias])
                    moved = jnp.einsum(equation, shift, x[reader], precision="highest")
                    x[bias] = x[bias] + (factor * moved).astype(x[bias].dtype)
                rest = jnp.zeros_like(shift) if norm.into else shift / self._beside(gain, norm)
                x[norm.shift[0]] = rest.astype(shift.dtype)
            for reader in norm.readers:
                x[reader[0]] = x[reader[0]] * self._spread(gain, norm.gain, reader)
            x[norm.gain[0]] = jnp.ones_like(gain)
        for name, axis in self.centred:
            x[name] = x[name] - jnp.mean(x[name], axis, keepdims=True)
        return self.spec.unblocks(x, like=params)

    def bare(self, params: Any) -> Any:
        """The weights with gains of one, and shifts of zero where they went elsewhere, whatever they are."""
        x = dict(self.spec.blocks(params))
        for norm in self.norms:
            x[norm.gain[0]] = jnp.ones_like(x[norm.gain[0]])
            if norm.shift is not None and norm.into:
                x[norm.shift[0]] = jnp.zeros_like(x[norm.shift[0]])
        return self.spec.unblocks(x, like=params)

    def _beside(self, gain, norm: Norm):
        return self._spread(gain, norm.gain, norm.shift)
