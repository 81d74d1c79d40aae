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
from .encodings import CODES, codes_among_kind
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
        self.bias = jnp.zeros(_constants(found) * channels, dtype)

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
            own = _taken(z, [ends(found, t).sources for t in product.types])
            own = jnp.einsum("mrwc,mwcd->mrwd", own, weights(self.own))
            y = y + own.reshape(y.shape)
        if not product.types[0].key:
            y = y + self.bias.astype(y.dtype)
        return y.reshape(*z.shape[:2], -1, channels)


class SharedLinear(Coupled):
    """Blocks of a kind share all matrices; encodings of their places tell them apart.

    What is read into common channels is multiplied by channels that depend on the place of its block, and
    so is what is written from them. At first these are as good as independent for different places, so
    that the sum over many blocks is not larger than their own parts.

    The number of weights does not depend on how many blocks of a kind there are, and the layer takes
    features of any network that has blocks of the same kinds with the same indices in common.

    Attributes:
        own, read, write: ``(names, channels, channels)``, for each name in ``names`` (see :class:`Ends`).
        read_codes, write_codes: ``(names, CODES, channels)``, from encodings to scales of channels.
        bias, bias_codes: ``(names of constants, channels)`` and ``(names of constants, CODES, channels)``.

    Example:
        >>> from wsljax import symmetry
        >>> def mlp(depth):
        ...     leaves = {f"w{k}": (jnp.zeros((5, 5)), f"h{k} h{k + 1}") for k in range(depth)}
        ...     return symmetry.parse(*({n: leaf[i] for n, leaf in leaves.items()} for i in (0, 1)))
        >>> layer = SharedLinear(mlp(4), 8, key=jax.random.key(0))
        >>> deeper = {f"w{k}": jnp.ones((5, 5, 8)) for k in range(6)}
        >>> len(layer(Features.of(structure(mlp(6)), deeper)).blocks())
        6
    """

    own: jax.Array
    read: jax.Array
    write: jax.Array
    read_codes: jax.Array
    write_codes: jax.Array
    bias: jax.Array
    bias_codes: jax.Array
    structure: Structure = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec | Structure,
        channels: int,
        *,
        key: jax.Array,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer for a spec, and for all that have the same kinds of blocks."""
        if channels < 1:
            raise ValueError(f"`channels` must be positive; got {channels}")
        self.structure = structure(spec)
        self.names = names_of(self.structure)
        n, c = len(self.names), channels
        shapes = ((n, c, c),) * 3 + ((n, CODES, c),) * 2
        draws = normals(key, shapes, dtype)
        self.own, self.read, self.write = (x / jnp.asarray(c**0.5, dtype) for x in draws[:3])
        self.read_codes, self.write_codes = (x / jnp.asarray(CODES**0.5, dtype) for x in draws[3:])
        self.bias = jnp.zeros((n, c), dtype)
        self.bias_codes = jnp.zeros((n, CODES, c), dtype)

    def _check(self, x: Features) -> None:
        if x.channels != self.own.shape[-1]:
            raise ValueError(
                f"features have {x.channels} channels, the layer takes {self.own.shape[-1]}"
            )
        unknown = set(names_of(x.structure)) - set(self.names)
        if unknown:
            raise ValueError(
                f"features have what the layer has no weights for: {sorted(unknown)[:3]}; draw it for a "
                "spec that has blocks of all these kinds"
            )

    def _mix(self, found: Basis, product: Product, z: jax.Array) -> jax.Array:
        of = [ends(found, t) for t in product.types]
        names = {name: n for n, name in enumerate(self.names)}
        reads, writes = ([names[x] for x in side] for side in (of[0].reads, of[0].writes))
        own = _taken(z, [e.sources for e in of])
        y = _by_name(own, writes, self.own)
        if len(reads) > 1:
            z = z * self._scales([e.read_blocks for e in of], reads, self.read_codes, found, z)
            y = y + self._across(found, of, reads, writes, z, own)
            y = y * jnp.asarray(0.5**0.5, y.dtype)
        y = y / jnp.asarray(product.types[0].symmetries ** 0.5, y.dtype)
        if not product.types[0].key:
            y = y + self.bias[np.array(writes)].astype(y.dtype)
            codes = jnp.asarray(codes_among_kind(found.inputs)[list(of[0].write_blocks)], y.dtype)
            shifts = self.bias_codes[np.array(writes)].astype(y.dtype)
            y = y + jnp.einsum("wk,wkc->wc", codes, shifts)
        return y

    def _across(
        self,
        found: Basis,
        of: Sequence[Ends],
        reads: list[int],
        writes: list[int],
        z: jax.Array,
        own: jax.Array,
    ) -> jax.Array:
        """From all reads to every write, through what they have in common."""
        sums = [
            jnp.sum(z[:, :, start:stop], axis=2) @ self.read[name].astype(z.dtype)
            for name, start, stop in _runs(reads)
        ]
        common = sum(sums[1:], sums[0]) * jnp.asarray(len(reads) ** -0.5, z.dtype)
        lanes = [
            jnp.broadcast_to(
                (common @ self.write[name].astype(z.dtype))[:, :, None],
                (*z.shape[:2], stop - start, z.shape[-1]),
            )
            for name, start, stop in _runs(writes)
        ]
        scales = self._scales([e.write_blocks for e in of], writes, self.write_codes, found, z)
        return jnp.concatenate(lanes, axis=2) * scales

    def _scales(
        self,
        blocks: Sequence[tuple[int, ...]],
        names: list[int],
        weights: jax.Array,
        found: Basis,
        like: jax.Array,
    ) -> jax.Array:
        """``(members, 1, reads or writes, C)``, of mean square 1 when drawn."""
        codes = jnp.asarray(codes_among_kind(found.inputs)[np.array(blocks)], like.dtype)
        codes = codes * jax.lax.rsqrt(jnp.mean(jnp.square(codes), axis=-1, keepdims=True))
        scales = jnp.einsum("mpk,pkc->mpc", codes, weights[np.array(names)].astype(like.dtype))
        return scales[:, None]


class AttentionCoupling(SharedLinear):
    """Each write takes a weighted mean of the reads of its index type; see :class:`SharedLinear`.

    The weights come from the features themselves, so this layer is not linear. Means are divided by the
    norm of their weights, lest the mean of many be smaller than one of few.

    Attributes:
        query, key: ``(names, channels, channels)``.
        heads: into how many parts channels are cut, each with weights of its own.
    """

    query: jax.Array
    key: jax.Array
    heads: int = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec | Structure,
        channels: int,
        *,
        key: jax.Array,
        heads: int = 4,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer; ``heads`` is lowered to a divisor of ``channels``."""
        key_shared, key_own = jax.random.split(key)
        super().__init__(spec, channels, key=key_shared, dtype=dtype)
        if heads < 1:
            raise ValueError(f"`heads` must be positive; got {heads}")
        self.heads = max(n for n in range(1, min(heads, channels) + 1) if channels % n == 0)
        shape = (len(self.names), channels, channels)
        query, keys = normals(key_own, (shape, shape), dtype)
        scale = jnp.asarray(channels**-0.5, dtype)
        self.query, self.key = query * scale, keys * scale

    def _across(self, found, of, reads, writes, z, own):
        def split(y: jax.Array) -> jax.Array:
            return y.reshape(*y.shape[:-1], self.heads, -1)

        queries = split(_by_name(own, writes, self.query))
        keys, values = (split(_by_name(z, reads, w)) for w in (self.key, self.read))
        scores = jnp.einsum("mrwhd,mrphd->mrwph", queries, keys) * keys.shape[-1] ** -0.5
        weights = jax.nn.softmax(scores, axis=3)
        weights = weights * jax.lax.rsqrt(jnp.sum(jnp.square(weights), axis=3, keepdims=True))
        y = jnp.einsum("mrwph,mrphd->mrwhd", weights, values)
        y = _by_name(y.reshape(*y.shape[:-2], -1), writes, self.write)
        return y * self._scales([e.write_blocks for e in of], writes, self.write_codes, found, z)


@lru_cache(maxsize=64)
def names_of(blocks: Structure) -> tuple[str, ...]:
    """The names of all reads and writes of a structure."""
    found = basis(blocks, blocks)
    every = {n for t in found.types for side in ends(found, t)[:2] for n in side}
    return tuple(sorted(every))


def _constants(found: Basis) -> int:
    return sum(len(t.writes) for t in found.types if not t.key)


def _runs(names: Sequence[int]) -> list[tuple[int, int, int]]:
    """``(name, start, stop)`` for neighbours of one name."""
    out, start = [], 0
    for name, run in groupby(names):
        stop = start + len(list(run))
        out.append((name, start, stop))
        start = stop
    return out


def _by_name(z: jax.Array, names: Sequence[int], weights: jax.Array) -> jax.Array:
    """``(members, rows, reads, C)`` times the matrix of each read's name."""
    runs = _runs(names)
    parts = [z[:, :, a:b] @ weights[name].astype(z.dtype) for name, a, b in runs]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=2)


def _taken(z: jax.Array, places: Sequence[tuple[int, ...]]) -> jax.Array:
    """``z[m, :, places[m]]`` for every member ``m``; nothing moves where that is all there is."""
    own = tuple(range(z.shape[2]))
    if all(p == own for p in places):
        return z
    if all(p == places[0] for p in places):
        return z[:, :, np.array(places[0])]
    return jnp.stack([z[m][:, np.array(p)] for m, p in enumerate(places)])
