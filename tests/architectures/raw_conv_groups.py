"""Depthwise, grouped and shuffled convolutions, and networks that gate their channels."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_conv import NCHW, conv
from .raw_draw import affine, data, draw
from .registry import case


@case("raw/depthwise", group=((5, 1), (4, 1)))
def depthwise(key):
    # S_5: a channel keeps its own kernel (1 x 5 in, grouped); S_4 after the pointwise convolution.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["stem"]))
        x = jnp.tanh(conv(x, p["depth"], feature_group_count=5) + p["bias"])
        x = jnp.tanh(conv(x, p["point"]))
        return jnp.mean(x, axis=(1, 2)) @ p["out"]

    shapes = {
        "stem": (3, 3, 2, 5), "depth": (3, 3, 1, 5), "bias": (5,),
        "point": (1, 1, 5, 4), "out": (4, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (2, 4, 4, 2))


@case("raw/depth_multiplier", group=((4, 1), (3, 4)))
def depth_multiplier(key):
    # S_4; each channel has 3 kernels of its own, interchangeable within the channel: S_3^4.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["stem"]))
        x = jnp.tanh(conv(x, p["depth"], feature_group_count=4))
        return jnp.mean(x, axis=(1, 2)) @ p["out"]

    shapes = {"stem": (3, 3, 2, 4), "depth": (3, 3, 1, 12), "out": (12, 2)}
    return fn, draw(key, shapes), data(key, (2, 4, 4, 2))


@case("raw/grouped_conv", group=((3, 1), (2, 3), (4, 3)))
def grouped_conv(key):
    # S_3 of the groups; within each, S_2 of what it reads and S_4 of what it writes.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["stem"]))
        x = jnp.tanh(conv(x, p["mix"], feature_group_count=3) + p["bias"])
        return jnp.mean(x, axis=(1, 2)) @ p["out"]

    shapes = {"stem": (3, 3, 2, 6), "mix": (3, 3, 2, 12), "bias": (12,), "out": (12, 2)}
    return fn, draw(key, shapes), data(key, (2, 4, 4, 2))


@case("raw/grouped_conv_nchw_twice", group=((2, 1), (3, 2), (4, 2), (5, 2)))
def grouped_conv_nchw_twice(key):
    # Two grouped convolutions in a row keep the same 2 groups: S_2, then S_3, S_4, S_5 within each.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["stem"], order=NCHW))
        x = jnp.tanh(conv(x, p["a"], order=NCHW, feature_group_count=2))
        x = jnp.tanh(conv(x, p["b"], order=NCHW, feature_group_count=2))
        return jnp.mean(x, axis=(2, 3)) @ p["out"]

    shapes = {"stem": (6, 2, 3, 3), "a": (8, 3, 3, 3), "b": (10, 4, 3, 3), "out": (10, 2)}
    return fn, draw(key, shapes), data(key, (2, 2, 4, 4))


def _channel_shuffle(x, groups):
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).swapaxes(1, 2).reshape(n, c, h, w)


@case("raw/shufflenet", group=((2, 1), (2, 1), (3, 2), (2, 4), (5, 2)))
def shufflenet(key):
    # 8 channels written by 2 groups g are shuffled and read by 2 groups k: a channel is (g, k, t)
    # with t = 2. S_2 of g, S_2 of k, S_3 of g's inputs, S_2 of t per (g, k), S_5 of k's outputs.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["stem"], order=NCHW))
        x = jnp.tanh(conv(x, p["a"], order=NCHW, feature_group_count=2))
        x = _channel_shuffle(x, 2)
        x = jnp.tanh(conv(x, p["depth"], order=NCHW, feature_group_count=8))
        x = jnp.tanh(conv(x, p["b"], order=NCHW, feature_group_count=2))
        return jnp.mean(x, axis=(2, 3)) @ p["out"]

    shapes = {
        "stem": (6, 2, 1, 1), "a": (8, 3, 1, 1), "depth": (8, 1, 3, 3),
        "b": (10, 4, 1, 1), "out": (10, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (2, 2, 4, 4))


def _shufflenet_unit(width):
    """A residual unit: grouped convolutions around a shuffled bottleneck of ``width`` channels."""

    def build(key):
        def fn(p, x):
            x = conv(x, p["stem"], order=NCHW)
            h = jnp.tanh(conv(x, p["a"], order=NCHW, feature_group_count=2))
            x = x + conv(_channel_shuffle(h, 2), p["b"], order=NCHW, feature_group_count=2)
            return jnp.mean(jnp.tanh(x), axis=(2, 3)) @ p["out"]

        shapes = {
            "stem": (6, 2, 1, 1), "a": (width, 3, 1, 1), "b": (6, width // 2, 1, 1), "out": (6, 2),
        }  # fmt: skip
        return fn, draw(key, shapes), data(key, (2, 2, 3, 3))

    return build


# The stream is 2 groups s of 3; `a` writes bottleneck channel (g, k, t), `b` reads it as (k, t, g),
# and both g and k go with s: one S_2 moves s, g and k; S_3 in each group; S_2 of t per (g, k).
case("raw/shufflenet_unit", group=((2, 1), (3, 2), (2, 4)))(_shufflenet_unit(8))

# A bottleneck of 6 = 2 groups x 3 puts place j of group g at 2 j + g, read by group 0 below 3:
# cells (g, k) of sizes 2, 1; 1, 2. Swapping s maps cells to cells of their size: S_2, S_3^2, S_2^2.
case("raw/shufflenet_unit_uneven", group=((2, 1), (3, 2), (2, 2)))(_shufflenet_unit(6))


@case("raw/mobilenet", group=((4, 1), (7, 1), (3, 1)))
def mobilenet(key):
    # Inverted residual with squeeze and excitation: stream S_4, expanded S_7, squeezed S_3.
    def fn(p, x):
        x = conv(x, p["stem"])
        h = jax.nn.silu(conv(x, p["expand"]))
        h = jax.nn.silu(conv(h, p["depth"], feature_group_count=7))
        z = jax.nn.silu(affine(p["squeeze"], jnp.mean(h, axis=(1, 2))))
        h = h * jax.nn.sigmoid(affine(p["excite"], z))[:, None, None, :]
        x = x + conv(h, p["project"])
        return jnp.mean(jnp.tanh(x), axis=(1, 2)) @ p["out"]

    shapes = {
        "stem": (3, 3, 2, 4), "expand": (1, 1, 4, 7), "depth": (3, 3, 1, 7),
        "squeeze": ((7, 3), (3,)), "excite": ((3, 7), (7,)), "project": (1, 1, 7, 4), "out": (4, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (2, 4, 4, 2))


@case("raw/coordinate_attention", group=((5, 1), (3, 1)))
def coordinate_attention(key):
    # S_5 channels, S_3 squeezed; means along rows and along columns are stacked along places.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["stem"]))
        rows, columns = jnp.mean(x, axis=2), jnp.mean(x, axis=1)
        z = jax.nn.silu(jnp.concatenate([rows, columns], axis=1) @ p["squeeze"])
        by_row, by_column = jnp.split(z, [x.shape[1]], axis=1)
        gate = (
            jax.nn.sigmoid(by_row @ p["row"])[:, :, None]
            * jax.nn.sigmoid(by_column @ p["column"])[:, None]
        )
        return jnp.mean(x * gate, axis=(1, 2)) @ p["out"]

    shapes = {
        "stem": (3, 3, 2, 5),
        "squeeze": (5, 3),
        "row": (3, 5),
        "column": (3, 5),
        "out": (5, 2),
    }
    return fn, draw(key, shapes), data(key, (2, 4, 3, 2))


@case("raw/conv_lstm", group=((4, 1),))
def conv_lstm(key):
    # S_4 hidden channels, packed gates "c+c+c+c" on the kernels' last axis.
    def fn(p, x):
        def step(carry, frame):
            c, h = carry
            z = conv(frame, p["x"]) + conv(h, p["h"]) + p["b"]
            i, f, g, o = jnp.split(z, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (c, jax.nn.sigmoid(o) * jnp.tanh(c)), None

        zero = jnp.zeros((*x.shape[1:-1], 4), x.dtype)
        (_, h), _ = lax.scan(step, (zero, zero), x)
        return conv(h, p["out"])

    shapes = {"x": (3, 3, 2, 16), "h": (3, 3, 4, 16), "b": (16,), "out": (1, 1, 4, 2)}
    return fn, draw(key, shapes), data(key, (3, 2, 3, 3, 2))
