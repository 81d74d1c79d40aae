"""GPT-2 (Radford et al. 2019) in the layout of Hugging Face: ``GPT2LMHeadModel`` and ``GPT2Model``.

The packed projection of queries, keys and values stays packed, as (width, 3 width). Evaluation: dropout
is off. Sequences are whole, without padding.
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

HEADS = ("GPT2LMHeadModel", "GPT2Model")
PREFIX = "transformer."  # of the names under a head; the first published files go without
BUFFERS = r"h\.\d+\.attn\.(masked_)?bias"
FIELDS = {
    "vocab_size": ...,
    "n_positions": ...,
    "n_embd": ...,
    "n_layer": ...,
    "n_head": ...,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}
HARMLESS = """n_ctx resid_pdrop embd_pdrop attn_pdrop reorder_and_upcast_attn summary_type
summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout gradient_checkpointing"""


def gpt2(config: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Network:
    """``fn(params, ids (batch, tokens)) -> logits (batch, tokens, vocabulary)``, or hidden states.

    Without a head (``GPT2Model``) the outputs are the hidden states after the last norm,
    (batch, tokens, width).

    Raises:
        ValueError: a field of the config is not supported.
    """
    head = head_of(config, HEADS)
    c = read_fields(config, FIELDS, harmless=HARMLESS, ignore=ignore)
    if c["n_embd"] % c["n_head"]:
        raise ValueError(f"config: n_head = {c['n_head']} does not divide n_embd = {c['n_embd']}")
    act = activation(c["activation_function"], "config field 'activation_function'")
    tied, eps = c["tie_word_embeddings"], c["layer_norm_epsilon"]

    def block(p: Any, x: jax.Array, i: int) -> jax.Array:
        n, t, width = x.shape
        z = layers.dense(p["attn"]["c_attn"], layers.layer_norm(p["ln_1"], x, eps=eps))
        q, k, v = (y.reshape(n, t, c["n_head"], -1) for y in jnp.split(z, 3, axis=-1))
        scale = q.shape[-1] ** -0.5 if c["scale_attn_weights"] else 1.0
        if c["scale_attn_by_inverse_layer_idx"]:
            scale /= i + 1
        z = layers.attention(q[:, :, :, None], k, v, scale=scale, causal=True)
        x = x + layers.dense(p["attn"]["c_proj"], z)
        z = act(layers.dense(p["mlp"]["c_fc"], layers.layer_norm(p["ln_2"], x, eps=eps)))
        return x + layers.dense(p["mlp"]["c_proj"], z)

    def apply(params: Any, ids: jax.Array) -> jax.Array:
        tokens = ids.shape[1]
        if tokens > c["n_positions"]:
            raise ValueError(f"{tokens} tokens, but n_positions = {c['n_positions']}")
        p = params["transformer"] if head != "GPT2Model" else params
        x = p["wte"]["embedding"][ids] + p["wpe"]["embedding"][:tokens]
        for i in range(c["n_layer"]):
            x = block(p["h"][str(i)], x, i)
        x = layers.layer_norm(p["ln_f"], x, eps=eps)
        if head == "GPT2Model":
            return x
        return x @ p["wte"]["embedding"].T if tied else x @ params["lm_head"]["kernel"]

    return Network(apply, tuple(_tensors(c, head)), config=dict(config))


def _tensors(c: Mapping[str, Any], head: str) -> list[Tensor]:
    width = c["n_embd"]
    hidden = c["n_inner"] or 4 * width

    def dense(name, inputs, outputs):  # kernels are (in, out) in the file, too
        return kernel_rows(name, (inputs, outputs), layout="same")

    rows = [
        Tensor("wte.weight", ("wte", "embedding"), shape=(c["vocab_size"], width)),
        Tensor("wpe.weight", ("wpe", "embedding"), shape=(c["n_positions"], width)),
        *norm_rows("ln_f", width),
    ]
    for i in range(c["n_layer"]):
        at = f"h.{i}"
        rows += norm_rows(f"{at}.ln_1", width) + norm_rows(f"{at}.ln_2", width)
        rows += dense(f"{at}.attn.c_attn", width, 3 * width)
        rows += dense(f"{at}.attn.c_proj", width, width)
        rows += dense(f"{at}.mlp.c_fc", width, hidden) + dense(f"{at}.mlp.c_proj", hidden, width)
    if head == "GPT2Model":
        return rows
    rows = [row._replace(name=PREFIX + row.name, path=("transformer", *row.path)) for row in rows]
    if not c["tie_word_embeddings"]:
        rows.append(
            Tensor("lm_head.weight", ("lm_head", "kernel"), "dense", shape=(width, c["vocab_size"]))
        )
    return rows
