"""Attention on sets: tokens to tokens through a few inducing points, and a set to one vector.

Lee et al., *Set Transformer*, 2019. Every step is linear in the number of tokens. Masked tokens are as
if they were not there.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from ..universal.initial import normals
from .layers import run_layers
from .norm import standardise
from .unit_attention import attend


class Attention(eqx.Module):
    """Multihead attention of queries over a set.

    Attributes:
        weights: query, key, value and output matrices, ``(4, channels, channels)``.

    Example:
        >>> layer = Attention(jnp.ones((4, 8, 8)), heads=2)
        >>> layer(jnp.ones((3, 8)), jnp.ones((5, 8))).shape
        (3, 8)
    """

    weights: jax.Array
    heads: int = eqx.field(static=True)

    def __call__(
        self, queries: jax.Array, x: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """``(m, C)`` queries over ``(n, C)`` tokens to ``(m, C)``; ``mask`` is ``(n,)``, true to keep."""
        wq, wk, wv, wo = self.weights.astype(x.dtype)
        q, k, v = (
            y.reshape(y.shape[0], self.heads, -1).swapaxes(0, 1)
            for y in (queries @ wq, x @ wk, x @ wv)
        )
        return attend(q, k, v, mask).swapaxes(0, 1).reshape(queries.shape) @ wo


class SetBlock(eqx.Module):
    """Tokens to tokens: the inducing points read the set, the set reads them, then a dense layer each."""

    points: jax.Array
    gather: Attention
    scatter: Attention
    up: jax.Array
    down: jax.Array

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        points, tokens = standardise(self.points.astype(x.dtype)), standardise(x)
        found = self.gather(points, tokens, mask)  # what differs between sets, and that alone
        x = x + self.scatter(tokens, standardise(found))
        hidden = jax.nn.gelu(standardise(x) @ self.up.astype(x.dtype))
        return x + hidden @ self.down.astype(x.dtype)


class SetEncoder(eqx.Module):
    """A set of tokens to one vector, and to tokens that know of each other.

    Invariant, and equivariant, to the order of the tokens.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> encode = SetEncoder(8, 2, key=jax.random.key(0))
        >>> vector, tokens = encode(jnp.ones((5, 8)))
        >>> vector.shape, tokens.shape
        ((8,), (5, 8))
    """

    blocks: SetBlock
    seed: jax.Array
    pool: Attention
    remat: bool = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        heads: int | None = None,
        points: int = 4,
        remat: bool = False,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an encoder.

        Args:
            channels: of tokens and vector.
            layers: how many blocks, run by ``lax.scan``.
            key: of the initial weights.
            heads: of every attention; by default 4 if that divides the channels, or 1.
            points: inducing points of each block.
            remat: compute blocks again in the backward pass instead of keeping what is in them.
            dtype: of the weights.

        Raises:
            ValueError: no layers, or heads that do not divide the channels.
        """
        heads = (1 if channels % 4 else 4) if heads is None else heads
        if layers < 1 or points < 1 or heads < 1 or channels % heads:
            raise ValueError(
                f"`layers` ({layers}) and `points` ({points}) must be positive, and `heads` ({heads}) "
                f"divide the channels ({channels})"
            )
        c, root = channels, jnp.asarray(channels**0.5, dtype)
        shapes = ((layers, points, c), (layers, 8, c, c), (layers, c, 2 * c), (layers, 2 * c, c))
        inducing, w, up, down, seed, pool = normals(key, (*shapes, (1, c), (4, c, c)), dtype)
        w, pool = w / root, pool / root
        small = jnp.asarray((2 * layers) ** 0.5, dtype)  # many layers add up to one
        self.blocks = SetBlock(
            inducing,
            Attention(w[:, :4], heads),
            Attention(w[:, 4:].at[:, 3].divide(small), heads),
            up / root,
            down / (root * small),
        )
        self.seed, self.pool, self.remat = seed, Attention(pool, heads), remat

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """``(n, C)``, and a mask ``(n,)`` that is true for what counts, to ``(C,)`` and ``(n, C)``."""
        x = run_layers(self.blocks, x, remat=self.remat, call=lambda block, x: block(x, mask))
        seed = standardise(self.seed.astype(x.dtype))
        return self.pool(seed, standardise(x), mask)[0], x
