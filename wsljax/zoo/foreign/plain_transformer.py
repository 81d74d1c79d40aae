"""The small transformers of Tran et al. 2025: no residuals, norms without weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.common import dense, in_one_draw, linear


@register_architecture("plain_transformer")
def plain_transformer(
    image_size: int = 28,
    channels: int = 1,
    patch: int = 4,
    width: int = 32,
    heads: int = 2,
    blocks: int = 2,
    forward: int = 2,
    outputs: int = 10,
) -> Architecture:
    """A vision transformer whose blocks are plain compositions.

    Tran et al., "Equivariant Neural Functional Networks for Transformers", 2025; the released
    training script has its skip connections commented out, so `x = attention(norm(x))` and
    `x = fc2(relu(fc1(norm(x))))`. Norms have no gain and no bias, projections no biases; the mean
    over patches goes through a dense layer, relu and a dense layer.

    Args:
        image_size, channels: images are `(n, image_size, image_size, channels)`.
        patch: side of a patch.
        width, heads, blocks: of the transformer.
        forward: hidden units of a block's MLP, as a multiple of `width`.
        outputs: classes.

    Params: `embed` (kernel `(patch, patch, channels, width)`), `positions` `(patches, width)`
    (sinusoidal, not trained), `block_i/{query, key, value}/kernel` `(width, heads, width / heads)`,
    `block_i/out/kernel` `(heads, width / heads, width)`, `block_i/{up, down}`, `dense_0`, `dense_1`.
    """
    if width % heads or image_size % patch:
        raise ValueError(f"width {width} by {heads} heads, image {image_size} by patches {patch}.")
    size = width // heads

    def init(row, *, key):
        return in_one_draw(key, lambda draw: made(draw, row))

    def made(draw, row):
        make = lambda *shape, bias=True: dense(draw, shape, ("torch",), row, bias=bias)  # noqa: E731
        params: dict[str, Any] = {"embed": make(patch, patch, channels, width)}
        params["positions"] = jnp.asarray(sinusoids((image_size // patch) ** 2, width))
        for i in range(blocks):
            block = {}
            for name in ("query", "key", "value"):
                kernel = make(width, width, bias=False)["kernel"]
                block[name] = {"kernel": kernel.reshape(width, heads, size)}
            kernel = make(width, width, bias=False)["kernel"]
            block["out"] = {"kernel": kernel.reshape(heads, size, width)}
            block["up"], block["down"] = make(width, forward * width), make(forward * width, width)
            params[f"block_{i}"] = block
        params["dense_0"], params["dense_1"] = make(width, width), make(width, outputs)
        return params

    def attend(block, x):
        q, k, v = (
            jnp.einsum("nsd,dhe->nhse", x, block[name]["kernel"])
            for name in ("query", "key", "value")
        )
        scores = jax.nn.softmax(jnp.einsum("nhqe,nhke->nhqk", q, k) / np.sqrt(size), axis=-1)
        return jnp.einsum("nhqk,nhke,hed->nqd", scores, v, block["out"]["kernel"])

    def apply(params, x, row, key):
        n, side = len(x), image_size // patch
        x = x.reshape(n, side, patch, side, patch, channels)
        kernel = params["embed"]["kernel"]
        x = jnp.einsum("nipjqc,pqcd->nijd", x, kernel).reshape(n, side * side, width)
        x = x + params["embed"]["bias"] + params["positions"]
        for i in range(blocks):
            block = params[f"block_{i}"]
            x = attend(block, _normalised(x))
            x = linear(block["down"], jax.nn.relu(linear(block["up"], _normalised(x))))
        x = _normalised(x).mean(1)
        return linear(params["dense_1"], jax.nn.relu(linear(params["dense_0"], x)))

    return Architecture(init, apply, (image_size, image_size, channels))


def sinusoids(length: int, width: int) -> np.ndarray:
    """Sinusoidal positions (Vaswani et al. 2017), sine and cosine in turn: `(length, width)`."""
    angles = np.arange(length)[:, None] * np.exp(np.arange(0, width, 2) * (-np.log(1e4) / width))
    out = np.zeros((length, width), np.float32)
    out[:, 0::2], out[:, 1::2] = np.sin(angles), np.cos(angles)[:, : width // 2]
    return out


def _normalised(x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)
