"""A convolutional autoencoder of all weights side by side: p-diff's.

Wang et al., *Neural Network Diffusion*, 2024: 1-D convolutions that halve the length, a linear map to a few
latents, and the same way back. Group norms stand for their batch norms. Knows no symmetry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..denoisers.flat import check_size
from ..denoisers.flat_unet import Convolution, group_norm
from ..denoisers.levels import Linear
from ..denoisers.trees import dtype_of, ravel, size_of, unravel
from .autoencoder import Autoencoder, Distance, check_latents, two_parts
from .reconstruction import mean_squared


class ConvolutionAutoencoder(Autoencoder):
    """A vector, or a tree as one vector, to latents ``(size,)``, and back.

    Attributes:
        down: convolutions, each followed by a halving of the length.
        bottom, top: linear maps to the latents and from them.
        up: convolutions, each after a doubling of the length.
        last: the convolution to one channel.

    Example:
        >>> net = ConvolutionAutoencoder(jnp.ones(21), 3, (8, 16), key=jax.random.key(0))
        >>> z = net.encode(jnp.ones(21))
        >>> z.shape, net.decode(z).shape
        ((3,), (21,))
    """

    down: list[Convolution]
    bottom: Linear
    top: Linear
    up: list[Convolution]
    last: Convolution
    like: Any
    latent: tuple[int, ...] = eqx.field(static=True)
    distance: Distance = eqx.field(static=True)
    kl: float = eqx.field(static=True)
    input_noise: float = eqx.field(static=True)
    latent_noise: float = eqx.field(static=True)
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        like: Any,
        size: int,
        channels: Sequence[int] = (64, 128, 256, 256, 32),
        *,
        key: jax.Array,
        kernel: int = 7,
        distance: Distance = mean_squared,
        kl: float = 0.0,
        input_noise: float = 0.0,
        latent_noise: float = 0.0,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.silu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an autoencoder.

        Args:
            like: what it reads, or its shapes: ``space.like``.
            size: how many latents there are.
            channels: of each convolution on the way down.
            key: of the initial weights.
            kernel: size of the convolutions.
            distance, kl, input_noise, latent_noise: see :class:`.Autoencoder`. As published there is no
                divergence, and noise goes to inputs and latents.
            activation: a function of single numbers.
            dtype: of the weights.
        """
        if not channels or min(channels) < 1 or size < 1:
            raise ValueError(f"`channels` and `size` must be positive; got {channels} and {size}")
        self.like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
        length = -(-size_of(like) // 2 ** len(channels))
        keys = iter(jax.random.split(key, 2 * len(channels) + 3))
        before = (1, *channels[:-1])
        self.down = [
            Convolution(a, b, kernel, key=next(keys), dtype=dtype)
            for a, b in zip(before, channels, strict=True)
        ]
        self.bottom = Linear(length * channels[-1], 2 * size, key=next(keys), dtype=dtype)
        self.top = Linear(size, length * channels[-1], key=next(keys), dtype=dtype)
        back = (*channels[::-1], channels[0])
        self.up = [
            Convolution(a, b, kernel, key=next(keys), dtype=dtype)
            for a, b in zip(back[:-1], back[1:], strict=True)
        ]
        self.last = Convolution(channels[0], 1, kernel, key=next(keys), dtype=dtype)
        self.latent, self.distance, self.kl = (size,), distance, kl
        self.input_noise, self.latent_noise = input_noise, latent_noise
        self.activation = activation

    def posterior(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """A vector or a tree to mean and logarithm of the variance, both ``(size,)``."""
        check_size(x, size_of(self.like))
        h = ravel(x, dtype_of(x))
        h = jnp.pad(h, (0, -h.size % 2 ** len(self.down)))[:, None]
        for layer in self.down:
            h = self.activation(group_norm(layer(h)))
            h = h.reshape(len(h) // 2, 2, -1).mean(axis=1)
        return two_parts(self.bottom(h.reshape(-1)))

    def decode(self, z: jax.Array) -> Any:
        check_latents(z, self.latent)
        h = self.top(z).reshape(-1, self.up[0].kernel.shape[1])
        for layer in self.up:
            h = self.activation(group_norm(layer(jnp.repeat(h, 2, axis=0))))
        like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, z.dtype), self.like)
        return unravel(self.last(h)[: size_of(self.like), 0], like)
