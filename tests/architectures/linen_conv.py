"""Plain convolutional networks in linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .linen_common import make, normal
from .registry import case


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3), strides=2)(x))
        x = nn.max_pool(x, (2, 2), strides=(1, 1))
        x = nn.tanh(nn.Conv(10, (3, 2), kernel_dilation=2)(x))
        x = nn.avg_pool(x, (2, 2), strides=(2, 1), padding="SAME")
        return nn.Dense(4)(x.reshape(x.shape[0], -1))


@case("linen/cnn", [(6, 1), (10, 1)])  # channels of each layer; rows of the dense kernel: (_ _ c)
def cnn(key):
    return make(CNN(), key, normal(key, 3, 8, 8, 2))


class Global(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(nn.Conv(5, (3, 3), padding="CIRCULAR")(x))
        x = nn.elu(nn.Conv(7, (3, 3), padding="VALID")(x))
        return nn.Dense(3)(jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], axis=-1))


@case("linen/cnn_global", [(5, 1), (7, 1)])  # mean and max pooling repeat the channels: c+c
def cnn_global(key):
    return make(Global(), key, normal(key, 4, 6, 6, 2))


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, z):
        x = nn.tanh(nn.Dense(24)(z)).reshape(-1, 2, 2, 6)
        x = nn.tanh(nn.ConvTranspose(10, (3, 3), strides=(2, 2))(x))
        return nn.ConvTranspose(2, (2, 2), strides=(2, 2), transpose_kernel=True)(x)


@case("linen/conv_transpose", [(6, 1), (10, 1)])  # places are pinned by the image that comes out
def conv_transpose(key):
    return make(Decoder(), key, normal(key, 6, 3))


class WaveNet(nn.Module):
    """Causal dilated convolutions with packed gates, residual and skip streams."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(5, (1,))(x)
        skip = 0.0
        for dilation in (1, 2):
            h = nn.Conv(8, (2,), kernel_dilation=dilation, padding="CAUSAL")(x)
            a, b = jnp.split(h, 2, axis=-1)
            h = nn.tanh(a) * nn.sigmoid(b)
            skip = skip + nn.Conv(7, (1,))(h)
            x = x + nn.Conv(5, (1,))(h)
        return nn.Conv(2, (1,))(nn.relu(skip))


@case(
    "linen/wavenet",
    [(5, 1), (4, 2), (7, 1)],  # residual stream; gated units of two layers; skip stream
    exceptions=("Conv_6/kernel", "Conv_6/bias"),  # the last residual branch feeds nothing
)
def wavenet(key):
    return make(WaveNet(), key, normal(key, 3, 9, 2))


class SubPixel(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(12, (3, 3))(x)
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, 3)
        return nn.Conv(2, (3, 3))(nn.tanh(x))


@case("linen/sub_pixel", [(3, 1)])  # (_2 _2 c): four of the axes become places
def sub_pixel(key):
    return make(SubPixel(), key, normal(key, 3, 4, 4, 2))


class SpaceToDepth(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(3, (3, 3))(x))
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
        x = nn.Conv(6, (1, 1))(x.reshape(b, h // 2, w // 2, 4 * c))
        return nn.Dense(2)(nn.gelu(x).mean((1, 2)))


@case("linen/space_to_depth", [(3, 1), (6, 1)])  # kernel rows are (_2 _2 c)
def space_to_depth(key):
    return make(SpaceToDepth(), key, normal(key, 3, 4, 6, 2))


class Depthwise(nn.Module):
    multiplier: int

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(5, (1, 1))(x))
        channels = 5 * self.multiplier
        x = nn.tanh(nn.Conv(channels, (3, 3), feature_group_count=5)(x))
        return nn.Dense(3)(x.mean((1, 2)))


@case("linen/depthwise", [(5, 1)])  # each channel is filtered alone: one set goes through
def depthwise(key):
    return make(Depthwise(1), key, normal(key, 3, 5, 5, 2))


@case("linen/depthwise_multiplier", [(5, 1), (2, 5)])  # two filters inside each channel
def depthwise_multiplier(key):
    return make(Depthwise(2), key, normal(key, 3, 5, 5, 2))


class ResNeXt(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(7, (3, 3))(x)
        h = nn.tanh(nn.Conv(9, (1, 1))(x))
        h = nn.tanh(nn.Conv(12, (3, 3), feature_group_count=3)(h))
        x = x + nn.Conv(7, (1, 1))(h)
        return nn.Dense(3)(nn.gelu(x).mean((1, 2)))


# stream; three groups; within each, three channels before and four after the grouped convolution
@case("linen/resnext", [(7, 1), (3, 1), (3, 3), (4, 3)])
def resnext(key):
    return make(ResNeXt(), key, normal(key, 3, 5, 5, 2))


def shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Channel shuffle of ShuffleNet (Zhang et al. 2018): transposes (groups, channels)."""
    shape = x.shape
    x = x.reshape(*shape[:-1], groups, shape[-1] // groups)
    return x.swapaxes(-1, -2).reshape(shape)


class Shuffle(nn.Module):
    residual: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3))(x)
        h = nn.tanh(x)
        h = shuffle(nn.tanh(nn.Conv(8, (1, 1), feature_group_count=2)(h)), 2)
        h = nn.tanh(nn.Conv(8, (3, 3), feature_group_count=8)(h))
        h = nn.Conv(6, (1, 1), feature_group_count=2)(h)
        x = x + h if self.residual else h
        return nn.Dense(3)(nn.tanh(x).mean((1, 2)))


# The 8 middle channels are (a, b, 2): a the group of the first convolution, b that of the second.
# In: groups a with 3 channels each. Out: groups b with 3 channels each. Middle: 2 for each (a, b).
@case("linen/shufflenet_plain", [(2, 1), (3, 2), (2, 1), (3, 2), (2, 4)])
def shufflenet_plain(key):
    return make(Shuffle(residual=False), key, normal(key, 3, 5, 5, 2))


# The shortcut adds the groups b of the output to the groups a of the input: one set of 2 groups.
@case("linen/shufflenet", [(2, 1), (3, 2), (2, 4)])
def shufflenet(key):
    return make(Shuffle(residual=True), key, normal(key, 3, 5, 5, 2))


class Local(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(5, (3,))(x))
        x = nn.tanh(nn.ConvLocal(4, (3,))(x))
        return nn.Dense(2)(x.mean(1))


@case("linen/conv_local", [(5, 1), (4, 1)])  # kernel rows are (c _3): channels at every place
def conv_local(key):
    return make(Local(), key, normal(key, 3, 6, 2))
