"""A transformer on tokens to latents of each token, and back: a sequential autoencoder.

Schürholt et al., *Towards Scalable and Versatile Weight Space Learning* (SANE), 2024, section 3: every token has a
latent of its own, so that networks with more tokens have more latents. Not invariant: align the
networks first, or train on moved copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...representation.parts.layers import draw_layers, run_layers
from ...representation.parts.norm import standardise
from ..denoisers.adaptive import TransformerBlock, heads_for
from ..denoisers.levels import Linear
from ..denoisers.token_transformer import Positions
from ..denoisers.trees import Table
from .autoencoder import Autoencoder, Distance, check_latents, two_parts
from .reconstruction import mean_squared


class Stack(eqx.Module):
    """Rows to rows of another width: a map in, positions, blocks of a transformer, a map out."""

    inward: Linear
    positions: Positions
    layers: TransformerBlock
    outward: Linear

    def __init__(
        self,
        c_in: int,
        c_out: int,
        channels: int,
        layers: int,
        heads: int,
        positions: Any,
        *,
        key: jax.Array,
        activation: Callable[[jax.Array], jax.Array],
        dtype: jnp.dtype | type,
    ):
        keys = jax.random.split(key, 4)
        self.inward = Linear(c_in, channels, key=keys[0], dtype=dtype)
        self.positions = Positions(positions, channels, key=keys[1], dtype=dtype)
        self.layers = draw_layers(
            lambda key: TransformerBlock(
                channels, heads, 1, key=key, activation=activation, dtype=dtype
            ),
            layers,
            keys[2],
        )
        self.outward = Linear(channels, c_out, key=keys[3], dtype=dtype)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """``(tokens, c_in)`` to ``(tokens, c_out)``."""
        h = self.inward(x) + self.positions(x.dtype)
        signal = jnp.ones(1, x.dtype)
        h = run_layers(self.layers, h, call=lambda layer, h: layer(h, signal, mask))
        return self.outward(standardise(h))


class TokenAutoencoder(Autoencoder):
    """Tokens ``(tokens, width)`` to latents ``(tokens, size)``, and back.

    Attributes:
        down, up: the encoder and the decoder.

    Example:
        >>> net = TokenAutoencoder(jnp.ones((6, 10)), 3, 16, 2, key=jax.random.key(0))
        >>> z = net.encode(jnp.ones((6, 10)))
        >>> z.shape, net.decode(z).shape
        ((6, 3), (6, 10))
    """

    down: Stack
    up: Stack
    mask: Table | None = eqx.field(static=True)
    latent: tuple[int, ...] = eqx.field(static=True)
    distance: Distance = eqx.field(static=True)
    kl: float = eqx.field(static=True)
    input_noise: float = eqx.field(static=True)
    latent_noise: float = eqx.field(static=True)

    def __init__(
        self,
        like: Any,
        size: int,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        heads: int | None = None,
        positions: Any = None,
        mask: Any = None,
        distance: Distance = mean_squared,
        kl: float = 1e-4,
        input_noise: float = 0.0,
        latent_noise: float = 0.0,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an autoencoder.

        Args:
            like: tokens, or their shape: ``space.like`` of a :class:`~..spaces.TokenSpace`.
            size: how many latents a token has.
            channels, layers, heads: of the transformers, one down and one up.
            key: of the initial weights.
            positions: of the tokens, ``space.tokeniser.positions``; by default all are of one layer.
            mask: ``space.tokeniser.mask``: padding is not read, and decoded to zero.
            distance, kl, input_noise, latent_noise: see :class:`.Autoencoder`;
                :meth:`.Reconstruction.of` measures each layer by its spread.
            activation: a function of single numbers.
            dtype: of the weights.
        """
        count, width = like.shape
        if positions is None:
            positions = np.stack([np.arange(count), np.zeros(count, int), np.arange(count)], axis=1)
        for name, found, expected in (
            ("positions", np.shape(positions), (count, 3)),
            ("mask", (count, width) if mask is None else np.shape(mask), (count, width)),
        ):
            if found != expected:
                raise ValueError(f"`{name}` has shape {found}; expected {expected}")
        key_down, key_up = jax.random.split(key)
        heads = heads_for(channels, heads)
        options: Any = {"activation": activation, "dtype": dtype}
        self.down = Stack(
            width, 2 * size, channels, layers, heads, positions, key=key_down, **options
        )
        self.up = Stack(size, width, channels, layers, heads, positions, key=key_up, **options)
        kept = None if mask is None else np.asarray(mask, bool)
        self.mask = None if kept is None or kept.all() else Table.of(kept)
        self.latent, self.distance, self.kl = (count, size), distance, kl
        self.input_noise, self.latent_noise = input_noise, latent_noise

    def posterior(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """``(tokens, width)`` to mean and logarithm of the variance, both ``(tokens, size)``."""
        return two_parts(self.down(self._kept(x), self._tokens()))

    def decode(self, z: jax.Array) -> jax.Array:
        check_latents(z, self.latent)
        return self._kept(self.up(z, self._tokens()))

    def _kept(self, x: jax.Array) -> jax.Array:
        return x if self.mask is None else jnp.where(self.mask.array, x, 0)

    def _tokens(self) -> jax.Array | None:
        """Which tokens hold a weight at all."""
        found = None if self.mask is None else self.mask.array.any(axis=1)
        return None if found is None or found.all() else jnp.asarray(found)
