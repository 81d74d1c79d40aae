"""Residual and concatenating convolutional networks in linen."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from .linen_common import make, normal
from .registry import case

conv = functools.partial(nn.Conv, kernel_size=(3, 3), use_bias=False)


class ResNet(nn.Module):
    """Two stages; the second halves the resolution and widens the stream."""

    norm: str = "batch"
    train: bool = False
    shortcut: str = "project"

    @nn.compact
    def __call__(self, x):
        def norm():
            if self.norm == "batch":
                return nn.BatchNorm(use_running_average=not self.train)
            return nn.GroupNorm(num_groups=2 if self.norm == "group" else None, group_size=None)

        x = nn.relu(norm()(conv(6)(x)))
        h = nn.relu(norm()(conv(8)(x)))
        x = nn.relu(x + norm()(conv(6)(h)))
        h = nn.relu(norm()(conv(12, strides=2)(x)))
        h = norm()(conv(10)(h))
        if self.shortcut == "project":
            x = norm()(conv(10, kernel_size=(1, 1), strides=2)(x))
        else:
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, 4)))
        x = nn.relu(x + h)
        return nn.Dense(3)(x.mean((1, 2)))


# two residual streams and the middle of each of two blocks
@case("linen/resnet_batchnorm_eval", [(6, 1), (8, 1), (12, 1), (10, 1)])
def resnet_eval(key):
    return make(ResNet(), key, normal(key, 3, 6, 6, 2))


@case(
    "linen/resnet_batchnorm_train",
    [(6, 1), (8, 1), (12, 1), (10, 1)],  # as in evaluation
    # in training the stored statistics are written and not read
    exceptions=tuple(f"batch_stats/BatchNorm_{i}/{s}" for i in range(6) for s in ("mean", "var")),
)
def resnet_train(key):
    return make(ResNet(train=True), key, normal(key, 3, 6, 6, 2), mutable=["batch_stats"])


# the six channels of the first stream run on; the four that were padded are units of their own
@case("linen/resnet_padded", [(6, 1), (8, 1), (12, 1), (4, 1)])
def resnet_padded(key):
    return make(ResNet(shortcut="pad"), key, normal(key, 3, 6, 6, 2))


# every axis is (2 groups, channels per group): the groups of one stream permute, and the
# channels inside each group independently; a middle layer is not tied to the stream
@case(
    "linen/resnet_groupnorm",
    [(2, 1), (3, 2), (2, 1), (4, 2), (2, 1), (6, 2), (2, 1), (5, 2)],
)
def resnet_groupnorm(key):
    return make(ResNet(norm="group"), key, normal(key, 3, 6, 6, 2))


class Instance(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.InstanceNorm()(nn.Conv(5, (3, 3))(x)))
        x = nn.relu(nn.InstanceNorm()(nn.Conv(6, (3, 3))(x)))
        return nn.Dense(2)(x.mean((1, 2)))


@case(
    "linen/instance_norm",
    [(5, 1), (6, 1)],  # channels are normalised one by one
    exceptions=("Conv_0/bias", "Conv_1/bias"),  # each channel's mean is subtracted
)
def instance_norm(key):
    return make(Instance(), key, normal(key, 3, 5, 5, 2))


class DenseNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(5, (3, 3))(x)
        for _ in range(2):
            h = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            x = jnp.concatenate([x, nn.Conv(4, (3, 3))(h)], axis=-1)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.avg_pool(nn.Conv(6, (1, 1))(x), (2, 2), strides=(2, 2))
        return nn.Dense(3)(nn.tanh(x).mean((1, 2)))


@case("linen/densenet", [(5, 1), (4, 1), (4, 1), (6, 1)])  # a+b, then a+b+c, then a transition
def densenet(key):
    return make(DenseNet(), key, normal(key, 3, 6, 6, 2))


class UNet(nn.Module):
    groups: int = 0
    up: int = 7

    @nn.compact
    def __call__(self, x):
        a = nn.relu(nn.Conv(4, (3, 3))(x))
        b = nn.relu(nn.Conv(9, (3, 3))(nn.max_pool(a, (2, 2), strides=(2, 2))))
        u = nn.ConvTranspose(self.up, (2, 2), strides=(2, 2))(b)
        x = jnp.concatenate([a, u], axis=-1)
        if self.groups:
            x = nn.GroupNorm(num_groups=self.groups)(x)
        x = nn.relu(nn.Conv(5, (3, 3))(x))
        return nn.Conv(2, (1, 1))(x)


@case("linen/unet", [(4, 1), (9, 1), (7, 1), (5, 1)])  # encoder, bottom, upsampled, decoder
def unet(key):
    return make(UNet(), key, normal(key, 3, 6, 6, 2))


# 4 groups over a+u = 4+4: two groups of two lie in each half
@case("linen/unet_groupnorm", [(2, 1), (2, 2), (9, 1), (2, 1), (2, 2), (5, 1)])
def unet_groupnorm(key):
    return make(UNet(groups=4, up=4), key, normal(key, 3, 6, 6, 2))


# 2 groups over a+u = 4+6: {a, u0} and {u1..u5}; so u0 stands alone and the other five permute
@case("linen/unet_groupnorm_cut", [(4, 1), (9, 1), (5, 1), (5, 1)])
def unet_groupnorm_cut(key):
    return make(UNet(groups=2, up=6), key, normal(key, 3, 6, 6, 2))


class MobileNet(nn.Module):
    """Inverted residual with a squeeze-and-excitation gate (Howard et al. 2019)."""

    @nn.compact
    def __call__(self, x):
        def norm():
            return nn.BatchNorm(use_running_average=True)

        x = norm()(nn.Conv(5, (3, 3), strides=2, use_bias=False)(x))
        h = nn.hard_swish(norm()(nn.Conv(12, (1, 1), use_bias=False)(x)))
        h = nn.hard_swish(norm()(conv(12, feature_group_count=12)(h)))
        s = nn.swish(nn.Dense(3)(h.mean((1, 2))))
        h = h * nn.sigmoid(nn.Dense(12)(s))[:, None, None, :]
        x = x + norm()(nn.Conv(5, (1, 1), use_bias=False)(h))
        return nn.Dense(4)(nn.relu(x).mean((1, 2)))


@case("linen/mobilenet_se", [(5, 1), (12, 1), (3, 1)])  # stream, expansion, squeezed
def mobilenet(key):
    return make(MobileNet(), key, normal(key, 5, 6, 6, 2))


class ConvNeXt(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Conv(6, (2, 2), strides=2, padding="VALID")(x))
        gamma = self.param("gamma", nn.initializers.ones, (6,))
        h = nn.LayerNorm()(conv(6, feature_group_count=6, use_bias=True)(x))
        x = x + gamma * nn.Dense(6)(nn.gelu(nn.Dense(11)(h)))
        return nn.Dense(3)(nn.LayerNorm()(x.mean((1, 2))))


@case("linen/convnext", [(6, 1), (11, 1)])  # stream (also of the depthwise kernel), hidden
def convnext(key):
    return make(ConvNeXt(), key, normal(key, 3, 6, 6, 2))
