"""Attention and transformers in equinox: one sequence at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.random import split

from .equinox_common import make
from .linen_common import normal, tokens
from .registry import case


class Attention(eqx.Module):
    attend: eqx.nn.MultiheadAttention
    rotate: eqx.nn.RotaryPositionalEmbedding | None
    causal: bool

    def __init__(self, key, causal=False, bias=False, qk=4, rotary=False):
        self.attend = eqx.nn.MultiheadAttention(
            num_heads=2,
            query_size=6,
            output_size=5,
            qk_size=qk,
            vo_size=3,
            use_query_bias=bias,
            use_key_bias=bias,
            use_value_bias=bias,
            use_output_bias=bias,
            key=key,
        )
        self.rotate = eqx.nn.RotaryPositionalEmbedding(qk, theta=50.0) if rotary else None
        self.causal = causal

    def heads(self, q, k, v):
        if self.rotate is None:
            return q, k, v
        rotate = jax.vmap(self.rotate, in_axes=1, out_axes=1)
        return rotate(q), rotate(k), v

    def __call__(self, x):
        mask = jnp.tril(jnp.ones((len(x), len(x)), bool)) if self.causal else None
        return self.attend(x, x, x, mask=mask, process_heads=self.heads)


@case("equinox/attention", [(2, 1), (4, 2), (3, 2)])  # heads; q/k dims and v dims of each head
def attention(key):
    return make(Attention, key, normal(key, 3, 4, 6))


@case(
    "equinox/attention_causal_bias",
    [(2, 1), (4, 2), (3, 2)],  # the mask concerns places only
    exceptions=("attend/key_proj/bias",),  # adds the same to all logits of a query
)
def attention_causal(key):
    return make(lambda k: Attention(k, causal=True, bias=True), key, normal(key, 3, 4, 6))


# rotary frequencies tell the q/k dims apart; heads and v dims stay free
@case("equinox/attention_rotary", [(2, 1), (3, 2)])
def attention_rotary(key):
    return make(lambda k: Attention(k, rotary=True), key, normal(key, 3, 5, 6))


class Cross(eqx.Module):
    query: eqx.nn.Linear
    context: eqx.nn.Linear
    attend: eqx.nn.MultiheadAttention
    out: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3, k4 = split(key, 4)
        self.query = eqx.nn.Linear(3, 8, key=k1)
        self.context = eqx.nn.Linear(2, 5, key=k2)
        self.attend = eqx.nn.MultiheadAttention(4, 8, 5, 5, key=k3)
        self.out = eqx.nn.Linear(8, 2, key=k4)

    def __call__(self, x, context):
        x, context = jax.vmap(self.query)(x), jax.vmap(self.context)(context)
        return jax.vmap(self.out)(x + self.attend(x, context, context))


# two streams; four heads of two q/k and two v dims
@case("equinox/attention_cross", [(8, 1), (5, 1), (4, 1), (2, 4), (2, 4)])
def attention_cross(key):
    return make(Cross, key, normal(key, 3, 4, 3), normal(key, 3, 5, 2))


class Block(eqx.Module):
    """Pre-norm layer of width 8: two heads of 4, then a feedforward layer."""

    norm1: eqx.Module
    attend: eqx.nn.MultiheadAttention
    norm2: eqx.Module
    up: eqx.nn.Linear
    gate: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, hidden, key, norm=eqx.nn.LayerNorm):
        k1, k2, k3, k4 = split(key, 4)
        self.norm1, self.norm2 = norm(8), norm(8)
        self.attend = eqx.nn.MultiheadAttention(2, 8, key=k1)
        self.up = eqx.nn.Linear(8, hidden, use_bias=False, key=k2)
        self.gate = eqx.nn.Linear(8, hidden, use_bias=False, key=k3)
        self.down = eqx.nn.Linear(hidden, 8, key=k4)

    def __call__(self, x, mask=None):
        y = jax.vmap(self.norm1)(x)
        x = x + self.attend(y, y, y, mask=mask)
        y = jax.vmap(self.norm2)(x)
        return x + jax.vmap(lambda y: self.down(jax.nn.silu(self.gate(y)) * self.up(y)))(y)


class GPT(eqx.Module):
    shared: eqx.nn.Shared
    place: eqx.nn.Embedding
    blocks: list[Block]
    norm: eqx.nn.RMSNorm

    def __init__(self, key):
        k1, k2, k3, k4, k5 = split(key, 5)
        pair = eqx.nn.Embedding(11, 8, key=k1), eqx.nn.Linear(8, 11, use_bias=False, key=k2)
        self.shared = eqx.nn.Shared(pair, lambda p: p[1].weight, lambda p: p[0].weight)
        self.place = eqx.nn.Embedding(5, 8, key=k3)
        self.blocks = [Block(9, k4, eqx.nn.RMSNorm), Block(10, k5, eqx.nn.RMSNorm)]
        self.norm = eqx.nn.RMSNorm(8)

    def __call__(self, ids):
        embed, unembed = self.shared()
        x = jax.vmap(embed)(ids) + jax.vmap(self.place)(jnp.arange(len(ids)))
        for block in self.blocks:
            x = block(x, jnp.tril(jnp.ones((len(ids), len(ids)), bool)))
        return jax.vmap(unembed)(jax.vmap(self.norm)(x))


# stream; heads of two layers, their q/k and v dims; hidden, shared by gate and value
@case("equinox/gpt_tied", [(8, 1), (2, 2), (4, 4), (4, 4), (9, 1), (10, 1)])
def gpt_tied(key):
    return make(GPT, key, tokens(key, 4, 5, 11))


class ViT(eqx.Module):
    patches: eqx.nn.Conv2d
    begin: jax.Array
    place: jax.Array
    block: Block
    norm: eqx.nn.LayerNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3, k4, k5 = split(key, 5)
        self.patches = eqx.nn.Conv2d(2, 8, 2, stride=2, key=k1)
        self.begin = jax.random.normal(k2, (1, 8))
        self.place = jax.random.normal(k3, (5, 8))
        self.block = Block(9, k4)
        self.norm = eqx.nn.LayerNorm(8)
        self.out = eqx.nn.Linear(8, 3, key=k5)

    def __call__(self, x):
        x = self.patches(x).reshape(8, -1).T
        x = self.block(jnp.concatenate([self.begin, x]) + self.place)
        return self.out(self.norm(x[0]))


@case("equinox/vit", [(8, 1), (2, 1), (4, 2), (4, 2), (9, 1)])  # stream, heads, dims, hidden
def vit(key):
    return make(ViT, key, normal(key, 3, 2, 4, 4))


class Mixer(eqx.Module):
    """The example of equinox's documentation: channels first, norms over the whole array."""

    patches: eqx.nn.Conv2d
    norm1: eqx.nn.LayerNorm
    places: eqx.nn.MLP
    norm2: eqx.nn.LayerNorm
    channels: eqx.nn.MLP
    out: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3, k4 = split(key, 4)
        self.patches = eqx.nn.Conv2d(2, 7, 2, stride=2, key=k1)
        self.norm1 = eqx.nn.LayerNorm((7, 6))
        self.places = eqx.nn.MLP(6, 6, 5, 1, jnp.tanh, key=k2)
        self.norm2 = eqx.nn.LayerNorm((6, 7))
        self.channels = eqx.nn.MLP(7, 7, 8, 1, jnp.tanh, key=k3)
        self.out = eqx.nn.Linear(7, 3, key=k4)

    def __call__(self, x):
        x = self.patches(x).reshape(7, 6)
        x = x + jax.vmap(self.places)(self.norm1(x))
        x = x.T
        x = x + jax.vmap(self.channels)(self.norm2(x))
        return self.out(x.mean(0))


# stream (also in the norms' weights, of shape (7, 6) and (6, 7)), hidden of the two mixers
@case("equinox/mixer", [(7, 1), (5, 1), (8, 1)])
def mixer(key):
    return make(Mixer, key, normal(key, 4, 2, 4, 6))
