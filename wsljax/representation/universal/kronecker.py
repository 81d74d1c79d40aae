"""Fixed coordinates in hidden layers, with few weights: small matrices on them, channel matrices beside.

A dense layer over the ``f`` coordinates of a fixed axis (the nine positions of a kernel) has a channel
matrix for each pair of them, and for each pair of a coordinate with every other block. Here the map of a
block to itself is a Kronecker product, an ``(f, f)`` matrix on coordinates and a matrix on channels; other
blocks are read and written through *position vectors*, one weight for each coordinate and channel.
Everything it can do the dense layer can, so it is equivariant, and no coordinate loses its identity in
hidden features as it does where coordinates are folded into channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.stacks import Cell, assemble
from ..parts.folding import folds_of
from .initial import normals
from .kept import UP_TO, Stack, along, axes_of, counts_of, gathered, stacks_of


class KroneckerLinear(eqx.Module):
    """An equivariant layer on features that keep their fixed coordinates.

    Attributes:
        inner: a layer between features without fixed coordinates.
        own: ``{role: (blocks, channels, channels)}``, of a block to itself.
        mixing: ``{role: (blocks, coordinates, coordinates)}``, beside ``own``.
        read, write: ``{role: (blocks, coordinates, channels)}``, the position vectors.
        spec: the annotation of the networks (any of its structure will do).

    Example:
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Embed, UniversalLinear
        >>> params = {"kernel": jnp.ones((3, 3, 1, 5)), "bias": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"kernel": "_ _ _ h", "bias": "h"})
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> embed = Embed(spec, 16, key=keys[0], fixed="kronecker", up_to=64)
        >>> layer = KroneckerLinear(spec, 16, UniversalLinear(spec, 16, 16, key=keys[1]), key=keys[2])
        >>> x = layer(embed(spec.blocks(params)))
        >>> len(x.blocks())  # the bias, and nine positions of the kernel
        10
    """

    inner: Callable[[Features], Features]
    own: dict[str, jax.Array]
    mixing: dict[str, jax.Array]
    read: dict[str, jax.Array]
    write: dict[str, jax.Array]
    spec: Spec = eqx.field(static=True)
    up_to: int | None = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        inner: Callable[[Features], Features],
        *,
        key: jax.Array,
        up_to: int | None = UP_TO,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer; coordinates start unmixed.

        Args:
            spec: the annotation of the networks.
            channels: of the features, in and out.
            inner: a layer drawn for ``spec``, with as many channels.
            key: of the initial weights.
            up_to: blocks with more fixed coordinates are folded; as in the embedding.
            dtype: of the weights.
        """
        self.spec, self.up_to, self.inner = spec, up_to, inner
        counts = counts_of(spec, up_to)
        self.own, self.mixing, self.read, self.write = {}, {}, {}, {}
        shapes = [
            shape
            for n, f in counts.values()
            for shape in ((n, channels, channels), (n, f, channels), (n, f, channels))
        ]
        draws = iter(normals(key, tuple(shapes), dtype) if shapes else ())
        for role, (n, f) in counts.items():
            self.own[role] = next(draws) * jnp.asarray((2 * channels) ** -0.5, dtype)
            self.mixing[role] = jnp.broadcast_to(jnp.eye(f, dtype=dtype), (n, f, f))
            self.read[role] = next(draws) * jnp.asarray(f**-0.5, dtype)
            self.write[role] = next(draws) * jnp.asarray(2**-0.5, dtype)

    def __call__(self, x: Features) -> Features:
        """Features that keep their fixed coordinates to such, in their dtype.

        Raises:
            ValueError: features of other blocks.
        """
        stacks = stacks_of(self.spec, self.up_to, x)
        y = self.inner(gathered(self.spec, self.up_to, x, stacks, self.read))
        place = {b: Cell(g, n) for g, members in enumerate(y.groups) for n, b in enumerate(members)}
        kept = {k.block: (s, n) for s, stack in enumerate(stacks) for n, k in enumerate(stack.kept)}
        rest = [[place[b] for b in members if b not in kept] for members in y.groups]
        rest = [cells for cells in rest if cells]
        common = [[place[k.block] for k in stack.kept] for stack in stacks]
        inner: dict[Any, jax.Array] = dict(enumerate(y.arrays))
        pieces = assemble(
            inner,
            [[c._replace(axes=axes_of(inner[c.stack])) for c in cells] for cells in common + rest],
        )
        out: dict[Any, jax.Array] = {}
        for s, stack in enumerate(stacks):
            z = self._own(stack)
            z = z + pieces[s][:, None] * along(z, stack.weights(self.write))
            out[s] = z.reshape(-1, *z.shape[2:])
        where: dict[Cell, Cell] = {}
        for s, (cells, piece) in enumerate(zip(rest, pieces[len(stacks) :], strict=True)):
            out["rest", s] = piece
            where |= {cell: Cell(("rest", s), n) for n, cell in enumerate(cells)}
        spots: list[Cell] = []
        for b, fold in enumerate(folds_of(self.spec, "kronecker", self.up_to)):
            count = len(fold.copies)
            s, n = kept.get(b, (0, 0))
            own = [Cell(s, n * count + i) for i in range(count)]
            spots += own if b in kept else [where[place[b]]]
        wanted = [[spots[b] for b in members] for members in x.groups]
        arrays = assemble(
            out, [[c._replace(axes=axes_of(out[c.stack])) for c in cells] for cells in wanted]
        )
        return Features(tuple(arrays), x.structure, x.groups)

    def _own(self, stack: Stack) -> jax.Array:
        """A block to itself: coordinates by one matrix, channels by another."""
        z = stack.array
        n, f, c = z.shape[0], z.shape[1], z.shape[-1]
        y = jnp.matmul(z.reshape(n, -1, c), stack.weights(self.own)).reshape(n, f, -1)
        y = jnp.matmul(jnp.swapaxes(stack.weights(self.mixing), 1, 2), y)
        return y.reshape(z.shape)


class KroneckerPool(eqx.Module):
    """A pool of features without fixed coordinates, after reading them through position vectors.

    Attributes:
        pool: what pools; drawn for the spec itself.
        read: ``{role: (blocks, coordinates, channels)}``.
    """

    pool: Any
    read: dict[str, jax.Array]
    spec: Spec = eqx.field(static=True)
    up_to: int | None = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        pool: Any,
        *,
        key: jax.Array,
        up_to: int | None = UP_TO,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw the position vectors; see :class:`KroneckerLinear`."""
        self.spec, self.up_to, self.pool = spec, up_to, pool
        counts = counts_of(spec, up_to)
        shapes = tuple((n, f, channels) for n, f in counts.values())
        draws = normals(key, shapes, dtype) if shapes else []
        self.read = {
            role: w * jnp.asarray(f**-0.5, dtype)
            for (role, (_, f)), w in zip(counts.items(), draws, strict=True)
        }

    def size(self, channels: int) -> int:
        """How many numbers come out."""
        return self.pool.size(channels)

    def __call__(self, x: Features) -> jax.Array:
        """Features to one vector."""
        stacks = stacks_of(self.spec, self.up_to, x)
        return self.pool(gathered(self.spec, self.up_to, x, stacks, self.read))
