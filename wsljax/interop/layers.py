"""Forward functions of layers over plain dicts: batch in front, channels last.

Images are (batch, height, width, channels), sequences (batch, tokens, features). Norms and softmaxes are
computed in float32 at least, and give back the dtype they were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Params = Mapping[str, Any]


def dense(p: Params, x: jax.Array) -> jax.Array:
    """``x @ kernel + bias``, kernel (in, out); the bias may be missing."""
    y = x @ p["kernel"]
    return y + p["bias"] if "bias" in p else y


def convolution(
    p: Params,
    x: jax.Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """Kernel (*places, in / groups, out) over x (batch, *places, in); the number of groups follows."""
    kernel = p["kernel"]
    places = kernel.ndim - 2
    x, kernel = _alike(x, kernel)
    if x.ndim != kernel.ndim or x.shape[-1] % kernel.shape[-2]:
        raise ValueError(
            f"a kernel {p['kernel'].shape} (places, in, out) cannot read inputs {x.shape}; they are "
            "(batch, *places, channels), channels last"
        )
    letters = "HWD"[:places] if places > 1 else "W"
    spec = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    y = lax.conv_general_dilated(
        x,
        kernel,
        window_strides=each(stride, places),
        padding=padding.upper() if isinstance(padding, str) else pairs(padding, places),
        rhs_dilation=each(dilation, places),
        dimension_numbers=spec,
        feature_group_count=x.shape[-1] // kernel.shape[-2],
    )
    return y + p["bias"] if "bias" in p else y


def batch_norm(p: Params, x: jax.Array, *, eps: float = 1e-5) -> jax.Array:
    """With running statistics, as in evaluation; scale and bias may be missing."""
    wide = _wide(x)
    y = (wide - p["mean"]) * lax.rsqrt(p["var"].astype(wide.dtype) + eps)
    return _affine(p, y.astype(x.dtype))


def layer_norm(p: Params, x: jax.Array, *, eps: float = 1e-5) -> jax.Array:
    """Over the last axis; scale and bias may be missing."""
    wide = _wide(x)
    wide = wide - wide.mean(-1, keepdims=True)
    y = wide * lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + eps)
    return _affine(p, y.astype(x.dtype))


def rms_norm(p: Params, x: jax.Array, *, eps: float = 1e-6) -> jax.Array:
    """Over the last axis (Zhang & Sennrich 2019)."""
    wide = _wide(x)
    y = wide * lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + eps)
    return _affine(p, y.astype(x.dtype))


def group_norm(p: Params, x: jax.Array, *, groups: int, eps: float = 1e-5) -> jax.Array:
    """Over places and the channels of a group, channels last (Wu & He 2018)."""
    wide = _wide(x)
    split = wide.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    split = split - split.mean((1, 3), keepdims=True)
    split = split * lax.rsqrt(jnp.square(split).mean((1, 3), keepdims=True) + eps)
    return _affine(p, split.reshape(x.shape).astype(x.dtype))


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, scale: float, causal: bool = False
) -> jax.Array:
    """Softmax attention; queries may come in more heads than keys and values (Ainslie et al. 2023).

    Args:
        q: (batch, tokens, groups, heads per group, dims).
        k, v: (batch, keys, groups, dims).
        scale: of the scores.
        causal: whether a token sees only itself and what stands before it.

    Returns:
        (batch, tokens, groups * heads per group * dims of values).
    """
    scores = jnp.einsum("ntgrd,nsgd->ngrts", q, k) * scale
    if causal:
        seen = np.tril(np.ones(scores.shape[-2:], bool))
        scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(_wide(scores), axis=-1).astype(v.dtype)
    out = jnp.einsum("ngrts,nsgd->ntgrd", weights, v)
    return out.reshape(*out.shape[:2], -1)


def each(value: int | Sequence[int], places: int) -> tuple[int, ...]:
    """One number for each place, from a number or from as many."""
    values = (value,) * places if isinstance(value, int) else tuple(value)
    if len(values) != places:
        raise ValueError(f"{value} has {len(values)} numbers for {places} axes of places")
    return values


def pairs(padding: int | Sequence[int], places: int) -> list[tuple[int, int]]:
    """Padding on both sides of each axis of places."""
    return [(n, n) for n in each(padding, places)]


def _affine(p: Params, y: jax.Array) -> jax.Array:
    y = y * p["scale"] if "scale" in p else y
    return y + p["bias"] if "bias" in p else y


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _alike(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.result_type(x, y)
    return x.astype(dtype), y.astype(dtype)
