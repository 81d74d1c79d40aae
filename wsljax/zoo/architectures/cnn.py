"""Convolutional networks of small zoos.

A convolution is written as one matrix product over the patches of the image: under `vmap` over
networks that stays a batched product, where a convolution becomes a grouped one, for which CPUs
have no fast program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.activations import ACTIVATIONS
from wsljax.zoo.architectures.common import (
    INITIALISERS,
    Names,
    activation_of,
    dense,
    drop,
    in_one_draw,
    linear,
    read_choice,
    reads_of,
    standardised,
)

Padding = Literal["SAME", "VALID"] | int


def convolve(layer: Any, x: jax.Array, stride: int = 1, padding: Padding = "VALID") -> jax.Array:
    """A convolution of images `(n, height, width, in)` with `layer["kernel"]` `(kh, kw, in, out)`."""
    kernel = layer["kernel"]
    kh, kw, channels, out = kernel.shape
    y = patches(x, (kh, kw), stride, padding) @ kernel.reshape(kh * kw * channels, out)
    return y + layer["bias"] if "bias" in layer else y


def patches(
    x: jax.Array, window: tuple[int, int], stride: int, padding: Padding, fill: float = 0.0
) -> jax.Array:
    """The windows of images `(n, h, w, c)` as `(n, h', w', kh * kw * c)`."""
    return jnp.concatenate(windows(x, window, stride, padding, fill), axis=-1)


def windows(
    x: jax.Array, window: tuple[int, int], stride: int, padding: Padding, fill: float = 0.0
) -> list[jax.Array]:
    """The image shifted to each place of a window, `kh * kw` times `(n, h', w', c)`."""
    if padding != "VALID":
        if padding == "SAME":
            around = [_same(size, k, stride) for size, k in zip(x.shape[1:3], window, strict=True)]
        else:
            around = [(padding, padding)] * 2
        if any(map(any, around)):
            x = jnp.pad(x, ((0, 0), *around, (0, 0)), constant_values=fill)
    height, width = ((size - k) // stride + 1 for size, k in zip(x.shape[1:3], window, strict=True))
    if height < 1 or width < 1:
        raise ValueError(f"an image of {x.shape[1:3]} is smaller than the window {window}.")
    return [
        x[
            :,
            i : i + (height - 1) * stride + 1 : stride,
            j : j + (width - 1) * stride + 1 : stride,
        ]
        for i in range(window[0])
        for j in range(window[1])
    ]


def pool(x: jax.Array, kind: str, size: int, stride: int | None = None) -> jax.Array:
    """Max or mean over windows of images `(n, h, w, c)`, without padding."""
    found = windows(x, (size, size), stride or size, "VALID")
    total = found[0]
    for part in found[1:]:
        total = jnp.maximum(total, part) if kind == "max" else total + part
    return total if kind == "max" else total / len(found)


@register_architecture("cnn")
def cnn(
    input_shape: Sequence[int] = (28, 28, 1),
    channels: Sequence[int] = (16, 16, 16),
    kernel: int | Sequence[int] = 3,
    stride: int | Sequence[int] = 2,
    padding: Padding | Sequence[Padding] = "VALID",
    pooling: str | Sequence[str] = "none",
    pool_size: int | Sequence[int] = 2,
    residual: Sequence[int] = (),
    head: str = "mean",
    dense_widths: Sequence[int] = (10,),
    activation: Names = "relu",
    initialiser: Names = "lecun_normal",
    bias: bool = True,
    mean: Any = 0.0,
    std: Any = 1.0,
) -> Architecture:
    """Convolutions, each with an activation and pooling; then dense layers.

    Args:
        input_shape: `(height, width, channels)` of an image.
        channels: of the convolutions.
        kernel, stride, padding, pooling, pool_size: one for all layers, or one each. Padding is
            "VALID" (none), "SAME", or pixels on each side; pooling "none", "max" or "mean", after
            the activation.
        residual: for each layer the layer whose output is added before the activation, or -1; of
            different widths the first channels are added (as in the CNN Wild Park).
        head: "mean" over positions, or "flatten" them, row-major with channels last.
        dense_widths: of the dense layers, the outputs last.
        activation, initialiser, bias, mean, std: as for "mlp"; dense layers but the last have the
            activation, too.

    Params: `conv_i/kernel` `(kh, kw, in, out)`, `conv_i/bias`, `dense_i/kernel` `(in, out)`, ...

    The defaults are the small CNN zoo's (Unterthiner 2020): 4,970 weights, no padding.

    Raises:
        ValueError: settings of other lengths than `channels`, or an image that becomes too small.
    """
    count = len(channels)
    kernels, strides, sizes = (_each(v, count) for v in (kernel, stride, pool_size))
    paddings, poolings = _each(padding, count), _each(pooling, count)
    residual = tuple(residual) or (-1,) * count
    if len(residual) != count or any(source >= i for i, source in enumerate(residual)):
        raise ValueError(f"residual: {residual}; for each of {count} layers an earlier one, or -1.")
    if head not in ("mean", "flatten"):
        raise ValueError(f"head: {head!r}; 'mean' or 'flatten'.")
    if set(poolings) - {"none", "max", "mean"}:
        raise ValueError(f"pooling: {poolings}; 'none', 'max' or 'mean'.")
    activations = read_choice("activation", activation, ACTIVATIONS)
    initialisers = read_choice("initialiser", initialiser, INITIALISERS)
    ends = (input_shape[-1], *channels)

    def features(params, x, row, key):
        kept = []
        for i in range(count):
            x = convolve(params[f"conv_{i}"], x, strides[i], paddings[i])
            if residual[i] >= 0:
                x = _added(x, kept[residual[i]])
            x = activation_of(activations, row, x)
            if poolings[i] != "none":
                x = pool(x, poolings[i], sizes[i])
            x = drop(x, row, key, i)
            kept.append(x)
        return x.mean((1, 2)) if head == "mean" else x.reshape(len(x), -1)

    shapes = {f"conv_{i}": (kernels[i], kernels[i], *ends[i : i + 2]) for i in range(count)}

    def wide():
        row = {name: jnp.int32(0) for name in reads_of("activation", activation)}
        image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        kernels = {
            name: {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
            for name, shape in shapes.items()
        }
        found = jax.eval_shape(lambda params, x: features(params, x, row, None), kernels, image)
        return found.shape[-1]

    widths = (wide(), *dense_widths)
    shapes |= {f"dense_{i}": widths[i : i + 2] for i in range(len(dense_widths))}

    def init(row, *, key):
        def make(draw):
            layers = shapes.items()
            return {
                name: dense(draw, shape, initialisers, row, bias=bias) for name, shape in layers
            }

        return in_one_draw(key, make)

    def apply(params, x, row, key):
        x = features(params, standardised(x, mean, std), row, key)
        for i in range(len(dense_widths)):
            x = linear(params[f"dense_{i}"], x)
            if i < len(dense_widths) - 1:
                x = drop(activation_of(activations, row, x), row, key, count + i)
        return x

    return Architecture(init, apply, tuple(input_shape), reads_of("activation", activation))


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    """The padding before and after that gives `ceil(size / stride)` windows."""
    total = max(0, (-(-size // stride) - 1) * stride + window - size)
    return total // 2, total - total // 2


def _each(value: Any, count: int) -> tuple:
    values = (value,) * count if isinstance(value, (str, int)) else tuple(value)
    if len(values) != count:
        raise ValueError(f"{values} has {len(values)} entries for {count} convolutions.")
    return values


def _added(x: jax.Array, source: jax.Array) -> jax.Array:
    if x.shape[1:3] != source.shape[1:3]:
        raise ValueError(f"a residual joins images of {source.shape[1:3]} and {x.shape[1:3]}.")
    width = min(x.shape[-1], source.shape[-1])
    if width == x.shape[-1]:
        return x + source[..., :width]
    return jnp.concatenate([x[..., :width] + source, x[..., width:]], axis=-1)
