"""Blocks cut into chunks: equal pieces of their flat entries, or what one coordinate of their units holds.

A :class:`View` says how the entries of a block lie in an array ``(chunks, length)``. Pieces follow the
order in which entries are stored, as tokens of language models do; rows follow the units, so that
exchanging units only exchanges whole rows and entries within rows.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.layout import Block


class View(NamedTuple):
    """One way to cut a block.

    Attributes:
        block: its name.
        shape: its shape.
        order: its axes, those that tell chunks apart first.
        chunks, length: how many there are, and how long; pieces are padded to it.
        axis: the axis whose rows these are, or -1.
    """

    block: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    chunks: int
    length: int
    axis: int

    @property
    def padding(self) -> int:
        return self.chunks * self.length - prod(self.shape)

    def mask(self) -> np.ndarray:
        """Which places of ``(chunks, length)`` hold entries."""
        return (np.arange(self.chunks * self.length) < prod(self.shape)).reshape(self.chunks, -1)

    def cut(self, x: jax.Array) -> jax.Array:
        """``(*shape, C)`` to ``(chunks, length, C)``."""
        x = x.transpose(*self.order, x.ndim - 1).reshape(-1, x.shape[-1])
        if self.padding:
            x = jnp.pad(x, ((0, self.padding), (0, 0)))
        return x.reshape(self.chunks, self.length, -1)

    def put(self, x: jax.Array) -> jax.Array:
        """``(chunks, length or 1, C)`` to ``(*shape, C)``: the inverse of :meth:`cut`, or a broadcast."""
        x = jnp.broadcast_to(x, (self.chunks, self.length, x.shape[-1])).reshape(-1, x.shape[-1])
        x = x[: prod(self.shape)].reshape(*(self.shape[k] for k in self.order), -1)
        back = sorted(range(len(self.order)), key=lambda k: self.order[k])
        return x.transpose(*back, x.ndim - 1)


def pieces(block: Block, length: int) -> list[View]:
    """The block's entries in the order of storage, ``length`` at a time.

    Example:
        >>> view = pieces(Block("w", "w", ("g", "h"), (3, 5), ((), ())), 4)[0]
        >>> view.chunks, view.padding, view.cut(jnp.ones((3, 5, 2))).shape
        (4, 1, (4, 4, 2))
    """
    count = max(1, -(-prod(block.shape) // length))
    return [View(block.name, block.shape, tuple(range(len(block.shape))), count, length, -1)]


def rows(block: Block) -> list[View]:
    """For each axis of units one cut into the rows of its coordinates; without units one of everything.

    Nested units have a row for each coordinate and each index of what they are nested over.

    Example:
        >>> views = rows(Block("w", "w", ("_", "g", "h"), (2, 3, 5), ((), (), ())))
        >>> [(v.axis, v.chunks, v.length) for v in views]
        [(1, 3, 10), (2, 5, 6)]
    """
    every = range(len(block.shape))
    parents = block.parents or tuple(() for _ in every)
    out = []
    for k in every:
        if not block.axes[k].startswith("_"):
            kept = sorted({k, *parents[k]})
            order = (*kept, *(j for j in every if j not in kept))
            count = prod(block.shape[j] for j in kept)
            out.append(
                View(block.name, block.shape, order, count, prod(block.shape) // max(count, 1), k)
            )
    return out or [View(block.name, block.shape, tuple(every), 1, prod(block.shape), -1)]
