"""What leaves a function unchanged beside permutations: ``Scale``, ``Sign``, ``Linear``, ``Orthogonal``,
``Shift``, ``Uniform``, ``Phase``.

A generator is a group that acts on blocks of a :class:`~wsljax.symmetry.Spec` (arrays whose every axis is
one set of units, or fixed). ``terms`` say on which blocks, along which axis, and how. There is one
independent copy for each index of the axes ``over``, as for units. Generators are static and hashable; an
element of one is an array:

==============  ======================  =======================================================
kind            element                 acts on a block
==============  ======================  =======================================================
``Scale``       ``(*over, n)``, > 0     times ``s ** exponent`` along an axis
``Sign``        ``(*over, n)``, +1, -1  times ``e`` along an axis
``Linear``      ``(*over, n, n)``       ``x A`` along an axis (exponent 1), ``A^-1 x`` (exponent -1)
``Orthogonal``  ``(*over, n, n)``       ``x Q`` along an axis
``Uniform``     ``(*over,)``, > 0       the whole block times ``s ** exponent``
``Shift``       as ``target`` without   added to the block ``target``, the same along the axes
                the ``constant`` axes   ``constant``
``Phase``       integers, as ``Shift``  half periods of a sine added to the block ``target``
==============  ======================  =======================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from .base import Carry, Gain, Generator, Term, default_float, named_apart, part_slices, wider
from .matrices import Linear, Orthogonal

__all__ = [
    "KINDS", "Carry", "Gain", "Generator", "Linear", "Orthogonal", "Phase", "Scale", "Shift", "Sign", "Term",
    "Uniform", "named_apart", "part_slices", "wider",
]  # fmt: skip


@dataclass(frozen=True)
class Scale(Generator):
    """Positive scaling of single units: the way in of a ReLU times ``s``, the way out by ``s``."""

    kind: ClassVar[str] = "scale"


@dataclass(frozen=True)
class Sign(Generator):
    """Flips of single units, about zero (odd or even activations) or, with ``carries``, about a centre.

    ``s(-x) = 1 - s(x)`` has the centre 1/2: the next bias gains the flipped rows of the next kernel.
    """

    kind: ClassVar[str] = "sign"
    continuous: ClassVar[bool] = False

    def neutral(self) -> jax.Array:
        return jnp.ones(self.shape, jnp.int32)

    def invert(self, g: jax.Array) -> jax.Array:
        return g

    def exp(self, v: jax.Array) -> jax.Array:
        return self.neutral()

    def draw(self, key: jax.Array) -> jax.Array:
        return 1 - 2 * jax.random.bernoulli(key, 0.5, self.shape).astype(jnp.int32)


@dataclass(frozen=True)
class Uniform(Generator):
    """One positive number for whole blocks: what a normalisation, or a product of blocks, divides out."""

    kind: ClassVar[str] = "uniform"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sizes

    @property
    def labels(self) -> tuple[str, ...]:
        return self.over


@dataclass(frozen=True)
class Shift(Generator):
    """A block plus an amount that does not matter, or that ``carries`` take out of another bias.

    Its element has the axes of the block ``target`` (``over``, of the sizes ``sizes``), those in
    ``constant`` left out: along these the amount is the same. With a ``basis``, these axes are fixed, and it
    goes along the vectors of the basis, one for each entry of the first axis of the element. ``part`` is as
    in :class:`Term`, and its axes are left out likewise. ``terms`` are blocks of the same axes that
    are moved along, by ``exponent`` times the amount. ``gains`` multiply it, their axes at the axes
    ``seats`` of the target (a reader of a LayerNorm: what it reads sums to nothing once divided by the
    gain).
    """

    target: str = ""
    constant: tuple[int, ...] = ()
    part: tuple[tuple[int, int], ...] = ()
    gains: tuple[Gain, ...] = ()
    seats: tuple[int, ...] = ()
    basis: tuple[tuple[float, ...], ...] = ()

    kind: ClassVar[str] = "shift"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sizes

    @property
    def labels(self) -> tuple[str, ...]:
        return self.over

    def neutral(self) -> jax.Array:
        return jnp.zeros(self.shape, default_float())

    def multiply(self, second: jax.Array, first: jax.Array) -> jax.Array:
        return second + first

    def invert(self, g: jax.Array) -> jax.Array:
        return -g

    def exp(self, v: jax.Array) -> jax.Array:
        return v


@dataclass(frozen=True)
class Phase(Shift):
    """Half periods of a sine: ``k`` of them added to the bias ``target``, and ``(-1) ** k`` in its readers.

    Its element counts them, one integer for each entry of the bias; ``step`` is half a period. ``terms``
    are the readers.
    """

    step: float = 0.0

    kind: ClassVar[str] = "phase"
    continuous: ClassVar[bool] = False

    def neutral(self) -> jax.Array:
        return jnp.zeros(self.shape, jnp.int32)

    def exp(self, v: jax.Array) -> jax.Array:
        return self.neutral()

    def draw(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, self.shape, -2, 3, jnp.int32)


KINDS: dict[str, type[Generator]] = {
    c.kind: c for c in (Scale, Sign, Linear, Orthogonal, Uniform, Shift, Phase)
}
"""The kinds by name, as in ``kinds=("scale", "sign")``; permutations are ``"permutation"``."""
