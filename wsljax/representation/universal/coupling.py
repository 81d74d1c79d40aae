"""Layers that couple blocks with fewer weights than one matrix for every pair of reads and writes.

The universal layer has a matrix from every read of an index type to every write of it. Units that all
layers share (a residual stream), and plain constants, are read and written by all blocks, so these
matrices grow with the square of the depth. Here a write sees its own block by a matrix of its own, and
all others through what they leave in common:

========== =============================================================================================
low_rank   ``rank`` channels for each index type, into which every read and out of which every write has
           a matrix: weights grow with the depth
shared     blocks of one kind read and write by the same matrices; encodings of where a block stands
           among those of its kind scale its channels, so that blocks are told apart. As many weights at
           any depth, and networks of other depths can be read
attention  as shared, but each write takes a weighted mean of the reads, by how its own block's query
           meets their keys, at every tuple of indices by itself (after the attention of Zhou et al.,
           *Neural Functional Transformers*, 2023, which attends along rows and columns)
========== =============================================================================================

All of them act on components (:mod:`.components`), which do not mix: what is read has its means taken
out, and is written to the coordinates that are tied in just this way. Except for attention they are
linear, and a part of what the universal layer spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, pattern, structure
from ..blocks.stacks import Cell, assemble
from .basis import Basis, IndexType, basis
from .components import leaves
from .initial import normals
from .products import Product, operands_of, products_of, written

COUPLINGS = ("dense", "low_rank", "shared", "attention")
"""How blocks see each other; ``dense`` is :class:`.UniversalLinear`."""


class Ends(NamedTuple):
    """What the reads and writes of an index type have in common with those of others.

    Attributes:
        reads, writes: a name for each, the same for all blocks of a kind.
        sources: for each write the read of the same ties of the same block.
        read_blocks, write_blocks: of which block each is.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    sources: tuple[int, ...]
    read_blocks: tuple[int, ...]
    write_blocks: tuple[int, ...]


@lru_cache(maxsize=1024)
def ends(found: Basis, kind: IndexType) -> Ends:
    """The reads and writes of one index type, by what their blocks look like."""
    shape = pattern(kind.labels, [above for _, above in kind.key]) or "1"

    def named(x) -> str:
        return f"{shape} of {found.inputs[x.block].kind or '1'}, {x.tie} {x.kept}"

    at = {(r.block, r.tie, frozenset(r.kept)): n for n, r in enumerate(kind.reads)}
    return Ends(
        tuple(map(named, kind.reads)),
        tuple(map(named, kind.writes)),
        tuple(at[w.block, w.tie, frozenset(w.kept)] for w in kind.writes),
        tuple(r.block for r in kind.reads),
        tuple(w.block for w in kind.writes),
    )


class Coupled(eqx.Module):
    """What the layers of this file share: from features to operands by index type, and back."""

    structure: eqx.AbstractVar[Structure]

    def _mix(self, found: Basis, product: Product, z: jax.Array) -> jax.Array:
        """``(members, rows, reads, C)`` to ``(members, rows, writes, C)``."""
        raise NotImplementedError

    def __call__(self, x: Features) -> Features:
        """Features to features of as many channels, in their dtype.

        Raises:
            ValueError: features of blocks that the layer has no weights for, or of other channels.
        """
        self._check(x)
        found = basis(x.structure, x.structure)
        products = products_of(found, x.widths, lambda kind: ends(found, kind)[:2])
        results = []
        for product, z in zip(products, operands_of(found, products, x), strict=True):
            for k in leaves(product.types[0].key):
                z = z - jnp.mean(z, axis=1 + k, keepdims=True)
            rows = z.reshape(z.shape[0], -1, product.role.reads, x.channels)
            y = self._mix(found, product, rows)
            results.append(y.reshape(*z.shape[:-1], -1))
        return written(found, products, results, x.widths, distinct=True)

    def _check(self, x: Features) -> None:
        raise NotImplementedError


class LowRankLinear(Coupled):
    """Blocks see each other through ``rank`` channels for each index type; weights grow with the depth.

    Where a matrix for each read and write has fewer weights, it is that.

    Attributes:
        own: ``{role: (members, writes, channels, channels)}``, from a block to itself.
        into: ``{role: (members, reads * channels, rank)}``.
        out: ``{role: (members, rank, writes * channels)}``.
        dense: ``{role: (members, reads * channels, writes * channels)}``, for the other roles.
        bias: ``(writes of constants * channels,)``.

    Example:
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({f"{k}": jnp.zeros(5) for k in range(8)}, {f"{k}": "h" for k in range(8)})
        >>> layer = LowRankLinear(structure(spec), 4, key=jax.random.key(0))
        >>> {name: w.shape for name, w in layer.into.items()}
        {'1: 8x8': (1, 32, 4), 'a: 8x8': (1, 32, 4)}
    """

    own: dict[str, jax.Array]
    into: dict[str, jax.Array]
    out: dict[str, jax.Array]
    dense: dict[str, jax.Array]
    bias: jax.Array
    structure: Structure = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec | Structure,
        channels: int,
        *,
        key: jax.Array,
        rank: int | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer; ``rank`` is by default as many as ``channels``."""
        self.structure = structure(spec)
        rank = channels if rank is None else rank
        if channels < 1 or rank < 1:
            raise ValueError(f"`channels` and `rank` must be positive; got {channels} and {rank}")
        found = basis(self.structure, self.structure)
        c, shapes, scales = channels, [], []
        names: list[tuple[str, str]] = []
        for role in found.roles:
            n, r, w = len(role.members), role.reads, role.writes
            orders = found.types[role.members[0]].symmetries
            if rank * (r + w) + w * c < r * w * c:
                names += [(role.name, "own"), (role.name, "into"), (role.name, "out")]
                shapes += [(n, w, c, c), (n, r * c, rank), (n, rank, w * c)]
                scales += [(2 * orders * c) ** -0.5, (r * c) ** -0.5, (2 * orders * rank) ** -0.5]
            else:
                names.append((role.name, "dense"))
                shapes.append((n, r * c, w * c))
                scales.append((r * orders * c) ** -0.5)
        stacks: dict[str, dict[str, jax.Array]] = {"own": {}, "into": {}, "out": {}, "dense": {}}
        draws = normals(key, tuple(shapes), dtype)
        for (role, part), draw, scale in zip(names, draws, scales, strict=True):
            stacks[part][role] = draw * jnp.asarray(scale, dtype)
        self.own, self.into, self.out, self.dense = stacks.values()
        self.bias = jnp.zeros(found.constants * channels, dtype)

    def _check(self, x: Features) -> None:
        if x.structure != self.structure:
            raise ValueError(
                f"features have other blocks than the layer: {[b.name for b in x.structure][:5]} and "
                f"{[b.name for b in self.structure][:5]}; embed them by the same spec"
            )

    def _mix(self, found: Basis, product: Product, z: jax.Array) -> jax.Array:
        name, channels = product.role.name, z.shape[-1]
        wanted = [[Cell(name, n) for n in product.members]]

        def weights(of: dict[str, jax.Array]) -> jax.Array:
            return assemble({name: of[name]}, wanted)[0].astype(z.dtype)

        flat = z.reshape(*z.shape[:2], -1)
        if name in self.dense:
            y = jnp.matmul(flat, weights(self.dense))
        else:
            y = jnp.matmul(jnp.matmul(flat, weights(self.into)), weights(self.out))
            own = taken(z, [ends(found, t).sources for t in product.types])
            own = jnp.einsum("mrwc,mwcd->mrwd", own, weights(self.own))
            y = y + own.reshape(y.shape)
        if not product.types[0].key:
            y = y + self.bias.astype(y.dtype)
        return y.reshape(*z.shape[:2], -1, channels)


def runs(names: Sequence[int]) -> list[tuple[int, int, int]]:
    """``(name, start, stop)`` for neighbours of one name."""
    out, start = [], 0
    for name, run in groupby(names):
        stop = start + len(list(run))
        out.append((name, start, stop))
        start = stop
    return out


def by_name(z: jax.Array, names: Sequence[int], weights: jax.Array) -> jax.Array:
    """``(members, rows, reads, C)`` times the matrix of each read's name."""
    parts = [z[:, :, a:b] @ weights[name].astype(z.dtype) for name, a, b in runs(names)]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=2)


def taken(z: jax.Array, places: Sequence[tuple[int, ...]]) -> jax.Array:
    """``z[m, :, places[m]]`` for every member ``m``; nothing moves where that is all there is."""
    own = tuple(range(z.shape[2]))
    if all(p == own for p in places):
        return z
    if all(p == places[0] for p in places):
        return z[:, :, np.array(places[0])]
    return jnp.stack([z[m][:, np.array(p)] for m, p in enumerate(places)])
