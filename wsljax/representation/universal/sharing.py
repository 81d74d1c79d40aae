"""Couplings with one set of weights for all blocks of a kind, at any depth; see :mod:`.coupling`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, structure
from .basis import Basis, basis
from .coupling import Coupled, Ends, by_name, ends, runs, taken
from .encodings import CODES, codes_among_kind
from .initial import normals
from .products import Product


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
        own = taken(z, [e.sources for e in of])
        y = by_name(own, writes, self.own)
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
            for name, start, stop in runs(reads)
        ]
        common = sum(sums[1:], sums[0]) * jnp.asarray(len(reads) ** -0.5, z.dtype)
        lanes = [
            jnp.broadcast_to(
                (common @ self.write[name].astype(z.dtype))[:, :, None],
                (*z.shape[:2], stop - start, z.shape[-1]),
            )
            for name, start, stop in runs(writes)
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

        queries = split(by_name(own, writes, self.query))
        keys, values = (split(by_name(z, reads, w)) for w in (self.key, self.read))
        scores = jnp.einsum("mrwhd,mrphd->mrwph", queries, keys) * keys.shape[-1] ** -0.5
        weights = jax.nn.softmax(scores, axis=3)
        weights = weights * jax.lax.rsqrt(jnp.sum(jnp.square(weights), axis=3, keepdims=True))
        y = jnp.einsum("mrwph,mrphd->mrwhd", weights, values)
        y = by_name(y.reshape(*y.shape[:-2], -1), writes, self.write)
        return y * self._scales([e.write_blocks for e in of], writes, self.write_codes, found, z)


@lru_cache(maxsize=64)
def names_of(blocks: Structure) -> tuple[str, ...]:
    """The names of all reads and writes of a structure."""
    found = basis(blocks, blocks)
    every = {n for t in found.types for side in ends(found, t)[:2] for n in side}
    return tuple(sorted(every))
