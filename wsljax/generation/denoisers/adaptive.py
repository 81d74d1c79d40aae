"""Blocks that a signal modulates: adaptive norm and gates that are zero at first (adaLN-zero).

Peebles and Xie, *Scalable Diffusion Models with Transformers*, 2023, section 3.2: every branch of a residual block is
normalised, then scaled and shifted by what the signal says, and gated by it before it is added. As gates
are zero at first, a deep stack starts as the identity.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.parts.norm import standardise
from ...representation.parts.set_attention import Attention
from ...representation.universal.initial import normals
from .levels import Linear


def adapted(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """Standardised along the last axis, then scaled and shifted."""
    return standardise(x) * (1 + scale) + shift


class DenseBlock(eqx.Module):
    """A residual block on vectors: one hidden layer.

    Attributes:
        modulation: from the signal to scale, shift and gate; zero at first.
        up, down: the hidden layer.

    Example:
        >>> block = DenseBlock(4, 8, 16, key=jax.random.key(0))
        >>> block(jnp.ones(4), jnp.ones(16)).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    modulation: Linear
    up: Linear
    down: Linear
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        hidden: int,
        signal: int,
        *,
        key: jax.Array,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        key_up, key_down = jax.random.split(key)
        self.modulation = Linear(signal, 3 * width, dtype=dtype)
        self.up = Linear(width, hidden, key=key_up, dtype=dtype)
        self.down = Linear(hidden, width, key=key_down, dtype=dtype)
        self.activation = activation

    def __call__(self, x: jax.Array, signal: jax.Array) -> jax.Array:
        """``(..., width)`` to as many."""
        scale, shift, gate = jnp.split(self.modulation(signal), 3)
        return x + gate * self.down(self.activation(self.up(adapted(x, scale, shift))))


class TransformerBlock(eqx.Module):
    """Tokens attend to each other, then each by itself through a dense block.

    Attributes:
        modulation: from the signal to scale, shift and gate of the attention; zero at first.
        attention: among tokens.
        dense: of each token.
    """

    modulation: Linear
    attention: Attention
    dense: DenseBlock

    def __init__(
        self,
        channels: int,
        heads: int,
        signal: int,
        *,
        key: jax.Array,
        hidden: int | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        if heads < 1 or channels % heads:
            raise ValueError(f"`heads` ({heads}) must divide the channels ({channels})")
        key_attention, key_dense = jax.random.split(key)
        (w,) = normals(key_attention, ((4, channels, channels),), dtype)
        self.modulation = Linear(signal, 3 * channels, dtype=dtype)
        self.attention = Attention(w / jnp.asarray(channels**0.5, dtype), heads)
        self.dense = DenseBlock(
            channels,
            4 * channels if hidden is None else hidden,
            signal,
            key=key_dense,
            activation=activation,
            dtype=dtype,
        )

    def __call__(self, x: jax.Array, signal: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """``(tokens, channels)`` to as many; ``mask`` ``(tokens,)`` is true for tokens that are there."""
        scale, shift, gate = jnp.split(self.modulation(signal), 3)
        y = adapted(x, scale, shift)
        return self.dense(x + gate * self.attention(y, y, mask), signal)


def heads_for(channels: int, heads: int | None) -> int:
    """So many heads, or by default as many as divide the channels, up to 8."""
    return next(h for h in (8, 4, 2, 1) if channels % h == 0) if heads is None else heads
