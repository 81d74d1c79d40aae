"""What leaves a function unchanged beside permutations: ``Scale``, ``Sign``, ``Linear``, ``Orthogonal``,
``Shift``, ``Uniform``.

A generator is a group that acts on blocks of a :class:`~wsljax.symmetry.Spec` (arrays whose every axis is
one set of units, or fixed). ``terms`` say on which blocks, along which axis, and how. There is one
independent copy for each index of the axes ``over``, as for units. Generators are static and hashable; an
element of one is an array:

``Phase``       integers, as ``Shift``   half periods of a sine added to the block ``target``
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
==============  ======================  =======================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.linalg import expm


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
class Carry:
    """What leaves one block arrives in another: ``bias += factor * einsum(equation, amount, weight)``.

    The amount is the element of a :class:`Shift`, or ``1 - e`` for a :class:`Sign`.
    """

    bias: str
    weight: str
    equation: str
    factor: float = -1.0


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
        return self.shape

    @property
    def dimension(self) -> int:
        """Dimension of the group."""
        return prod(self.algebra_shape) if self.continuous else 0

    def neutral(self) -> jax.Array:
        return jnp.ones(self.shape, _float())

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
        return self.exp(0.5 * jax.random.normal(key, self.algebra_shape, _float()))

    def matrix(self, g: jax.Array, exponent: float) -> jax.Array:
        """For kinds that mix coordinates: the matrix that multiplies an axis from the right."""
        raise NotImplementedError(f"{self.kind} is not a matrix")


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

    @property
    def algebra_shape(self) -> tuple[int, ...]:
        return (0,)

    def neutral(self) -> jax.Array:
        return jnp.ones(self.shape, jnp.int32)

    def invert(self, g: jax.Array) -> jax.Array:
        return g

    def exp(self, v: jax.Array) -> jax.Array:
        return self.neutral()

    def draw(self, key: jax.Array) -> jax.Array:
        return 1 - 2 * jax.random.bernoulli(key, 0.5, self.shape).astype(jnp.int32)


@dataclass(frozen=True)
class Linear(Generator):
    """All invertible matrices: query and key, value and output of a head, a linear bottleneck.

    ``pairs``, if not empty, restricts them to rotations with scaling in the plane of each pair of
    coordinates (what is left of query and key under rotary positions).
    """

    pairs: tuple[tuple[int, int], ...] = ()

    kind: ClassVar[str] = "linear"

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.sizes, self.size, self.size)

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.over, self.units or "_", self.units or "_")

    @property
    def algebra_shape(self) -> tuple[int, ...]:
        return (*self.sizes, len(self.pairs), 2) if self.pairs else self.shape

    def neutral(self) -> jax.Array:
        return jnp.broadcast_to(jnp.eye(self.size, dtype=_float()), self.shape)

    def multiply(self, second: jax.Array, first: jax.Array) -> jax.Array:
        return _matmul(first, second)

    def invert(self, g: jax.Array) -> jax.Array:
        return jnp.linalg.inv(g)

    def exp(self, v: jax.Array) -> jax.Array:
        if not self.pairs:
            return _expm(v)
        first, second = (jnp.asarray(c) for c in zip(*self.pairs, strict=True))
        radius, cos, sin = jnp.exp(v[..., 0]), jnp.cos(v[..., 1]), jnp.sin(v[..., 1])
        rest = [i for i in range(self.size) if not any(i in p for p in self.pairs)]
        out = jnp.zeros(self.shape, v.dtype)
        out = out.at[..., first, first].set(radius * cos).at[..., second, second].set(radius * cos)
        out = out.at[..., first, second].set(radius * sin)
        out = out.at[..., second, first].set(-radius * sin)
        return out.at[..., jnp.asarray(rest, int), jnp.asarray(rest, int)].set(1)

    def draw(self, key: jax.Array) -> jax.Array:
        if self.pairs:
            return super().draw(key)
        k1, k2 = jax.random.split(
            key
        )  # a rotation times a triangle: every matrix, well conditioned
        x = 0.5 * jax.random.normal(k2, self.shape, _float())
        one = jnp.eye(self.size, dtype=x.dtype)
        return _matmul(
            _rotation(k1, self.shape), one * jnp.exp(x) + jnp.triu(x, 1) / self.size**0.5
        )

    def matrix(self, g: jax.Array, exponent: float) -> jax.Array:
        return g if exponent > 0 else jnp.swapaxes(jnp.linalg.inv(g), -1, -2)


@dataclass(frozen=True)
class Orthogonal(Generator):
    """All orthogonal matrices: radial activations, the residual stream of RMSNorm."""

    kind: ClassVar[str] = "orthogonal"

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.sizes, self.size, self.size)

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.over, self.units or "_", self.units or "_")

    @property
    def algebra_shape(self) -> tuple[int, ...]:
        """The entries above the diagonal of a skew matrix."""
        return (*self.sizes, self.size * (self.size - 1) // 2)

    def neutral(self) -> jax.Array:
        return jnp.broadcast_to(jnp.eye(self.size, dtype=_float()), self.shape)

    def multiply(self, second: jax.Array, first: jax.Array) -> jax.Array:
        return _matmul(first, second)

    def invert(self, g: jax.Array) -> jax.Array:
        return jnp.swapaxes(g, -1, -2)

    def exp(self, v: jax.Array) -> jax.Array:
        rows, columns = jnp.triu_indices(self.size, 1)
        upper = jnp.zeros(self.shape, v.dtype).at[..., rows, columns].set(v)
        return _expm(upper - jnp.swapaxes(upper, -1, -2))

    def draw(self, key: jax.Array) -> jax.Array:
        return _rotation(key, self.shape)

    def matrix(self, g: jax.Array, exponent: float) -> jax.Array:
        return g


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
    ``constant`` left out: along these the amount is the same. ``part`` is as in :class:`Term`, and its
    axes are left out likewise. ``terms`` are blocks of the same axes that
    are moved along, by ``exponent`` times the amount.
    """

    target: str = ""
    constant: tuple[int, ...] = ()
    part: tuple[tuple[int, int], ...] = ()

    kind: ClassVar[str] = "shift"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sizes

    @property
    def labels(self) -> tuple[str, ...]:
        return self.over

    def neutral(self) -> jax.Array:
        return jnp.zeros(self.shape, _float())

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

    @property
    def algebra_shape(self) -> tuple[int, ...]:
        return (0,)

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


def wider(a, b):
    """The dtype that holds both, however strict the caller is about promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def _float():
    return jnp.zeros(()).dtype


def _expm(v: jax.Array) -> jax.Array:
    flat = v.reshape(-1, *v.shape[-2:])
    return jax.vmap(expm)(flat).reshape(v.shape)


def _rotation(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Orthogonal matrices, uniformly."""
    q, r = jnp.linalg.qr(jax.random.normal(key, shape, _float()))
    return q * jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    dtype = wider(a.dtype, b.dtype)
    return jnp.matmul(a.astype(dtype), b.astype(dtype), precision="highest")
