"""Torch's ``nn.MultiheadAttention``, ``nn.TransformerEncoderLayer`` and ``nn.TransformerEncoder``.

Sequences are (batch, tokens, features), without padding. A packed ``in_proj_weight`` stays packed.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from .. import layers
from ..activations import activation as named
from ..tensors import DENSE
from .modules import AFFINE, Built, Flow, Shapes, optional_rows, row


def self_attention(
    name: str, shapes: Shapes, flow: Flow, *, heads: int, causal: bool = False
) -> Built:
    """``nn.MultiheadAttention`` of a query with keys and values, of x with itself if called with x alone."""
    width = shapes["out_proj.weight"][0]
    if width % heads:
        raise ValueError(f"module {name!r}: heads = {heads} does not divide its width {width}")
    packed = "in_proj_weight" in shapes
    rows = [row(name, "in_proj_weight", "in_proj/kernel", DENSE)] if packed else []
    for x in "qkv" if not packed else "":
        rows.append(row(name, f"{x}_proj_weight", f"{x}_proj/kernel", DENSE))
    rows.append(row(name, "out_proj.weight", "out_proj/kernel", DENSE))
    leaves = {"in_proj_bias": "in_proj/bias", "out_proj.bias": "out_proj/bias"}
    rows += optional_rows(name, shapes, {**leaves, "bias_k": "bias_k", "bias_v": "bias_v"})

    def project(p: Any, i: int, x: jax.Array) -> jax.Array:
        """The i-th of queries, keys and values."""
        part = slice(i * width, (i + 1) * width)
        kernel = p["in_proj"]["kernel"][:, part] if packed else p[f"{'qkv'[i]}_proj"]["kernel"]
        z = x @ kernel
        return z + p["in_proj"]["bias"][part] if "bias" in p.get("in_proj", ()) else z

    def apply(p: Any, x: jax.Array, *others: jax.Array) -> jax.Array:
        sources = (x, *others) if others else (x, x, x)
        if len(sources) != 3:
            raise ValueError(
                f"module {name!r}: attention is called with x, or with query, key, value"
            )
        q, k, v = (project(p, i, source) for i, source in enumerate(sources))
        if "bias_k" in p:
            k, v = (
                jnp.concatenate([z, jnp.broadcast_to(p[b], (z.shape[0], 1, width))], axis=1)
                for z, b in ((k, "bias_k"), (v, "bias_v"))
            )
        q, k, v = (z.reshape(*z.shape[:2], heads, -1) for z in (q, k, v))
        z = layers.attention(q[:, :, :, None], k, v, scale=q.shape[-1] ** -0.5, causal=causal)
        return layers.dense(p["out_proj"], z)

    return Built(rows, apply)


def encoder(
    name: str,
    shapes: Shapes,
    flow: Flow,
    *,
    heads: int,
    activation: Any,
    norm_first: bool,
    causal: bool = False,
    eps: float = 1e-5,
) -> Built:
    """A ``TransformerEncoder``, or one layer of it; neither heads nor activation are in the weights.

    Args:
        heads, activation, norm_first: as in ``nn.TransformerEncoderLayer``.
        causal: whether a token sees only itself and what stands before it.
        eps: of the norms.
    """
    act = named(activation, "activation")
    depth = len({m[1] for sub in shapes if (m := re.match(r"layers\.(\d+)\.", sub))})
    places = [f"layers.{i}" for i in range(depth)] or [""]
    rows, attend = [], []
    for place in places:
        head = f"{place}." if place else ""
        inner = {
            sub.removeprefix(f"{head}self_attn."): shape
            for sub, shape in shapes.items()
            if sub.startswith(f"{head}self_attn.")
        }
        full = ".".join(filter(None, (name, place)))
        built = self_attention(
            f"{full}.self_attn" if full else "self_attn", inner, flow, heads=heads, causal=causal
        )
        attend.append(built.apply)
        rows += built.tensors
        for sub, leaf, layout in ("weight", "kernel", DENSE), ("bias", "bias", "same"):
            for part in ("linear1", "linear2"):
                if f"{head}{part}.{sub}" in shapes:
                    rows.append(row(full, f"{part}.{sub}", f"{part}/{leaf}", layout))
        for part in ("norm1", "norm2"):
            leaves = {f"{head}{part}.{s}": f"{part}/{leaf}" for s, leaf in AFFINE.items()}
            for sub, leaf in leaves.items():
                if sub in shapes:
                    rows.append(row(full, sub.removeprefix(head), leaf))
    for sub, leaf in AFFINE.items():
        if f"norm.{sub}" in shapes:
            rows.append(row(name, f"norm.{sub}", f"norm/{leaf}"))

    def block(p: Any, x: jax.Array, i: int) -> jax.Array:
        def mlp(x):
            return layers.dense(p["linear2"], act(layers.dense(p["linear1"], x)))

        def norm(k, x):
            return layers.layer_norm(p[k], x, eps=eps)

        if norm_first:
            x = x + attend[i](p["self_attn"], norm("norm1", x))
            return x + mlp(norm("norm2", x))
        x = norm("norm1", x + attend[i](p["self_attn"], x))
        return norm("norm2", x + mlp(x))

    def apply(p: Any, x: jax.Array) -> jax.Array:
        for i in range(len(places)):
            x = block(p["layers"][str(i)] if depth else p, x, i)
        return layers.layer_norm(p["norm"], x, eps=eps) if "norm" in p else x

    return Built(rows, apply)
