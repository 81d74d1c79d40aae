"""ViT (Dosovitskiy et al. 2021) in Hugging Face's layout: ``ViTForImageClassification``, ``ViTModel``.

Images come channels last. Evaluation: dropout is off, positions are not interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .. import layers
from ..activations import activation
from ..tensors import Network, Tensor, kernel_rows, norm_rows
from .config_fields import head_of, read_fields

HEADS = ("ViTForImageClassification", "ViTModel")
PREFIX = "vit."
BUFFERS = r"embeddings\.mask_token"  # of masked pretraining; no image that is seen whole reads it
FIELDS = {
    "hidden_size": ...,
    "num_hidden_layers": ...,
    "num_attention_heads": ...,
    "intermediate_size": ...,
    "image_size": ...,
    "patch_size": ...,
    "num_channels": 3,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
    "pooler_act": "tanh",
}
HARMLESS = "hidden_dropout_prob attention_probs_dropout_prob encoder_stride pooler_output_size"


def vit(config: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Network:
    """``fn(params, images (batch, height, width, channels)) -> logits (batch, classes)``.

    Without a head (``ViTModel``) the outputs are ``{"last_hidden_state": (batch, tokens, width)}`` and,
    where the weights have a pooler, ``"pooler_output": (batch, pooled)``.

    Raises:
        ValueError: a field of the config is not supported.
    """
    head = head_of(config, HEADS)
    c = read_fields(config, FIELDS, harmless=HARMLESS, ignore=ignore)
    heads, eps = c["num_attention_heads"], c["layer_norm_eps"]
    if c["hidden_size"] % heads:
        raise ValueError(f"config: {heads} heads do not divide hidden_size = {c['hidden_size']}")
    size = (*layers.each(c["image_size"], 2), c["num_channels"])
    patch = layers.each(c["patch_size"], 2)
    act = activation(c["hidden_act"], "config field 'hidden_act'")
    pool_act = activation(c["pooler_act"], "config field 'pooler_act'")

    def block(p: Any, x: jax.Array) -> jax.Array:
        a = p["attention"]["attention"]
        z = layers.layer_norm(p["layernorm_before"], x, eps=eps)
        q, k, v = (
            layers.dense(a[n], z).reshape(*z.shape[:2], heads, -1)
            for n in ("query", "key", "value")
        )
        z = layers.attention(q[:, :, :, None], k, v, scale=q.shape[-1] ** -0.5)
        x = x + layers.dense(p["attention"]["output"]["dense"], z)
        z = layers.layer_norm(p["layernorm_after"], x, eps=eps)
        z = act(layers.dense(p["intermediate"]["dense"], z))
        return x + layers.dense(p["output"]["dense"], z)

    def apply(params: Any, images: jax.Array) -> Any:
        if images.shape[1:] != size:
            raise ValueError(
                f"images are {images.shape}, not (batch, {', '.join(map(str, size))}): height, width, "
                "channels, channels last"
            )
        p = params["vit"] if head != "ViTModel" else params
        e = p["embeddings"]
        x = images.astype(e["patch_embeddings"]["projection"]["kernel"].dtype)
        x = layers.convolution(e["patch_embeddings"]["projection"], x, stride=patch)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = jnp.broadcast_to(e["cls_token"], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([first, x], axis=1) + e["position_embeddings"]
        for i in range(c["num_hidden_layers"]):
            x = block(p["encoder"]["layer"][str(i)], x)
        x = layers.layer_norm(p["layernorm"], x, eps=eps)
        if head == "ViTForImageClassification":
            return (
                layers.dense(params["classifier"], x[:, 0]) if "classifier" in params else x[:, 0]
            )
        out = {"last_hidden_state": x}
        if "pooler" in p:
            out["pooler_output"] = pool_act(layers.dense(p["pooler"]["dense"], x[:, 0]))
        return out

    return Network(apply, tuple(_tensors(c, head, config)), config=dict(config))


def _tensors(c: Mapping[str, Any], head: str, config: Mapping[str, Any]) -> list[Tensor]:
    width, hidden = c["hidden_size"], c["intermediate_size"]
    size, patch = layers.each(c["image_size"], 2), layers.each(c["patch_size"], 2)
    tokens = 1 + (size[0] // patch[0]) * (size[1] // patch[1])
    kernel = (*patch, c["num_channels"], width)
    rows = [
        Tensor("embeddings.cls_token", ("embeddings", "cls_token"), shape=(1, 1, width)),
        Tensor(
            "embeddings.position_embeddings",
            ("embeddings", "position_embeddings"),
            shape=(1, tokens, width),
        ),
        *kernel_rows("embeddings.patch_embeddings.projection", kernel, layout="conv"),
        *norm_rows("layernorm", width),
    ]
    for i in range(c["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            full = f"{at}.attention.attention.{name}"
            rows += kernel_rows(full, (width, width), bias=c["qkv_bias"])
        rows += kernel_rows(f"{at}.attention.output.dense", (width, width))
        rows += kernel_rows(f"{at}.intermediate.dense", (width, hidden))
        rows += kernel_rows(f"{at}.output.dense", (hidden, width))
        rows += norm_rows(f"{at}.layernorm_before", width)
        rows += norm_rows(f"{at}.layernorm_after", width)
    if head == "ViTModel":
        pooler = kernel_rows("pooler.dense", (width, config.get("pooler_output_size") or width))
        return rows + [row._replace(optional=True) for row in pooler]
    rows = [row._replace(name=PREFIX + row.name, path=("vit", *row.path)) for row in rows]
    labels = len(config["id2label"]) if "id2label" in config else config.get("num_labels", 2)
    return rows + kernel_rows("classifier", (width, labels)) if labels else rows
