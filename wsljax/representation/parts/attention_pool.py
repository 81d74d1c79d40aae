"""Attention pooling: a few learned queries look at every coordinate of every block.

Lee et al., *Set Transformer*, 2019 (pooling by multihead attention). Queries do not depend on the
network, so keys and values need never be written down: a query and its key matrix are one vector per
head, and the value matrix is applied to what was pooled. Time and memory are linear in the number of
weights, and the softmax runs over blocks of any shape without putting them side by side.
"""

from __future__ import annotations

from functools import reduce

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import structure
from ..blocks.ties import ties
from ..blocks.transfer import write
from ..universal.initial import normals
from .by_kind import count, for_groups


class AttentionPool(eqx.Module):
    """One vector of ``channels`` numbers for each query: a mean over all coordinates, weighted by content.

    Invariant. To each coordinate is added an encoding of its block, one for each way in which its
    indices can be tied, so that queries know the biases of the last layer from the diagonal of a
    recurrent kernel.

    Attributes:
        queries: ``(queries, heads, channels)``, each already multiplied by its key matrix.
        values: ``(heads, channels, channels / heads)``.
        codes: ``{kind: (blocks of the kind, ties, channels)}``, the encodings.
        balanced: every block has the same weight before content counts; otherwise every coordinate
            has, and large blocks drown the small ones.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"w": jnp.zeros((3, 5))}, {"w": "g h"})
        >>> pool = AttentionPool(spec, 8, key=jax.random.key(0), queries=2)
        >>> pool(Features.of(structure(spec), {"w": jnp.ones((3, 5, 8))})).shape, pool.size(8)
        ((16,), 16)
    """

    queries: jax.Array
    values: jax.Array
    codes: dict[str, jax.Array]
    balanced: bool = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        queries: int = 1,
        heads: int | None = None,
        balanced: bool = True,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a pool.

        Args:
            spec: annotation of the networks.
            channels: of the features.
            key: of the initial weights.
            queries: how many vectors come out.
            heads: how many softmaxes a query has; by default 4 if that divides the channels, or 1.
            balanced: see above.
            dtype: of the weights.

        Raises:
            ValueError: no query, or heads that do not divide the channels.
        """
        heads = (1 if channels % 4 else 4) if heads is None else heads
        if queries < 1 or heads < 1 or channels % heads:
            raise ValueError(
                f"{queries} queries of {heads} heads on {channels} channels: `queries` must be "
                "positive and `heads` divide the channels"
            )
        members = count(structure(spec), "block")
        ways = {block.kind: len(ties(block)) for block in structure(spec)}
        shapes = (
            (queries, heads, channels),
            (heads, channels, channels // heads),
            *((n, ways[kind], channels) for kind, n in members.items()),
        )
        root = jnp.asarray(channels**0.5, dtype)
        q, v, *codes = normals(key, shapes, dtype)
        self.queries, self.values = q / root, v / root
        self.codes = dict(zip(members, codes, strict=True))
        self.balanced = balanced

    def size(self, channels: int) -> int:
        """How many numbers come out."""
        return self.queries.shape[0] * channels

    def __call__(self, x: Features) -> jax.Array:
        """Features to one vector of :meth:`size` numbers, in their dtype."""
        dtype = x.arrays[0].dtype
        wide = jnp.promote_types(dtype, jnp.float32)
        queries, parts = self.queries.astype(wide), []
        for a, codes in zip(x.arrays, for_groups(self.codes, x, "block"), strict=True):
            indices = x.structure[x.groups[len(parts)][0]]
            found = jax.vmap(lambda y, c, b=indices: _encoded(y, c, b))(a, codes)
            rows = found.reshape(a.shape[0], -1, a.shape[-1]).astype(wide)
            scores = jnp.einsum("bnc,qhc->qhbn", rows, queries)
            if self.balanced:
                scores = scores - jnp.log(jnp.asarray(rows.shape[1], wide))
            parts.append(_partial(scores, rows))
        top = reduce(jnp.maximum, (p[0] for p in parts))
        factors = [jnp.exp(p[0] - top) for p in parts]
        total = sum(f * p[1] for f, p in zip(factors, parts, strict=True))
        pooled = sum(f[..., None] * p[2] for f, p in zip(factors, parts, strict=True))
        mean = pooled / jnp.asarray(total)[..., None]
        out = jnp.einsum("qhc,hcd->qhd", mean, self.values.astype(wide))
        return out.reshape(-1).astype(dtype)


def _encoded(x: jax.Array, codes: jax.Array, indices) -> jax.Array:
    """``(*indices, C)`` plus the code of every tie of the indices, put where they are tied."""
    parts = [(tie, (), code) for tie, code in zip(ties(indices), codes, strict=True)]
    return x + write(parts, x.shape[:-1]).astype(x.dtype)


def _partial(scores: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Largest score, sum of exponentials and weighted sum of one stack of blocks, for each query."""
    top = jax.lax.stop_gradient(jnp.max(scores, axis=(-1, -2)))
    weights = jnp.exp(scores - top[..., None, None])
    return top, jnp.sum(weights, axis=(-1, -2)), jnp.einsum("qhbn,bnc->qhc", weights, rows)
