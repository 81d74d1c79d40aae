"""Convolutional networks in nnx."""

import jax.numpy as jnp
from flax import nnx

from .linen_common import normal
from .nnx_common import make
from .registry import case


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(2, 6, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.Conv(6, 10, (3, 3), kernel_dilation=2, rngs=rngs)
        self.out = nnx.Linear(2 * 2 * 10, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.elu(self.first(x)), (2, 2), strides=(1, 1), padding="SAME")
        x = nnx.avg_pool(nnx.elu(self.second(x)), (2, 2), strides=(2, 2))
        return self.out(x.reshape(x.shape[0], -1))


@case("nnx/cnn", [(6, 1), (10, 1)])  # channels of each layer; rows of the last kernel: (_ _ c)
def cnn(key):
    return make(CNN, key, normal(key, 3, 8, 8, 2))


class ResBlock(nnx.Module):
    def __init__(self, inside, middle, out, stride, rngs, train):
        def norm(n):
            return nnx.BatchNorm(n, use_running_average=not train, rngs=rngs)

        self.conv1 = nnx.Conv(inside, middle, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm1 = norm(middle)
        self.conv2 = nnx.Conv(middle, out, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = norm(out)
        self.shortcut = nnx.data(None)
        if inside != out:
            self.shortcut = nnx.Conv(inside, out, (1, 1), strides=stride, rngs=rngs)

    def __call__(self, x):
        h = self.norm2(self.conv2(nnx.relu(self.norm1(self.conv1(x)))))
        return nnx.relu(h + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    def __init__(self, rngs, train):
        self.stem = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.blocks = nnx.List(
            [ResBlock(6, 8, 6, 1, rngs, train), ResBlock(6, 9, 10, 2, rngs, train)]
        )
        self.out = nnx.Linear(10, 3, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean((1, 2)))


@case("nnx/resnet_eval", [(6, 1), (8, 1), (9, 1), (10, 1)])  # two streams, the middle of two blocks
def resnet_eval(key):
    return make(lambda r: ResNet(r, False), key, normal(key, 3, 6, 6, 2))


@case(
    "nnx/resnet_train",
    [(6, 1), (8, 1), (9, 1), (10, 1)],  # as in evaluation
    exceptions=tuple(
        f"blocks/{b}/norm{n}/{s}" for b in (0, 1) for n in (1, 2) for s in ("mean", "var")
    ),  # written in training, not read
)
def resnet_train(key):
    return make(lambda r: ResNet(r, True), key, normal(key, 3, 6, 6, 2))


class UNet(nnx.Module):
    def __init__(self, rngs):
        self.down = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
        self.bottom = nnx.Conv(4, 9, (3, 3), strides=2, rngs=rngs)
        self.up = nnx.ConvTranspose(9, 6, (2, 2), strides=(2, 2), rngs=rngs)
        self.merge = nnx.GroupNorm(10, num_groups=5, rngs=rngs)
        self.out = nnx.Conv(10, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        a = nnx.swish(self.norm(self.down(x)))
        u = self.up(nnx.swish(self.bottom(a)))
        return self.out(nnx.swish(self.merge(jnp.concatenate([a, u], -1))))


# a is 2 groups of 2, for its own norm and as the first two groups of the merged norm;
# u is the other three groups of 2; the bottom is free
@case("nnx/unet_groupnorm", [(2, 1), (2, 2), (9, 1), (3, 1), (2, 3)])
def unet_groupnorm(key):
    return make(UNet, key, normal(key, 3, 4, 4, 2))


class MobileNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(2, 5, (3, 3), rngs=rngs)
        self.expand = nnx.Conv(5, 12, (1, 1), rngs=rngs)
        self.depthwise = nnx.Conv(12, 12, (3, 3), feature_group_count=12, rngs=rngs)
        self.squeeze = nnx.Linear(12, 3, rngs=rngs)
        self.excite = nnx.Linear(3, 12, rngs=rngs)
        self.project = nnx.Conv(12, 5, (1, 1), rngs=rngs)
        self.out = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        h = nnx.swish(self.depthwise(nnx.swish(self.expand(x))))
        gate = nnx.sigmoid(self.excite(nnx.swish(self.squeeze(h.mean((1, 2), keepdims=True)))))
        x = x + self.project(h * gate)
        return self.out(nnx.swish(x).mean((1, 2)))


@case("nnx/mobilenet_se", [(5, 1), (12, 1), (3, 1)])  # stream, expansion, squeezed
def mobilenet(key):
    return make(MobileNet, key, normal(key, 3, 5, 5, 2))


class Grouped(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(2, 6, (3,), rngs=rngs)
        self.second = nnx.Conv(6, 12, (3,), feature_group_count=2, rngs=rngs)
        self.third = nnx.Conv(12, 12, (3,), feature_group_count=6, rngs=rngs)
        self.out = nnx.Linear(12, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.tanh(self.third(nnx.tanh(self.second(nnx.tanh(self.first(x))))))
        return self.out(x.mean(1))


# groups nest: 2 groups, of 3 channels going in; of 3 smaller groups coming out, each of which
# takes 2 channels to 2
@case("nnx/grouped_nested", [(2, 1), (3, 2), (3, 2), (2, 6), (2, 6)])
def grouped_nested(key):
    return make(Grouped, key, normal(key, 3, 6, 2))
