"""Attention in linen."""

import flax.linen as nn
import jax.numpy as jnp

from .linen_common import make, normal
from .registry import case


def attend(heads: int, size: int, out: int | None = None, **options) -> nn.Module:
    return nn.MultiHeadDotProductAttention(
        num_heads=heads, qkv_features=heads * size, out_features=out, **options
    )


class Attention(nn.Module):
    causal: bool = False
    normalize: bool = False

    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(x[..., 0]) if self.causal else None
        return attend(2, 5, 3, normalize_qk=self.normalize)(x, mask=mask)


# heads; in each head the dims of queries and keys, and those of values, independently.
# A key bias adds the same to all logits of a query, which softmax ignores.
@case(
    "linen/attention",
    [(2, 1), (5, 2), (5, 2)],
    exceptions=("MultiHeadDotProductAttention_0/key/bias",),
)
def attention(key):
    return make(Attention(), key, normal(key, 3, 4, 6))


@case(
    "linen/attention_causal",
    [(2, 1), (5, 2), (5, 2)],  # the mask concerns places only
    exceptions=("MultiHeadDotProductAttention_0/key/bias",),
)
def attention_causal(key):
    return make(Attention(causal=True), key, normal(key, 3, 4, 6))


# one norm scale of 5 serves the queries of all heads, one the keys: their dims are shared by the
# heads, those of the values are not; normalised keys feel their bias
@case("linen/attention_normalized", [(2, 1), (5, 1), (5, 2)])
def attention_normalized(key):
    return make(Attention(normalize=True), key, normal(key, 3, 4, 6))


class Cross(nn.Module):
    @nn.compact
    def __call__(self, x, context, valid):
        x = nn.Dense(7)(x)
        context = nn.Dense(5)(context)
        mask = nn.make_attention_mask(jnp.ones(x.shape[:2], bool), valid)
        return attend(3, 2, 4, use_bias=False)(x, context, mask=mask)


# two streams; three heads of two q/k dims and two v dims
@case("linen/attention_cross", [(7, 1), (5, 1), (3, 1), (2, 3), (2, 3)])
def attention_cross(key):
    valid = jnp.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 1]], bool)
    return make(Cross(), key, normal(key, 3, 4, 3), normal(key, 3, 5, 2), valid)


class Perceiver(nn.Module):
    """Learned queries read the input; what they found is averaged."""

    @nn.compact
    def __call__(self, x):
        latents = self.param("latents", nn.initializers.normal(1.0), (4, 6))
        z = jnp.broadcast_to(latents, (x.shape[0], 4, 6))
        z = z + attend(2, 3, 6, use_bias=False)(z, nn.Dense(7)(x))
        z = z + nn.Dense(6)(nn.gelu(nn.Dense(9)(nn.LayerNorm()(z))))
        return nn.Dense(2)(nn.LayerNorm()(z).mean(1))


# the latent queries themselves permute (4); stream, read stream, heads, their dims, hidden
@case("linen/perceiver", [(4, 1), (6, 1), (7, 1), (2, 1), (3, 2), (3, 2), (9, 1)])
def perceiver(key):
    return make(Perceiver(), key, normal(key, 3, 5, 2))


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021) on patches."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(7, (2, 2), strides=2, padding="VALID")(x)
        x = x.reshape(x.shape[0], -1, 7)
        for places, channels in ((5, 8), (6, 10)):
            y = nn.LayerNorm()(x).swapaxes(1, 2)
            y = nn.Dense(x.shape[1])(nn.gelu(nn.Dense(places)(y)))
            x = x + y.swapaxes(1, 2)
            x = x + nn.Dense(7)(nn.gelu(nn.Dense(channels)(nn.LayerNorm()(x))))
        return nn.Dense(3)(nn.LayerNorm()(x).mean(1))


@case(
    "linen/mixer",
    # stream; hidden units of two token and two channel mixers; places are those of the image
    [(7, 1), (5, 1), (8, 1), (6, 1), (10, 1)],
    # they add the same to all channels of a place, which every later norm takes away
    exceptions=("Dense_0/bias", "Dense_4/bias"),
)
def mixer(key):
    return make(Mixer(), key, normal(key, 3, 6, 4, 2))
