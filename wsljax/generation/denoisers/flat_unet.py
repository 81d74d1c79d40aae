"""A one-dimensional U-Net over all weights side by side: the shape of p-diff's denoiser.

Wang et al., *Neural Network Diffusion*, 2024, denoise latents by 1-D convolutions, narrowing and widening again; the
U-Net with skips is that of Ho et al., 2020. Their batch norm, whose statistics no single network has, is a
group norm here, and levels modulate every block rather than being added to the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.blocks.dtypes import wide
from ...representation.universal.initial import normals
from .flat import check_size
from .levels import LevelEmbedding, Linear, Signal
from .trees import dtype_of, inputs_of, ravel, size_of, unravel


class Convolution(eqx.Module):
    """A convolution along a line, ``(length, channels)``, padded to keep its length.

    Example:
        >>> Convolution(2, 4, 3, key=jax.random.key(0))(jnp.ones((8, 2)), stride=2).shape
        (4, 4)
    """

    kernel: jax.Array
    bias: jax.Array

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: int,
        *,
        key: jax.Array | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw one; without a key it is zero."""
        self.bias = jnp.zeros(c_out, dtype)
        self.kernel = jnp.zeros((size, c_in, c_out), dtype)
        if key is not None:
            (w,) = normals(key, ((size, c_in, c_out),), dtype)
            self.kernel = w / jnp.asarray((size * c_in) ** 0.5, dtype)

    def __call__(self, x: jax.Array, stride: int = 1) -> jax.Array:
        y = jax.lax.conv_general_dilated(
            x[None],
            self.kernel.astype(x.dtype),
            (stride,),
            "SAME",
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return y[0] + self.bias.astype(x.dtype)


class ConvolutionBlock(eqx.Module):
    """Two convolutions around a modulation, with a residual connection.

    Attributes:
        first, second: the convolutions; the second is zero at first.
        modulation: from the signal to scale and shift between them; zero at first.
        across: of the residual, where the channels change.
    """

    first: Convolution
    second: Convolution
    modulation: Linear
    across: Linear | None
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: int,
        signal: int,
        *,
        key: jax.Array,
        activation: Callable[[jax.Array], jax.Array],
        dtype: jnp.dtype | type,
    ):
        key_first, key_across = jax.random.split(key)
        self.first = Convolution(c_in, c_out, size, key=key_first, dtype=dtype)
        self.second = Convolution(c_out, c_out, size, dtype=dtype)
        self.modulation = Linear(signal, 2 * c_out, dtype=dtype)
        self.across = None if c_in == c_out else Linear(c_in, c_out, key=key_across, dtype=dtype)
        self.activation = activation

    def __call__(self, x: jax.Array, signal: jax.Array) -> jax.Array:
        scale, shift = jnp.split(self.modulation(signal), 2)
        y = self.first(self.activation(group_norm(x)))
        y = self.second(self.activation(group_norm(y) * (1 + scale) + shift))
        return y + (x if self.across is None else self.across(x))


def group_norm(x: jax.Array, groups: int = 8) -> jax.Array:
    """Mean 0 and variance 1 over the length and the channels of each of (up to) 8 groups."""
    groups = next(g for g in range(min(groups, x.shape[1]), 0, -1) if x.shape[1] % g == 0)
    y = wide(x).reshape(x.shape[0], groups, -1)
    y = y - jnp.mean(y, axis=(0, 2), keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=(0, 2), keepdims=True) + 1e-6)
    return y.reshape(x.shape).astype(x.dtype)


class FlatUNet(eqx.Module):
    """A denoiser of vectors, or of trees as one vector, by convolutions; zero at first.

    Attributes:
        signal: level and condition to a vector.
        inward, outward: convolutions to and from channels; the last is zero at first.
        down: one block a level on the way down, each followed by a halving of the length.
        middle: the block at the bottom.
        up: one block a level on the way up, each on twice the length and what the way down had there.
        passes: from the signal to a factor of each input, which passes through.

    Example:
        >>> net = FlatUNet(jnp.ones(21), (4, 8), key=jax.random.key(0))
        >>> net(jnp.ones(21), jnp.float32(0.5)).shape
        (21,)
    """

    signal: Signal
    inward: Convolution
    down: list[ConvolutionBlock]
    middle: ConvolutionBlock
    up: list[ConvolutionBlock]
    outward: Convolution
    passes: Linear
    beside: int = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __init__(
        self,
        like: Any,
        channels: Sequence[int] = (64, 128, 256),
        *,
        key: jax.Array,
        kernel: int = 7,
        told: int | None = None,
        beside: int = 0,
        signal: int = 128,
        embed: LevelEmbedding | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.silu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a denoiser.

        Args:
            like: what it denoises, or its shapes: ``space.like``.
            channels: of each level; after all but the last the length is halved.
            key: of the initial weights.
            kernel: size of the convolutions.
            told, beside, signal, embed, activation, dtype: see :class:`.FlatDenoiser`.
        """
        if not channels or min(channels) < 1 or kernel < 1:
            raise ValueError(f"`channels` and `kernel` must be positive; got {channels}, {kernel}")
        if beside < 0:
            raise ValueError(f"`beside` is a number of networks; got {beside}")
        self.size, self.beside = size_of(like), beside
        keys = iter(jax.random.split(key, 3 + 2 * len(channels)))
        self.signal = Signal(signal, told, key=next(keys), embed=embed, dtype=dtype)

        def block(c_in: int, c_out: int) -> ConvolutionBlock:
            return ConvolutionBlock(
                c_in, c_out, kernel, signal, key=next(keys), activation=activation, dtype=dtype
            )

        *narrow, deepest = channels
        self.inward = Convolution(1 + beside, channels[0], kernel, key=next(keys), dtype=dtype)
        before = (channels[0], *narrow)
        self.down = [block(a, b) for a, b in zip(before, narrow, strict=False)]
        self.middle = block(before[-1] if narrow else channels[0], deepest)
        below = (*narrow[1:], deepest)
        self.up = [block(a + b, b) for a, b in zip(below, narrow, strict=False)][::-1]
        self.outward = Convolution(channels[0], 1, kernel, dtype=dtype)
        self.passes = Linear(signal, 1 + beside, dtype=dtype)

    def __call__(
        self,
        x: Any,
        level: jax.Array,
        told: jax.Array | None = None,
        beside: Sequence[Any] | None = None,
    ) -> Any:
        """A tree like ``x``; see :mod:`wsljax.generation.denoisers`."""
        trees = inputs_of(x, beside, self.beside)
        check_size(x, self.size)
        dtype = dtype_of(x)
        signal = self.signal(level, told).astype(dtype)
        rows = jnp.stack([ravel(tree, dtype) for tree in trees])
        step = 2 ** len(self.down)
        padded = jnp.pad(rows, ((0, 0), (0, -self.size % step)))
        h = self.inward(padded.T)
        skips = []
        for block in self.down:
            h = block(h, signal)
            skips.append(h)
            h = h.reshape(len(h) // 2, 2, -1).mean(axis=1)
        h = self.middle(h, signal)
        for block in self.up:
            wider = jnp.repeat(h, 2, axis=0)
            h = block(jnp.concatenate([wider, skips.pop()], axis=-1), signal)
        y = self.outward(group_norm(h))[: self.size, 0]
        return unravel(y + self.passes(signal) @ rows, x)
