"""Vision models in linen that mix several ideas: windows, diffusion, attention over channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .linen_common import make, normal
from .registry import case


class Windows(nn.Module):
    """Shifted windows with packed q, k, v and a table of relative biases (Liu et al. 2021)."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), strides=2, padding="VALID")(x)
        b = x.shape[0]
        y = jnp.roll(nn.LayerNorm()(x), (-1, -1), axis=(1, 2))
        y = y.reshape(b, 2, 2, 2, 2, 8).transpose(0, 1, 3, 2, 4, 5).reshape(b * 4, 4, 8)
        q, k, v = (
            nn.Dense(18, use_bias=False)(y).reshape(b * 4, 4, 3, 2, 3).transpose(2, 0, 3, 1, 4)
        )
        place = np.stack(np.meshgrid([0, 1], [0, 1], indexing="ij"), -1).reshape(4, 2)
        apart = place[:, None] - place[None] + 1
        table = self.param("table", nn.initializers.normal(1.0), (9, 2))
        logits = q @ k.swapaxes(-1, -2) + table[apart[..., 0] * 3 + apart[..., 1]].transpose(
            2, 0, 1
        )
        y = (nn.softmax(logits) @ v).swapaxes(1, 2).reshape(b, 2, 2, 2, 2, 6)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 4, 4, 6)
        x = x + jnp.roll(nn.Dense(8)(y), (1, 1), axis=(1, 2))
        x = x + nn.Dense(8)(nn.gelu(nn.Dense(9)(nn.LayerNorm()(x))))
        return nn.Dense(3)(nn.LayerNorm()(x).mean((1, 2)))


# stream; heads (also of the bias table), q/k dims, v dims; hidden
@case("linen/windows", [(8, 1), (2, 1), (3, 2), (3, 2), (9, 1)])
def windows(key):
    return make(Windows(), key, normal(key, 2, 8, 8, 2))


class Diffusion(nn.Module):
    """One level of a denoising U-Net (Ho et al. 2020): time, group norms, attention, skip."""

    @nn.compact
    def __call__(self, image, time):
        angles = time[:, None] * jnp.array([0.3, 1.0, 3.0])
        t = nn.swish(nn.Dense(8)(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)))
        skip = nn.Conv(4, (3, 3))(image)

        h = nn.Conv(6, (3, 3))(nn.swish(nn.GroupNorm(2)(skip)))
        h = h + nn.Dense(6)(t)[:, None, None]
        x = nn.Dense(6)(skip) + nn.Conv(6, (3, 3))(nn.swish(nn.GroupNorm(3)(h)))

        b, height, width, _ = x.shape
        y = nn.GroupNorm(3)(x).reshape(b, height * width, 6)
        q, k, v = (nn.Dense(5, use_bias=False)(y) for _ in range(3))
        y = nn.softmax(q @ k.swapaxes(1, 2)) @ v
        x = x + nn.Dense(6)(y).reshape(x.shape)

        x = jnp.concatenate([x, skip], axis=-1)
        return nn.Conv(2, (3, 3))(nn.swish(nn.GroupNorm(5)(x)))


# time units; the skipped stream, 2 groups of 2 in both of its norms; inside, 3 groups of 2; the
# second stream, 3 groups of 2 in both of its norms; q/k dims, v dims
@case(
    "linen/diffusion_unet",
    [(8, 1), (2, 1), (2, 2), (3, 1), (2, 3), (3, 1), (2, 3), (5, 1), (5, 1)],
)
def diffusion(key):
    return make(Diffusion(), key, normal(key, 3, 4, 4, 2), jnp.array([0.2, 1.0, 2.5]))


class ChannelConv(nn.Module):
    """A gate from a convolution over neighbouring channels (ECA, Wang et al. 2020)."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(6, (3,))(x))
        gate = nn.Conv(1, (3,))(x.mean(1)[..., None])[..., 0]
        x = nn.tanh(nn.Conv(5, (3,))(x * nn.sigmoid(gate)[:, None]))
        return nn.Dense(2)(x.mean(1))


@case("linen/channel_conv", [(5, 1)])  # neighbouring channels are convolved: those six are fixed
def channel_conv(key):
    return make(ChannelConv(), key, normal(key, 4, 6, 2))


class Grouped(nn.Module):
    groups: tuple[int, int]

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(12, (3,), feature_group_count=self.groups[0])(x))
        x = nn.tanh(nn.Conv(8, (2,), feature_group_count=self.groups[1])(x))
        return nn.Dense(2)(x.mean(1))


# groups of the input channels stay in place; in each, three channels between and four after
@case("linen/grouped_input", [(6, 2), (4, 2)])
def grouped_input(key):
    return make(Grouped((2, 2)), key, normal(key, 4, 6, 4))


# 3 groups of 4 come out of the fixed input groups, 2 groups of 6 go in next: the middle group is
# cut in two, which leaves cells of 4, 2, 2, 4; after that four channels in each group
@case("linen/grouped_misaligned", [(4, 1), (2, 1), (2, 1), (4, 1), (4, 2)])
def grouped_misaligned(key):
    return make(Grouped((3, 2)), key, normal(key, 4, 6, 6))


class StochasticDepth(nn.Module):
    """Whole branches dropped for some samples, by a mask that all channels share."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3,))(x)
        for i in range(2):
            h = nn.Conv(6, (3,))(nn.tanh(nn.Conv(7 + i, (3,))(x)))
            drop = nn.Dropout(0.4, broadcast_dims=(1, 2), deterministic=False)
            x = x + drop(h, rng=jax.random.key(5 + i))
        return nn.Dense(2)(nn.tanh(x).mean(1))


@case("linen/stochastic_depth", [(6, 1), (7, 1), (8, 1)])  # stream and two hidden layers
def stochastic_depth(key):
    return make(StochasticDepth(), key, normal(key, 6, 5, 2))
