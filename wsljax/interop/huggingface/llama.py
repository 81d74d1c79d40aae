"""Llama (Touvron et al. 2023) in the layout of Hugging Face: ``LlamaForCausalLM`` and ``LlamaModel``.

RMSNorm, rotary positions, grouped queries, SwiGLU. Evaluation on whole sequences, without padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from .. import layers
from ..activations import activation
from ..tensors import Network, Tensor, kernel_rows, norm_rows
from .config_fields import head_of, read_fields
from .rotary import frequencies, rotate

HEADS = ("LlamaForCausalLM", "LlamaModel")
PREFIX = "model."
BUFFERS = r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
FIELDS = {
    "vocab_size": ...,
    "hidden_size": ...,
    "intermediate_size": ...,
    "num_hidden_layers": ...,
    "num_attention_heads": ...,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "rope_parameters": None,
}
HARMLESS = "max_position_embeddings attention_dropout pretraining_tp gradient_checkpointing"
ONLY = {"partial_rotary_factor": (1, 1.0, None), "max_sequence_length": (None,)}


def llama(config: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Network:
    """``fn(params, ids (batch, tokens)) -> logits (batch, tokens, vocabulary)``, or hidden states.

    Without a head (``LlamaModel``) the outputs are the hidden states after the last norm,
    (batch, tokens, width).

    Raises:
        ValueError: a field of the config is not supported.
    """
    head = head_of(config, HEADS)
    c = read_fields(config, FIELDS, harmless=HARMLESS, only=ONLY, ignore=ignore)
    heads = c["num_attention_heads"]
    groups = c["num_key_value_heads"] or heads
    if heads % groups:
        raise ValueError(f"config: num_key_value_heads = {groups} does not divide {heads} heads")
    if not c["head_dim"] and c["hidden_size"] % heads:
        raise ValueError(f"config: {heads} heads do not divide hidden_size = {c['hidden_size']}")
    dims = c["head_dim"] or c["hidden_size"] // heads
    freqs = frequencies(config, dims)
    act = activation(c["hidden_act"], "config field 'hidden_act'")
    eps, tied = c["rms_norm_eps"], c["tie_word_embeddings"]

    def block(p: Any, x: jax.Array) -> jax.Array:
        a, m = p["self_attn"], p["mlp"]
        z = layers.rms_norm(p["input_layernorm"], x, eps=eps)
        q = layers.dense(a["q_proj"], z).reshape(*z.shape[:2], groups, heads // groups, dims)
        k, v = (
            layers.dense(a[n], z).reshape(*z.shape[:2], groups, dims) for n in ("k_proj", "v_proj")
        )
        z = layers.attention(rotate(q, freqs), rotate(k, freqs), v, scale=dims**-0.5, causal=True)
        x = x + layers.dense(a["o_proj"], z)
        z = layers.rms_norm(p["post_attention_layernorm"], x, eps=eps)
        z = act(layers.dense(m["gate_proj"], z)) * layers.dense(m["up_proj"], z)
        return x + layers.dense(m["down_proj"], z)

    def apply(params: Any, ids: jax.Array) -> jax.Array:
        p = params["model"] if head != "LlamaModel" else params
        x = p["embed_tokens"]["embedding"][ids]
        for i in range(c["num_hidden_layers"]):
            x = block(p["layers"][str(i)], x)
        x = layers.rms_norm(p["norm"], x, eps=eps)
        if head == "LlamaModel":
            return x
        return x @ p["embed_tokens"]["embedding"].T if tied else layers.dense(params["lm_head"], x)

    return Network(apply, tuple(_tensors(c, head)), config=dict(config))


def _tensors(c: Mapping[str, Any], head: str) -> list[Tensor]:
    width, hidden = c["hidden_size"], c["intermediate_size"]
    dims = c["head_dim"] or width // c["num_attention_heads"]
    queries = dims * c["num_attention_heads"]
    keys = dims * (c["num_key_value_heads"] or c["num_attention_heads"])
    words = c["vocab_size"]

    def norm(name):
        return norm_rows(name, width, bias=False)

    rows = [Tensor("embed_tokens.weight", ("embed_tokens", "embedding"), shape=(words, width))]
    rows += norm("norm")
    for i in range(c["num_hidden_layers"]):
        at = f"layers.{i}"
        rows += norm(f"{at}.input_layernorm") + norm(f"{at}.post_attention_layernorm")
        for name, size in ("q_proj", queries), ("k_proj", keys), ("v_proj", keys):
            rows += kernel_rows(f"{at}.self_attn.{name}", (width, size), bias=c["attention_bias"])
        rows += kernel_rows(f"{at}.self_attn.o_proj", (queries, width), bias=c["attention_bias"])
        for name in ("gate_proj", "up_proj"):
            rows += kernel_rows(f"{at}.mlp.{name}", (width, hidden), bias=c["mlp_bias"])
        rows += kernel_rows(f"{at}.mlp.down_proj", (hidden, width), bias=c["mlp_bias"])
    if head == "LlamaModel":
        return rows
    rows = [row._replace(name=PREFIX + row.name, path=("model", *row.path)) for row in rows]
    if not c["tie_word_embeddings"]:
        rows += kernel_rows("lm_head", (width, words), bias=False)
    return rows
