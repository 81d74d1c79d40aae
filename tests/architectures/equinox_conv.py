"""Convolutional networks in equinox: channels first, one image at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.random import split

from .equinox_common import make, make_stateful
from .linen_common import normal
from .registry import case


class CNN(eqx.Module):
    layers: list

    def __init__(self, key):
        k1, k2, k3 = split(key, 3)
        self.layers = [
            eqx.nn.Conv2d(2, 6, 3, stride=2, padding=1, key=k1),
            jax.nn.elu,
            eqx.nn.MaxPool2d(2, 1),
            eqx.nn.Conv2d(6, 10, 2, dilation=2, padding="SAME", padding_mode="REFLECT", key=k2),
            jnp.tanh,
            eqx.nn.AvgPool2d(2, 1, padding=1),
            jnp.ravel,
            eqx.nn.Linear(10 * 5 * 5, 4, key=k3),
        ]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@case("equinox/cnn", [(6, 1), (10, 1)])  # channels; columns of the last weight are (c _5 _5)
def cnn(key):
    return make(CNN, key, normal(key, 3, 2, 10, 10))


class Global(eqx.Module):
    layers: eqx.nn.Sequential

    def __init__(self, key):
        k1, k2, k3 = split(key, 3)
        self.layers = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(2, 5, 3, padding=1, padding_mode="CIRCULAR", key=k1),
                eqx.nn.Lambda(jnp.tanh),
                eqx.nn.Conv2d(5, 7, 3, key=k2),
                eqx.nn.Lambda(jax.nn.gelu),
                eqx.nn.AdaptiveMaxPool2d(1),
                eqx.nn.Lambda(jnp.ravel),
                eqx.nn.Linear(7, 3, key=k3),
            ]
        )

    def __call__(self, x):
        return self.layers(x)


@case("equinox/cnn_global", [(5, 1), (7, 1)])  # channels of each layer
def cnn_global(key):
    return make(Global, key, normal(key, 4, 2, 5, 5))


class Decoder(eqx.Module):
    dense: eqx.nn.Linear
    up1: eqx.nn.ConvTranspose2d
    up2: eqx.nn.ConvTranspose2d

    def __init__(self, key):
        k1, k2, k3 = split(key, 3)
        self.dense = eqx.nn.Linear(3, 24, key=k1)
        self.up1 = eqx.nn.ConvTranspose2d(6, 10, 3, stride=2, padding=1, key=k2)
        self.up2 = eqx.nn.ConvTranspose2d(10, 4, 2, stride=2, groups=2, key=k3)

    def __call__(self, z):
        x = jnp.tanh(self.dense(z)).reshape(6, 2, 2)
        return self.up2(jnp.tanh(self.up1(x)))


# (c _2 _2) after the dense layer; the grouped layer goes from 2 groups of 5 to 2 output groups,
# which stay in place, and so the 5 of each group permute
@case("equinox/conv_transpose", [(6, 1), (5, 2)])
def conv_transpose(key):
    return make(Decoder, key, normal(key, 6, 3))


class ResNet(eqx.Module):
    """Two residual blocks, the second with a projected shortcut."""

    convs: list
    norms: list
    out: eqx.nn.Linear

    def __init__(self, key, norm):
        keys = split(key, 7)
        shapes = [(2, 6), (6, 8), (8, 6), (6, 12), (12, 10), (6, 10)]
        self.convs = [
            eqx.nn.Conv2d(a, b, 3, padding=1, use_bias=False, key=k)
            for (a, b), k in zip(shapes, keys, strict=False)
        ]
        self.norms = [norm(b) for _, b in shapes]
        self.out = eqx.nn.Linear(10, 3, key=keys[-1])

    def __call__(self, x, state=None):
        def layer(i, x, state):
            x = self.convs[i](x)
            if state is None:
                return self.norms[i](x), None
            return self.norms[i](x, state)

        x, state = layer(0, x, state)
        h, state = layer(1, jax.nn.relu(x), state)
        h, state = layer(2, jax.nn.relu(h), state)
        x = jax.nn.relu(x + h)
        h, state = layer(3, x, state)
        h, state = layer(4, jax.nn.relu(h), state)
        x, state = layer(5, x, state)
        y = self.out(jax.nn.relu(x + h).mean((1, 2)))
        return y if state is None else (y, state)


def batch_norm(mode):
    return lambda n: eqx.nn.BatchNorm(n, "batch", mode=mode)


RESNET = [(6, 1), (8, 1), (12, 1), (10, 1)]  # two residual streams, the middle of each block


@case("equinox/resnet_eval_ema", RESNET)  # running statistics move with their channels
def resnet_eval_ema(key):
    x = normal(key, 3, 2, 5, 5)
    return make_stateful(lambda k: ResNet(k, batch_norm("ema")), key, x, inference=True)


@case("equinox/resnet_eval_batch", RESNET)  # the other bookkeeping of running statistics
def resnet_eval_batch(key):
    x = normal(key, 3, 2, 5, 5)
    return make_stateful(lambda k: ResNet(k, batch_norm("batch")), key, x, inference=True)


@case(
    "equinox/resnet_train",
    RESNET,  # statistics of the vmapped batch
    # the stored statistics of six norms are written and not read
    exceptions=tuple(f"1/{i}/{j}" for i in (1, 3, 5, 7, 9, 11) for j in (0, 1)),
)
def resnet_train(key):
    x = normal(key, 3, 2, 5, 5)
    return make_stateful(lambda k: ResNet(k, batch_norm("batch")), key, x, inference=False)


# each axis is (2 groups, channels per group); channels permute within each group independently
@case(
    "equinox/resnet_groupnorm",
    [(2, 1), (3, 2), (2, 1), (4, 2), (2, 1), (6, 2), (2, 1), (5, 2)],
)
def resnet_groupnorm(key):
    build = lambda k: ResNet(k, lambda n: eqx.nn.GroupNorm(2, n))  # noqa: E731
    return make(build, key, normal(key, 3, 2, 5, 5))


class UNet(eqx.Module):
    down: eqx.nn.Conv2d
    bottom: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose2d
    out: eqx.nn.Conv2d

    def __init__(self, key):
        k1, k2, k3, k4 = split(key, 4)
        self.down = eqx.nn.Conv2d(2, 4, 3, padding=1, key=k1)
        self.bottom = eqx.nn.Conv2d(4, 9, 3, padding=1, key=k2)
        self.up = eqx.nn.ConvTranspose2d(9, 7, 2, stride=2, key=k3)
        self.out = eqx.nn.Conv2d(11, 2, 3, padding=1, key=k4)

    def __call__(self, x):
        a = jnp.tanh(self.down(x))
        b = jnp.tanh(self.bottom(eqx.nn.AvgPool2d(2, 2)(a)))
        u = jnp.tanh(self.up(b))
        return self.out(jnp.concatenate([u, a], axis=0))


@case("equinox/unet", [(4, 1), (9, 1), (7, 1)])  # encoder, bottom, upsampled: u+a
def unet(key):
    return make(UNet, key, normal(key, 3, 2, 6, 6))


class MobileNet(eqx.Module):
    expand: eqx.nn.Conv2d
    depthwise: eqx.nn.Conv2d
    grouped: eqx.nn.Conv2d
    squeeze: eqx.nn.Conv2d
    excite: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3, k4, k5, k6 = split(key, 6)
        self.expand = eqx.nn.Conv2d(2, 6, 1, key=k1)
        self.depthwise = eqx.nn.Conv2d(6, 12, 3, groups=6, key=k2)
        self.grouped = eqx.nn.Conv2d(12, 9, 1, groups=3, key=k3)
        self.squeeze = eqx.nn.Conv2d(9, 4, 1, key=k4)
        self.excite = eqx.nn.Conv2d(4, 9, 1, key=k5)
        self.out = eqx.nn.Linear(9, 3, key=k6)

    def __call__(self, x):
        x = jax.nn.silu(self.grouped(jax.nn.silu(self.depthwise(jax.nn.silu(self.expand(x))))))
        gate = self.excite(jax.nn.silu(self.squeeze(x.mean((1, 2), keepdims=True))))
        return self.out((x * jax.nn.sigmoid(gate)).mean((1, 2)))


# 6 channels with 2 filters each; the 3 groups of the grouped layer hold 2 channels each (and so
# 4 filters), and give 3 channels each; 4 squeezed
@case("equinox/mobilenet_se", [(3, 1), (2, 3), (2, 6), (3, 3), (4, 1)])
def mobilenet(key):
    return make(MobileNet, key, normal(key, 3, 2, 4, 4))
