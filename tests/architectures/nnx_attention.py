"""Attention and transformers in nnx."""

import jax.numpy as jnp
from flax import nnx

from .linen_common import normal, tokens
from .nnx_common import make
from .registry import case


class Attention(nnx.Module):
    def __init__(self, rngs, heads=2, kv_heads=None, causal=False, **options):
        self.causal = causal
        self.attend = nnx.MultiHeadAttention(
            heads, 6, heads * 5, 3, kv_heads, decode=False, rngs=rngs, **options
        )

    def __call__(self, x):
        return self.attend(x, mask=nnx.make_causal_mask(x[..., 0]) if self.causal else None)


# heads; in each head the q/k dims and the v dims independently
@case("nnx/attention", [(2, 1), (5, 2), (5, 2)], exceptions=("attend/key/bias",))
def attention(key):
    return make(Attention, key, normal(key, 3, 4, 6))


# normed queries and keys: one scale of 5 for all heads ties the q/k dims of the heads
@case("nnx/attention_normalized", [(2, 1), (5, 1), (5, 2)])
def attention_normalized(key):
    return make(lambda r: Attention(r, causal=True, normalize_qk=True), key, normal(key, 3, 4, 6))


# grouped queries: 2 heads of keys and values, each read by 2 query heads; dims per k/v head
@case(
    "nnx/attention_grouped",
    [(2, 1), (2, 2), (5, 2), (5, 2)],
    exceptions=("attend/key/bias",),
)
def attention_grouped(key):
    return make(lambda r: Attention(r, heads=4, kv_heads=2), key, normal(key, 3, 4, 6))


# one head of keys and values, read by three query heads
@case("nnx/attention_multi_query", [(3, 1), (5, 1), (5, 1)], exceptions=("attend/key/bias",))
def attention_multi_query(key):
    return make(lambda r: Attention(r, heads=3, kv_heads=1), key, normal(key, 3, 4, 6))


class Cross(nnx.Module):
    def __init__(self, rngs):
        self.context = nnx.Linear(2, 4, rngs=rngs)
        self.query = nnx.Linear(3, 7, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(
            2, 7, 6, 7, in_kv_features=4, use_bias=False, decode=False, rngs=rngs
        )
        self.out = nnx.Linear(7, 2, rngs=rngs)

    def __call__(self, x, context):
        x = self.query(x)
        return self.out(x + self.attend(x, self.context(context)))


@case("nnx/attention_cross", [(7, 1), (4, 1), (2, 1), (3, 2), (3, 2)])  # two streams, heads, dims
def attention_cross(key):
    return make(Cross, key, normal(key, 3, 4, 3), normal(key, 3, 5, 2))


class Block(nnx.Module):
    """Pre-norm layer of width 8: two heads of 3, a feedforward layer."""

    def __init__(self, hidden, rngs, norm=nnx.LayerNorm):
        self.norm1 = norm(8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(
            2, 8, 6, use_bias=False, decode=False, rngs=rngs, keep_rngs=False
        )
        self.norm2 = norm(8, rngs=rngs)
        self.up = nnx.Linear(8, hidden, rngs=rngs)
        self.gate = nnx.Linear(8, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, 8, rngs=rngs)

    def __call__(self, x, mask=None):
        x = x + self.attend(self.norm1(x), mask=mask)
        y = self.norm2(x)
        return x + self.down(nnx.silu(self.gate(y)) * self.up(y))


class GPT(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.place = nnx.Embed(5, 8, rngs=rngs)
        self.block = Block(10, rngs, nnx.RMSNorm)
        self.norm = nnx.RMSNorm(8, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids) + self.place(jnp.arange(ids.shape[1]))
        x = self.block(x, nnx.make_causal_mask(ids))
        return self.embed.attend(self.norm(x))


# stream; heads, q/k and v dims; hidden units, which gate and value share
@case("nnx/gpt_tied", [(8, 1), (2, 1), (3, 2), (3, 2), (10, 1)])
def gpt_tied(key):
    return make(GPT, key, tokens(key, 4, 5, 11))


class ViT(nnx.Module):
    def __init__(self, rngs):
        self.patches = nnx.Conv(2, 8, (2, 2), strides=2, padding="VALID", rngs=rngs)
        self.begin = nnx.Param(rngs.params.normal((1, 1, 8)))
        self.place = nnx.Param(rngs.params.normal((1, 5, 8)))
        self.blocks = nnx.List([Block(9, rngs), Block(10, rngs)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x).reshape(x.shape[0], 4, 8)
        begin = jnp.broadcast_to(self.begin[...], (x.shape[0], 1, 8))
        x = jnp.concatenate([begin, x], axis=1) + self.place[...]
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x[:, 0]))


@case("nnx/vit", [(8, 1), (2, 2), (3, 4), (3, 4), (9, 1), (10, 1)])  # stream; two layers
def vit(key):
    return make(ViT, key, normal(key, 3, 4, 4, 2))


class Mixer(nnx.Module):
    def __init__(self, rngs):
        self.patches = nnx.Linear(3, 7, rngs=rngs)
        self.norm1 = nnx.LayerNorm(7, rngs=rngs)
        self.place1 = nnx.Linear(4, 5, rngs=rngs)
        self.place2 = nnx.Linear(5, 4, rngs=rngs)
        self.norm2 = nnx.LayerNorm(7, rngs=rngs)
        self.channel1 = nnx.Linear(7, 8, rngs=rngs)
        self.channel2 = nnx.Linear(8, 7, rngs=rngs)
        self.out = nnx.Linear(7, 2, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x)
        y = self.norm1(x).swapaxes(1, 2)
        x = x + self.place2(nnx.gelu(self.place1(y))).swapaxes(1, 2)
        x = x + self.channel2(nnx.gelu(self.channel1(self.norm2(x))))
        return self.out(x)


@case("nnx/mixer", [(7, 1), (5, 1), (8, 1)])  # stream, hidden of the token and the channel mixer
def mixer(key):
    return make(Mixer, key, normal(key, 6, 4, 3))
