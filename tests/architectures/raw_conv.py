"""Convolutional networks in plain JAX, channels first and channels last."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import data, draw
from .registry import case

NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")


def conv(x, w, stride=1, padding="SAME", order=NHWC, **kw):
    """Two-dimensional convolution."""
    return lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=order, **kw)


def max_pool(x, window, strides):
    """Maximum over windows; ``window`` and ``strides`` have one entry for each axis."""
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")


@case("raw/conv_nhwc_stride", group=((6, 1), (5, 1)))
def conv_nhwc_stride(key):
    # S_6 x S_5 of the channels; a global mean forgets places, kernels do not.
    def fn(p, x):
        x = jax.nn.silu(conv(x, p["k0"]) + p["b0"])
        x = jax.nn.silu(conv(x, p["k1"], stride=2) + p["b1"])
        return jnp.mean(x, axis=(1, 2)) @ p["out"]

    shapes = {"k0": (3, 3, 2, 6), "b0": (6,), "k1": (3, 3, 6, 5), "b1": (5,), "out": (5, 3)}
    return fn, draw(key, shapes), data(key, (2, 6, 6, 2))


@case("raw/conv_nchw_dilated", group=((6, 1), (5, 1)))
def conv_nchw_dilated(key):
    # S_6 x S_5, channels first, dilated kernels, global maximum.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["k0"], order=NCHW) + p["b0"][:, None, None])
        x = conv(x, p["k1"], padding="VALID", order=NCHW, rhs_dilation=(2, 2))
        return jnp.max(x + p["b1"].reshape(1, -1, 1, 1), axis=(2, 3)) @ p["out"]

    shapes = {"k0": (6, 2, 3, 3), "b0": (6,), "k1": (5, 6, 3, 3), "b1": (5,), "out": (5, 3)}
    return fn, draw(key, shapes), data(key, (4, 2, 7, 7))


@case("raw/conv_pools_flatten_nchw", group=((6, 1), (5, 1)))
def conv_pools_flatten_nchw(key):
    # S_6 x S_5: after flattening channels first, dense rows are "(c _4)".
    def fn(p, x):
        x = max_pool(jnp.tanh(conv(x, p["k0"], order=NCHW)), (1, 1, 2, 2), (1, 1, 2, 2))
        x = jnp.tanh(conv(x, p["k1"], order=NCHW))
        x = lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4
        return x.reshape(x.shape[0], -1) @ p["out"]

    shapes = {"k0": (6, 2, 3, 3), "k1": (5, 6, 3, 3), "out": (20, 3)}
    return fn, draw(key, shapes), data(key, (3, 2, 8, 8))


@case("raw/conv_flatten_nhwc", group=((6, 1), (5, 1), (7, 1)))
def conv_flatten_nhwc(key):
    # S_6, S_5 channels, S_7 dense: after flattening channels last, dense rows are "(_4 c)".
    def fn(p, x):
        x = max_pool(jax.nn.leaky_relu(conv(x, p["k0"]) + p["b0"]), (1, 2, 2, 1), (1, 2, 2, 1))
        x = max_pool(jax.nn.leaky_relu(conv(x, p["k1"]) + p["b1"]), (1, 2, 2, 1), (1, 2, 2, 1))
        return jnp.tanh(jnp.ravel(x).reshape(x.shape[0], -1) @ p["dense"]) @ p["out"]

    shapes = {
        "k0": (3, 3, 2, 6), "b0": (6,), "k1": (3, 3, 6, 5), "b1": (5,),
        "dense": (20, 7), "out": (7, 3),
    }  # fmt: skip
    return fn, draw(key, shapes, 0.25), data(key, (4, 8, 8, 2))


@case("raw/conv_transpose", group=((5, 1), (4, 1)))
def conv_transpose(key):
    # S_5 of the latent channels, S_4 between the two ways to spell a transposed convolution.
    def fn(p, z):
        x = jnp.tanh((z @ p["in"]).reshape(-1, 2, 2, 5))
        x = jnp.tanh(lax.conv_transpose(x, p["k0"], (2, 2), "SAME") + p["b0"])
        return conv(x, p["k1"], padding=[(1, 1), (1, 1)], lhs_dilation=(2, 2))

    shapes = {"in": (3, 20), "k0": (3, 3, 5, 4), "b0": (4,), "k1": (3, 3, 4, 2)}
    return fn, draw(key, shapes), data(key, (3, 3))


@case("raw/resnet_pad_shortcut", group=((4, 1), (3, 1), (5, 1), (6, 1)))
def resnet_pad_shortcut(key):
    # Stream of 4, then (strided, zero-padded) 4 + 3: the padded channels are interchangeable;
    # S_5 and S_6 inside the blocks.
    def fn(p, x):
        x = conv(x, p["stem"])
        x = x + conv(jnp.tanh(conv(x, p["a0"])), p["a1"])
        skip = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, 3)))
        x = skip + conv(jnp.tanh(conv(x, p["b0"], stride=2)), p["b1"])
        return jnp.mean(jnp.tanh(x), axis=(1, 2)) @ p["out"]

    shapes = {
        "stem": (3, 3, 2, 4), "a0": (3, 3, 4, 5), "a1": (3, 3, 5, 4),
        "b0": (3, 3, 4, 6), "b1": (3, 3, 6, 7), "out": (7, 3),
    }  # fmt: skip
    return fn, draw(key, shapes, 0.4), data(key, (2, 6, 6, 2))


@case("raw/resnet_option_a", group=((4, 1), (4, 1), (5, 1)))
def resnet_option_a(key):
    # As published for CIFAR: 2 zero channels before and 2 after the stream, interchangeable: S_4.
    def fn(p, x):
        x = conv(x, p["stem"], order=NCHW)
        skip = jnp.pad(x[:, :, ::2, ::2], ((0, 0), (2, 2), (0, 0), (0, 0)))
        body = jnp.tanh(conv(x, p["b0"], stride=2, order=NCHW))
        x = skip + conv(body, p["b1"], order=NCHW)
        return jnp.einsum("bchw,co->bo", jnp.tanh(x), p["out"])

    shapes = {"stem": (4, 2, 3, 3), "b0": (5, 4, 3, 3), "b1": (8, 5, 3, 3), "out": (8, 3)}
    return fn, draw(key, shapes, 0.4), data(key, (2, 2, 6, 6))


@case("raw/resnet_projected", group=((4, 1), (5, 1), (6, 1)))
def resnet_projected(key):
    # S_4 stem, S_5 inside, S_6 of the projected stream.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["stem"]))
        x = conv(x, p["skip"], stride=2) + conv(jnp.tanh(conv(x, p["b0"], stride=2)), p["b1"])
        return jnp.mean(jnp.tanh(x), axis=(1, 2)) @ p["out"]

    shapes = {
        "stem": (3, 3, 2, 4), "b0": (3, 3, 4, 5), "b1": (3, 3, 5, 6),
        "skip": (1, 1, 4, 6), "out": (6, 3),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (2, 6, 6, 2))


@case("raw/densenet", group=((4, 1), (3, 1), (5, 1)))
def densenet(key):
    # S_4, S_3, S_5: pieces of the concatenated channels move one by one, the inputs' 2 not at all.
    def fn(p, x):
        for name in ("k0", "k1", "k2"):
            x = jnp.concatenate([x, jnp.tanh(conv(x, p[name]))], axis=-1)
        return jnp.mean(x**2, axis=(1, 2)) @ p["out"]

    shapes = {"k0": (3, 3, 2, 4), "k1": (3, 3, 6, 3), "k2": (3, 3, 9, 5), "out": (14, 3)}
    return fn, draw(key, shapes), data(key, (2, 4, 4, 2))


@case("raw/unet", group=((3, 1), (5, 1), (4, 1), (6, 1)))
def unet(key):
    # Down 3, bottom 5, up 4; the skip puts 4 + 3 beside each other; 6 before the output.
    def fn(p, x):
        down = jnp.tanh(conv(x, p["down"], order=NCHW))
        bottom = max_pool(down, (1, 1, 2, 2), (1, 1, 2, 2))
        bottom = jnp.tanh(conv(bottom, p["bottom"], order=NCHW))
        up = jnp.repeat(jnp.repeat(bottom, 2, axis=2), 2, axis=3)
        up = jnp.tanh(conv(up, p["up"], order=NCHW))
        x = jnp.tanh(conv(jnp.concatenate([up, down], axis=1), p["mix"], order=NCHW))
        return conv(x, p["out"], order=NCHW)

    shapes = {
        "down": (3, 2, 3, 3), "bottom": (5, 3, 3, 3), "up": (4, 5, 3, 3),
        "mix": (6, 7, 3, 3), "out": (2, 6, 1, 1),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (2, 2, 4, 4))


@case("raw/temporal_conv", group=((4, 1), (5, 1)))
def temporal_conv(key):
    # S_4 of the residual stream, S_5 inside; causal, dilated, reversed in time on the way.
    def fn(p, x):
        h = x @ p["in"]
        for dilation, name in ((1, "k0"), (2, "k1")):
            z = lax.conv_general_dilated(
                h, p[name], (1,), [(2 * dilation, 0)],
                rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC"),
            )  # fmt: skip
            h = jnp.flip(h + jnp.tanh(z), axis=1)
        h = jnp.roll(h, 1, axis=1)
        return jnp.sin(h @ p["mix"]) @ p["out"]

    shapes = {"in": (2, 4), "k0": (3, 4, 4), "k1": (3, 4, 4), "mix": (4, 5), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (2, 7, 2))


@case("raw/pixel_shuffle", group=((3, 1), (5, 1)))
def pixel_shuffle(key):
    # S_5 before; S_3 of the channels after 12 channels become 2 x 2 places of 3 ("c _2 _2").
    def fn(p, x):
        x = jnp.tanh(conv(x, p["k0"], order=NCHW))
        x = conv(x, p["k1"], order=NCHW)
        n, _, h, w = x.shape
        x = x.reshape(n, 3, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, 3, 2 * h, 2 * w)
        return conv(jnp.tanh(x), p["k2"], order=NCHW)

    shapes = {"k0": (5, 2, 3, 3), "k1": (12, 5, 3, 3), "k2": (2, 3, 3, 3)}
    return fn, draw(key, shapes), data(key, (2, 2, 3, 3))


@case("raw/resize_bilinear", group=((4, 1), (5, 1)))
def resize_bilinear(key):
    # S_4 x S_5: interpolation acts on places only.
    def fn(p, x):
        x = jnp.tanh(conv(x, p["k0"]))
        x = jax.image.resize(x, (x.shape[0], 6, 6, 4), "bilinear")
        x = jnp.sin(conv(x, p["k1"], stride=2))
        return jnp.max(x, axis=(1, 2)) @ p["out"]

    shapes = {"k0": (3, 3, 2, 4), "k1": (3, 3, 4, 5), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (4, 3, 3, 2))
