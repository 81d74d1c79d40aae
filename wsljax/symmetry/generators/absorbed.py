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

import numpy as np

from .kinds import Carry, Shift
from .occurrences import LETTERS, Occurrence
from .search import Search
from .shifts import shift_of

MOST_AXES = 4
"""Blocks of more axes are not looked at as sums of products of others."""


def absorbed_shifts(search: Search, units) -> list[Shift]:
    """Shifts of blocks with ``units`` on one axis, and other axes, that blocks without them take up."""
    places = [o for o in search.places(units) if not o.part and _once(search, o, units.name)]
    by_axes = defaultdict(list)
    for name, b in search.blocks.items():
        if name not in search.free and units.name not in b.axes and len(b.axes) <= MOST_AXES:
            by_axes[tuple(sorted(zip(b.axes, b.shape)))].append(name)
    found: list[Shift] = []
    for target in places:
        shape = search.blocks[target.block].shape
        wide = [k for k in _others(search, target) if shape[k] > 1]
        # those of no other axes are biases: of these, `carried_shifts` knows
        for constant in ((), *((k,) for k in wide)) if wide else ():
            carries = [
                Carry(name, reader.block, equation)
                for reader in places
                if reader.block != target.block
                for name, equation in _sums(search, target, constant, reader, by_axes)
            ]
            shift = _tried(search, target, constant, carries, found) if carries else []
            found.extend(shift)
            if shift:
                break  # what is constant is contained in what is not
    return found


def _tried(search: Search, target: Occurrence, constant, carries: Sequence[Carry], known) -> list:
    block = search.blocks[target.block]
    kept = [k for k in range(len(block.axes)) if k not in constant]

    def make(k, leaves):
        amount = np.random.default_rng([k, 43]).standard_normal([block.shape[m] for m in kept])
        out = [{block.name: np.broadcast_to(np.expand_dims(amount, constant), block.shape)}]
        for c in carries:
            weight = search.probe.block(leaves, c.weight)
            out.append({c.bias: np.einsum(c.equation, amount, weight)})
        return out

    for v in search.null(make, len(carries) + 1):
        if v[0] == 1 and np.any(v[1:]):
            used = [replace(c, factor=float(f)) for c, f in zip(carries, v[1:], strict=True) if f]
            return [shift_of(search, block.name, constant, used, known)]
    return []


def _once(search: Search, o: Occurrence, name: str) -> bool:
    """Whether the units stand on one axis of the block only, and it has no axis twice."""
    units = [a for a in search.blocks[o.block].axes if not a.startswith("_")]
    return units.count(name) == 1 and len(set(units)) == len(units)


def _others(search: Search, o: Occurrence) -> list[int]:
    """The axes of a block that are neither the units nor what they are nested in."""
    used = {o.axis, *o.parents}
    return [k for k in range(len(search.blocks[o.block].axes)) if k not in used]


def _sums(
    search: Search, target: Occurrence, constant, reader: Occurrence, by_axes
) -> Iterator[tuple[str, str]]:
    """Blocks with the axes of a product over the units, and how an amount goes there through the reader."""
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
    for name in by_axes.get(tuple(sorted(axis for _, axis in product)), ()):
        block = search.blocks[name]
        axes = tuple(zip(block.axes, block.shape, strict=True))
        for order in permutations(product) if name not in (one.name, other.name) else ():
            if tuple(axis for _, axis in order) == axes:
                out = "".join(letter for letter, _ in order)
                yield name, f"{amount},{''.join(second)}->{out}"
