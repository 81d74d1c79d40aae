"""Transformers in linen."""

import flax.linen as nn
import jax.numpy as jnp

from .linen_attention import attend
from .linen_common import make, normal, tokens
from .registry import case


class Feedforward(nn.Module):
    hidden: int
    gated: bool = False

    @nn.compact
    def __call__(self, x):
        bias = not self.gated
        h = nn.Dense(self.hidden, use_bias=bias)(x)
        if self.gated:
            h = nn.silu(h) * nn.Dense(self.hidden, use_bias=bias)(x)
        else:
            h = nn.gelu(h)
        return nn.Dense(x.shape[-1], use_bias=bias)(h)


class PreNorm(nn.Module):
    """Two heads of 3, then a feedforward layer, each on a normalised stream."""

    hidden: int
    norm: type[nn.Module] = nn.LayerNorm
    gated: bool = False

    @nn.compact
    def __call__(self, x, mask=None):
        width = x.shape[-1]
        x = x + attend(2, 3, width, use_bias=False)(self.norm()(x), mask=mask)
        return x + Feedforward(self.hidden, self.gated)(self.norm()(x))


class Encoder(nn.Module):
    norm: type[nn.Module] = nn.LayerNorm
    gated: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        for hidden in (9, 10):
            x = PreNorm(hidden, self.norm, self.gated)(x)
        return nn.Dense(2)(self.norm()(x).mean(1))


# stream; in each of two layers: heads, q/k dims, v dims, hidden
ENCODER = [(8, 1), (2, 2), (3, 4), (3, 4), (9, 1), (10, 1)]


@case("linen/transformer_pre_norm", ENCODER)
def pre_norm(key):
    return make(Encoder(), key, normal(key, 3, 4, 3))


@case("linen/transformer_rms_swiglu", ENCODER)  # gate and value kernels share the hidden units
def rms_swiglu(key):
    return make(Encoder(norm=nn.RMSNorm, gated=True), key, normal(key, 3, 4, 3))


class PostNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Dense(6)(x))
        x = nn.LayerNorm()(x + attend(3, 2, 6)(x))
        x = nn.LayerNorm()(x + Feedforward(9)(x))
        return nn.Dense(2)(x)


@case(
    "linen/transformer_post_norm",
    [(6, 1), (3, 1), (2, 3), (2, 3), (9, 1)],  # stream, heads, their dims, hidden
    exceptions=("MultiHeadDotProductAttention_0/key/bias",),
)
def post_norm(key):
    return make(PostNorm(), key, normal(key, 3, 4, 3))


class ViT(nn.Module):
    """Class token, position embedding and register tokens (Darcet et al. 2024)."""

    registers: int = 0

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), strides=2, padding="VALID", name="patches")(x)
        x = x.reshape(x.shape[0], -1, 8)
        begin = self.param("class", nn.initializers.normal(1.0), (1, 1, 8))
        x = jnp.concatenate([jnp.broadcast_to(begin, (x.shape[0], 1, 8)), x], axis=1)
        x = x + self.param("position", nn.initializers.normal(0.5), (1, x.shape[1], 8))
        if self.registers:
            more = self.param("registers", nn.initializers.normal(1.0), (self.registers, 8))
            more = jnp.broadcast_to(more, (x.shape[0], self.registers, 8))
            x = jnp.concatenate([x, more], axis=1)
        x = PreNorm(10)(x)
        return nn.Dense(3)(nn.LayerNorm()(x)[:, 0])


@case("linen/vit", [(8, 1), (2, 1), (3, 2), (3, 2), (10, 1)])  # stream, heads, dims, hidden
def vit(key):
    return make(ViT(), key, normal(key, 3, 4, 4, 2))


# as the ViT; and the registers, which have no place, permute
@case("linen/vit_registers", [(3, 1), (8, 1), (2, 1), (3, 2), (3, 2), (10, 1)])
def vit_registers(key):
    return make(ViT(registers=3), key, normal(key, 3, 4, 4, 2))


class GPT(nn.Module):
    tied: bool = True

    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(11, 8)
        place = self.param("position", nn.initializers.normal(0.5), (ids.shape[1], 8))
        x = embed(ids) + place
        x = PreNorm(10)(x, mask=nn.make_causal_mask(ids))
        x = nn.LayerNorm()(x)
        return embed.attend(x) if self.tied else nn.Dense(11, use_bias=False)(x)


@case("linen/gpt_tied", [(8, 1), (2, 1), (3, 2), (3, 2), (10, 1)])  # words are inputs and outputs
def gpt_tied(key):
    return make(GPT(), key, tokens(key, 4, 5, 11))


@case("linen/gpt_untied", [(8, 1), (2, 1), (3, 2), (3, 2), (10, 1)])  # the same stream twice
def gpt_untied(key):
    return make(GPT(tied=False), key, tokens(key, 4, 5, 11))
