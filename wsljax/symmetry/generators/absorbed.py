"""The search for shifts of whole factors that something beside their product takes up.

Of ``x W + x A B`` only ``W + A B`` matters: ``A`` may gain any ``T`` if ``W`` loses ``T B``, and ``B`` any ``T``
if ``W`` loses ``A T``. Such are the factors of LoRA beside the kernel that they adapt, or a linear path beside
a bottleneck. Likewise all rows of ``A`` may gain the same, if a bias takes it up (embeddings of a product).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

import numpy as np

from .kinds import Carry, Shift
from .occurrences import LETTERS, Occurrence
from .search import Search
from .shifts import shift_of

MOST_AXES = 4
"""Blocks of more axes are not looked at as sums of products of others."""
MOST_CARRIES = 12
"""Shifts that more blocks of fitting axes might take up are not looked for: those of a deep network's stream."""


def absorbed_shifts(search: Search, units) -> list[Shift]:
    """Shifts of blocks with ``units`` on one axis, and other axes, that blocks without them take up."""
    places = [o for o in search.places(units) if not o.part and _once(search, o, units.name)]
    by_axes = defaultdict(list)
    for name, b in search.blocks.items():
        if name not in search.free and units.name not in b.axes and len(b.axes) <= MOST_AXES:
            by_axes[tuple(sorted(zip(b.axes, b.shape)))].append(name)
    rest = {o: [(k, _axis(search, o, k)) for k in _others(search, o)] for o in places}
    tasks: dict[tuple, list[_Task]] = defaultdict(list)
    for target in places:
        wide = [k for k, (_, size) in rest[target] if size > 1]
        # those of no other axes are biases: of these, `carried_shifts` knows
        for constant in ((), *((k,) for k in wide)) if wide else ():
            carries = tuple(
                Carry(name, reader.block, equation)
                for reader, others in _fitting(rest, target, constant, by_axes)
                for name, equation in _sums(search, target, constant, reader, others)
            )
            alike = constant, target.axis, tuple(c.equation for c in carries)
            if 0 < len(carries) <= MOST_CARRIES:
                tasks[alike].append(_Task(target.block, constant, carries))
    found: list[Shift] = []
    for (constant, *_), some in sorted(tasks.items(), key=lambda pair: pair[0][0]):
        taken = {g.target for g in found}  # what is constant is contained in what is not
        some = [t for t in some if not constant or t.target not in taken]
        for shifts in search.each(some, _Task.blocks, lambda t: _tried(search, t)):
            found.extend(shifts)
    return found


class _Task(NamedTuple):
    """A shift of a block, constant along some of its axes, and what may take it up."""

    target: str
    constant: tuple[int, ...]
    carries: tuple[Carry, ...]

    def blocks(self) -> tuple[str, ...]:
        return self.target, *(b for c in self.carries for b in (c.weight, c.bias))


def _tried(search: Search, task: _Task) -> list[Shift]:
    block = search.blocks[task.target]
    kept = [k for k in range(len(block.axes)) if k not in task.constant]

    def make(k, leaves):
        amount = np.random.default_rng([k, 43]).standard_normal([block.shape[m] for m in kept])
        whole = np.broadcast_to(np.expand_dims(amount, task.constant), block.shape)
        out = [{block.name: whole}]
        for c in task.carries:
            weight = search.probe.block(leaves, c.weight)
            out.append({c.bias: np.einsum(c.equation, amount, weight)})
        return out

    for v in search.null(make, len(task.carries) + 1):
        if v[0] == 1 and np.any(v[1:]):
            pairs = zip(task.carries, v[1:], strict=True)
            used = [replace(c, factor=float(f)) for c, f in pairs if f]
            return [shift_of(search, block.name, task.constant, used, ())]
    return []


def _once(search: Search, o: Occurrence, name: str) -> bool:
    """Whether the units stand on one axis of the block only, and it has no axis twice."""
    units = [a for a in search.blocks[o.block].axes if not a.startswith("_")]
    return units.count(name) == 1 and len(set(units)) == len(units)


def _others(search: Search, o: Occurrence) -> list[int]:
    """The axes of a block that are neither the units nor what they are nested in."""
    used = {o.axis, *o.parents}
    return [k for k in range(len(search.blocks[o.block].axes)) if k not in used]


def _axis(search: Search, o: Occurrence, k: int) -> tuple[str, int]:
    block = search.blocks[o.block]
    return block.axes[k], block.shape[k]


def _fitting(rest, target: Occurrence, constant, by_axes) -> Iterator[tuple[Occurrence, list[str]]]:
    """Readers whose product with the target has the axes of blocks, and these blocks."""
    own = [axis for k, axis in rest[target] if k not in constant]
    for reader, others in rest.items():
        names = by_axes.get(tuple(sorted([*own, *(axis for _, axis in others)])))
        if names and reader.block != target.block:
            yield reader, names


def _sums(
    search: Search, target: Occurrence, constant, reader: Occurrence, names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Of these blocks, those with the axes of a product over the units; how an amount goes there through the
    reader."""
    one, other = search.blocks[target.block], search.blocks[reader.block]
    letters = LETTERS[: len(one.axes)]
    second = [""] * len(other.axes)
    for a, b in zip((*target.parents, target.axis), (*reader.parents, reader.axis), strict=True):
        second[b] = letters[a]
    amount = "".join(x for k, x in enumerate(letters) if k not in constant)
    product = [
        (letters[k], (one.axes[k], one.shape[k]))
        for k in _others(search, target)
        if k not in constant
    ]
    for k, letter in zip(_others(search, reader), LETTERS[len(one.axes) :], strict=False):
        second[k] = letter
        product.append((letter, (other.axes[k], other.shape[k])))
    for name in names:
        block = search.blocks[name]
        axes = tuple(zip(block.axes, block.shape, strict=True))
        for order in permutations(product) if name not in (one.name, other.name) else ():
            if tuple(axis for _, axis in order) == axes:
                out = "".join(letter for letter, _ in order)
                yield name, f"{amount},{''.join(second)}->{out}"
