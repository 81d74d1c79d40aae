"""Signs of units, decided exactly inside of their assignment.

What unit ``j`` of ``b`` is worth in the place of unit ``i`` of ``a`` is the largest, over its signs, of the
products of their weights: ``|<a_i, b_j>|`` where all weights change sign together, ``|odd| + even`` where
some do not. One linear assignment over these values then finds the best exchange and signs of all. For
the phase of a sine, whole half periods are added to a bias, as many, odd or even, as bring it nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from wsljax.symmetry import Block

from .problem import Flip


def laid_along(block: Block, g: Any, k: int, ndim: int) -> Any:
    """``g``, ``(*batch, *parents, units)``, with its axes where they stand in a block."""
    where = (*(block.parents[k] if block.parents else ()), k)
    batch = g.ndim - len(where)
    order = sorted(range(len(where)), key=lambda i: where[i])
    g = g.transpose([*range(batch), *(batch + i for i in order)])
    shape = [1] * len(block.axes)
    for j in where:
        shape[j] = block.shape[j]
    g = g.reshape(*g.shape[:batch], *shape)
    return g.reshape((1,) * (ndim - g.ndim) + g.shape) if ndim > g.ndim else g


def flip_block(block: Block, x: Any, k: int, signs: Any) -> Any:
    """A block with the signs of the units on its axis ``k``."""
    return x * laid_along(block, signs, k, x.ndim).astype(x.dtype)


def signs_of(flip: Flip, amount: Any) -> Any:
    """The signs by which an entry of an element multiplies."""
    return amount if flip.bias is None else 1 - 2 * (amount % 2)


def choices(flips: Sequence[Flip]) -> list[tuple[int, ...]]:
    """All combinations of signs; none first."""
    return list(product((1, -1), repeat=len(flips)))


def sign_at(flips: Sequence[Flip], choice: tuple[int, ...], place: tuple[str, int]) -> int:
    """The sign of one place under a combination."""
    out = 1
    for f, e in zip(flips, choice, strict=True):
        out *= e if place in f.at else 1
    return out


def steps_between(xp, flip: Flip, x: Any, y: Any, parity: int) -> tuple[Any, Any]:
    """How many steps, odd for the sign -1, bring ``y`` nearest to ``x``; and ``-(x - y - steps)**2 / 2``."""
    odd = 0 if parity > 0 else 1
    steps = odd + 2 * xp.round(((x - y) / flip.step - odd) / 2)
    return steps, -((x - y - steps * flip.step) ** 2) / 2
