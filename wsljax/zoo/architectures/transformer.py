"""Small transformers over tokens, vectors or the patches of an image (ViT).

Pre-norm blocks (Xiong 2020) as in GPT-2 and ViT (Dosovitskiy 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.activations import ACTIVATIONS
from wsljax.zoo.architectures.cnn import convolve
from wsljax.zoo.architectures.common import (
    INITIALISERS,
    Draw,
    Names,
    activation_of,
    dense,
    draw_kernel,
    drop,
    in_one_draw,
    linear,
    normal,
    read_choice,
    reads_of,
    standardised,
)


@register_architecture("transformer")
def transformer(
    tokens: int | None = None,
    features: int | None = None,
    image: Sequence[int] | None = None,
    patch: int = 4,
    length: int = 32,
    width: int = 32,
    heads: int = 4,
    layers: int = 2,
    mlp_width: int = 64,
    outputs: int = 10,
    causal: bool = False,
    head: str = "mean",
    activation: Names = "gelu",
    initialiser: Names = "lecun_normal",
    mean: Any = 0.0,
    std: Any = 1.0,
) -> Architecture:
    """Blocks of attention and dense layers on a residual stream, each behind a LayerNorm.

    Args:
        tokens: inputs are integers `(n, time)` below this number; or
        features: inputs are vectors `(n, time, features)`; or
        image: inputs are images `(n, height, width, channels)`, cut into patches of `patch`.
        length: the longest sequence (of an image: given by its patches).
        width, heads, layers, mlp_width: of the stream, of attention, of blocks, of dense layers.
        outputs: logits.
        causal: whether a place sees only those before it.
        head: what the output is read from: the "mean" of the stream, its "last" place, a class
            token in front ("class"), or "each" place.
        activation, initialiser, mean, std: as for "mlp".

    Params: `embed` (`kernel` `(tokens or features, width)`, of an image `(patch, patch, channels,
    width)`), `positions` `(length, width)`, `class` `(width,)`; `block_i/{norm_0, query, key, value,
    out, norm_1, up, down}` with kernels `(width, heads, dims)` and `(heads, dims, width)`; `norm`;
    `dense`.

    Raises:
        ValueError: a width that the heads do not divide, or not exactly one kind of input.
    """
    if sum(kind is not None for kind in (tokens, features, image)) != 1:
        raise ValueError("give one of `tokens`, `features` and `image`.")
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}.")
    if head not in ("mean", "last", "class", "each"):
        raise ValueError(f"head: {head!r}; 'mean', 'last', 'class' or 'each'.")
    activations = read_choice("activation", activation, ACTIVATIONS)
    names = read_choice("initialiser", initialiser, INITIALISERS)
    dims = width // heads
    if image is not None:
        length = (image[0] // patch) * (image[1] // patch)
    places = length + (head == "class")

    def init(row, *, key):
        return in_one_draw(key, lambda draw: make(draw, row))

    def make(draw, row):
        norm = lambda: {"scale": jnp.ones(width), "bias": jnp.zeros(width)}  # noqa: E731
        if image is not None:
            embed = dense(draw, (patch, patch, image[-1], width), names, row)
        elif tokens is not None:
            embed = {"kernel": draw_kernel(draw, (tokens, width), names, row)}
        else:
            embed = dense(draw, (cast(int, features), width), names, row)
        params = {"embed": embed, "positions": _small(draw, (places, width))}
        if head == "class":
            params["class"] = _small(draw, (width,))
        for i in range(layers):
            block = {"norm_0": norm(), "norm_1": norm()}
            for name in ("query", "key", "value"):
                flat = dense(draw, (width, width), names, row)
                block[name] = {
                    "kernel": flat["kernel"].reshape(width, heads, dims),
                    "bias": flat["bias"].reshape(heads, dims),
                }
            out = dense(draw, (width, width), names, row)
            block["out"] = out | {"kernel": out["kernel"].reshape(heads, dims, width)}
            block["up"] = dense(draw, (width, mlp_width), names, row)
            block["down"] = dense(draw, (mlp_width, width), names, row)
            params[f"block_{i}"] = block
        params["norm"] = norm()
        return params | {"dense": dense(draw, (width, outputs), names, row)}

    def apply(params, x, row, key):
        if tokens is not None:
            x = params["embed"]["kernel"][x]
        elif features is not None:
            x = linear(params["embed"], standardised(x, mean, std))
        else:
            x = convolve(params["embed"], standardised(x, mean, std), patch)
            x = x.reshape(len(x), length, width)
        if head == "class":
            front = jnp.broadcast_to(params["class"], (len(x), 1, width))
            x = jnp.concatenate([front, x], axis=1)
        if x.shape[1] > places:
            raise ValueError(f"a sequence of {x.shape[1]} is longer than the {places} positions.")
        x = x + params["positions"][: x.shape[1]]
        for i in range(layers):
            block = params[f"block_{i}"]
            y = attend(block, layer_norm(block["norm_0"], x), causal)
            x = x + drop(y, row, key, 2 * i)
            y = linear(block["up"], layer_norm(block["norm_1"], x))
            y = linear(block["down"], activation_of(activations, row, y))
            x = x + drop(y, row, key, 2 * i + 1)
        if head in ("last", "class"):
            x = x[:, -1 if head == "last" else 0]
        x = layer_norm(params["norm"], x)
        return linear(params["dense"], x.mean(1) if head == "mean" else x)

    shape: tuple = (None,) if tokens is not None else (None, features)
    if image is not None:
        shape = tuple(image)
    dtype = jnp.int32 if tokens is not None else jnp.float32
    return Architecture(init, apply, shape, reads_of("activation", activation), dtype)


def layer_norm(layer: Any, x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """LayerNorm over the last axis, with `scale` and `bias` (Ba 2016)."""
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + epsilon)
    return x * layer["scale"] + layer["bias"]


def attend(block: Any, x: jax.Array, causal: bool) -> jax.Array:
    """Scaled dot-product attention (Vaswani 2017) of a stream `(n, time, width)`."""
    q, k, v = (
        jnp.einsum("ntw,whd->nthd", x, block[name]["kernel"]) + block[name]["bias"]
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("nthd,nshd->nhts", q, k) / jnp.sqrt(q.shape[-1]).astype(x.dtype)
    if causal:
        seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    mixed = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), v)
    return jnp.einsum("nthd,hdw->ntw", mixed, block["out"]["kernel"]) + block["out"]["bias"]


def _small(draw: Draw, shape: Sequence[int]) -> jax.Array:
    return 0.02 * normal(draw(shape))
