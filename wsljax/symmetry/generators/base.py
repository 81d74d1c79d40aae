"""What all kinds of generators have in common, and the terms by which they say where they act."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Term:
    """How a generator acts on one block.

    Attributes:
        block: name of the block, as in ``spec.layout``.
        axis: the axis of the block; ``None`` for the whole block.
        exponent: see the table of this module.
        parents: the axes of the block that are the generator's ``over``, in that order.
        offset: the action is that on ``block + offset`` (a variance that is used as ``v + eps``).
        through: blocks, with the axes ``(*over, units)``, that multiply the block where it is read: the
            action is that on the product, and they stay (the gain of a norm, in front of a kernel).
        under: blocks that divide it, likewise (the gain of a norm, under its shift).
        seats: the axes at which the axes of ``through`` and ``under`` stand, if not at ``parents`` and
            ``axis`` (gains of a stack of layers).
        part: pairs ``(axis, index)`` of fixed axes: only these coordinates of the block move (the queries
            in a kernel that holds queries and keys).
    """

    block: str
    axis: int | None
    exponent: float = 1.0
    parents: tuple[int, ...] = ()
    offset: float = 0.0
    through: tuple[str, ...] = ()
    part: tuple[tuple[int, int], ...] = ()
    under: tuple[str, ...] = ()
    seats: tuple[int, ...] = ()

    @property
    def where(self) -> tuple[int, ...]:
        """The axes of the block along which an element's copies and coordinates lie."""
        return self.parents if self.axis is None else (*self.parents, self.axis)

    @property
    def gains_at(self) -> tuple[int, ...]:
        """The axes of the block at which those of ``through`` and ``under`` stand."""
        return self.seats or self.where

    def slices(self, rank: int) -> tuple[slice, ...]:
        """The index of the part of a block that moves, no axis lost."""
        return part_slices(self.part, rank)


def part_slices(part: tuple[tuple[int, int], ...], rank: int) -> tuple[slice, ...]:
    """The index of a part of a block, no axis lost."""
    chosen = dict(part)
    return tuple(
        slice(chosen[k], chosen[k] + 1) if k in chosen else slice(None) for k in range(rank)
    )


@dataclass(frozen=True)
class Gain:
    """What multiplies on the way: ``(block + offset) ** power``."""

    block: str
    power: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Carry:
    """What leaves one block arrives in another: ``bias += factor * einsum(equation, amount, weight)``.

    ``gains`` are further operands of the equation, and a ``weight`` of no name is none: of a bias in front
    of a BatchNorm, its gain over the root of its variance arrives behind it.

    The amount is the element of a :class:`Shift`, or ``1 - e`` for a :class:`Sign`. Along the axes
    ``centre`` of the bias, only what differs from the mean arrives: where a constant does not matter, and
    the weight itself may be shifted by one, carries then commute with that.
    """

    bias: str
    weight: str
    equation: str
    factor: float = -1.0
    centre: tuple[int, ...] = ()
    gains: tuple[Gain, ...] = ()


@dataclass(frozen=True)
class Generator:
    """A group acting on blocks; see the module for the kinds of it.

    Attributes:
        name: unique in its spec; the key of its element.
        units: the units whose coordinates it mixes, ``None`` if they are none.
        terms: one :class:`Term` for each place where it acts.
        size: number of coordinates it mixes.
        over: axes for each index of which there is an independent copy; ``sizes`` are theirs.
        carries: biases that move along.
    """

    name: str
    units: str | None
    terms: tuple[Term, ...]
    size: int
    over: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    carries: tuple[Carry, ...] = ()

    kind: ClassVar[str] = ""
    continuous: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return (*self.sizes, self.size)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each axis of an element is: by these, permutations move it."""
        return (*self.over, self.units or "_")

    @property
    def algebra_shape(self) -> tuple[int, ...]:
        """Shape of a tangent vector at the neutral element; of no entries if there is none."""
        return self.shape if self.continuous else (0,)

    @property
    def dimension(self) -> int:
        """Dimension of the group."""
        return prod(self.algebra_shape)

    def neutral(self) -> jax.Array:
        return jnp.ones(self.shape, default_float())

    def multiply(self, second: jax.Array, first: jax.Array) -> jax.Array:
        """The element that acts as ``first`` and then ``second``."""
        return second * first

    def invert(self, g: jax.Array) -> jax.Array:
        return 1 / g

    def exp(self, v: jax.Array) -> jax.Array:
        """The element in the direction ``v``, of shape ``algebra_shape``."""
        return jnp.exp(v)

    def draw(self, key: jax.Array) -> jax.Array:
        """A random element, some way from the neutral one."""
        return self.exp(0.5 * jax.random.normal(key, self.algebra_shape, default_float()))

    def matrix(self, g: jax.Array, exponent: float) -> jax.Array:
        """For kinds that mix coordinates: the matrix that multiplies an axis from the right."""
        raise NotImplementedError(f"{self.kind} is not a matrix")


def named_apart(found: Sequence[Generator], taken: Collection[str] = ()) -> list[Generator]:
    """The generators, no two of one name, and none of a name that is ``taken``."""
    names = set(taken)
    out = []
    for g in found:
        name, n = g.name, 2
        while name in names:
            name, n = f"{g.name}:{n}", n + 1
        names.add(name)
        out.append(replace(g, name=name))
    return out


def wider(a, b):
    """The dtype that holds both, however strict the caller is about promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def default_float():
    return jnp.zeros(()).dtype
