"""Normalisation written by hand: over units, over groups of them, over the batch."""

import jax
import jax.numpy as jnp

from .raw_conv import NCHW, conv
from .raw_draw import affine, data, draw
from .registry import case

EPS = 1e-5


@case("raw/layer_norm", group=((6, 1), (5, 1)))
def layer_norm(key):
    # S_6, S_5: mean and variance over units do not see their order; gains and shifts move along.
    def norm(p, h):
        centred = h - jnp.mean(h, axis=-1, keepdims=True)
        return centred / jnp.sqrt(jnp.var(h, axis=-1, keepdims=True) + EPS) * p["gain"] + p["shift"]

    def fn(p, x):
        h = jnp.tanh(norm(p["n0"], x @ p["a"]))
        return jnp.tanh(norm(p["n1"], h @ p["b"])) @ p["out"]

    shapes = {
        "a": (3, 6), "n0": {"gain": (6,), "shift": (6,)},
        "b": (6, 5), "n1": {"gain": (5,), "shift": (5,)}, "out": (5, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/rms_norm", group=((5, 1), (7, 1)))
def rms_norm(key):
    # S_5 stream, S_7 inside.
    def norm(gain, h):
        return h * jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=-1, keepdims=True) + EPS) * gain

    def fn(p, x):
        h = x @ p["in"]
        h = h + jax.nn.gelu(norm(p["g0"], h) @ p["up"]) @ p["down"]
        return norm(p["g1"], h) @ p["out"]

    shapes = {"in": (3, 5), "g0": (5,), "up": (5, 7), "down": (7, 5), "g1": (5,), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/unit_sphere", group=((5, 1), (4, 1)))
def unit_sphere(key):
    # S_5, S_4: hidden vectors are divided by their length, weights by theirs.
    def fn(p, x):
        h = jnp.tanh(affine(p["a"], x))
        h = h / jnp.linalg.norm(h, axis=-1, keepdims=True)
        w = p["b"] / jnp.linalg.norm(p["b"])
        return jnp.sin(5 * h @ w) @ p["out"]

    return fn, draw(key, {"a": ((3, 5), (5,)), "b": (5, 4), "out": (4, 2)}), data(key, (6, 3))


@case("raw/softmax_hidden", group=((6, 1), (4, 1)))
def softmax_hidden(key):
    # S_6: units compete in a softmax; S_4: and in a log-sum-exp with weights.
    def fn(p, x):
        h = jax.nn.softmax(affine(p["a"], x), axis=-1)
        z = jnp.sin(affine(p["b"], h))
        return jnp.stack([jax.nn.logsumexp(z + p["c"], axis=-1), z @ p["out"]], axis=-1)

    shapes = {"a": ((3, 6), (6,)), "b": ((6, 4), (4,)), "c": (4,), "out": (4,)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/group_norm_nchw", group=((3, 1), (2, 3)))
def group_norm_nchw(key):
    # 6 channels as 3 groups of 2: S_3 of the groups, S_2 within each, independently.
    def fn(p, x):
        x = conv(x, p["k"], order=NCHW)
        n, c, h, w = x.shape
        z = x.reshape(n, 3, c // 3, h, w)
        z = (z - z.mean((2, 3, 4), keepdims=True)) / jnp.sqrt(z.var((2, 3, 4), keepdims=True) + EPS)
        x = z.reshape(n, c, h, w) * p["gain"][:, None, None] + p["shift"][:, None, None]
        return jnp.mean(jnp.sin(x), axis=(2, 3)) @ p["out"]

    shapes = {"k": (6, 2, 3, 3), "gain": (6,), "shift": (6,), "out": (6, 2)}
    return fn, draw(key, shapes), data(key, (2, 2, 4, 4))


@case("raw/group_norm_residual", group=((2, 1), (3, 2), (2, 1), (4, 2)))
def group_norm_residual(key):
    # Channels last. The stream of 2 groups x 3 keeps its groups through every block; the inner
    # layer has 2 groups x 4 of its own.
    def norm(p, x):
        z = x.reshape(*x.shape[:-1], 2, -1)
        z = (z - z.mean((1, 2, 4), keepdims=True)) * jax.lax.rsqrt(
            z.var((1, 2, 4), keepdims=True) + EPS
        )
        return z.reshape(x.shape) * p["gain"] + p["shift"]

    def fn(p, x):
        x = conv(x, p["stem"])
        h = conv(jnp.tanh(norm(p["n0"], x)), p["k0"])
        x = x + conv(jnp.tanh(norm(p["n1"], h)), p["k1"])
        return jnp.mean(norm(p["n2"], x) ** 2, axis=(1, 2)) @ p["out"]

    def affine_of(n):
        return {"gain": (n,), "shift": (n,)}

    shapes = {
        "stem": (3, 3, 2, 6), "n0": affine_of(6), "k0": (3, 3, 6, 8), "n1": affine_of(8),
        "k1": (3, 3, 8, 6), "n2": affine_of(6), "out": (6, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (2, 3, 3, 2))


@case("raw/instance_norm", group=((5, 1),))
def instance_norm(key):
    # S_5: every channel is normalised by itself.
    def fn(p, x):
        x = conv(x, p["k"])
        x = (x - x.mean((1, 2), keepdims=True)) / (x.std((1, 2), keepdims=True) + EPS)
        return jnp.max(jnp.sin(x * p["gain"] + p["shift"]), axis=(1, 2)) @ p["out"]

    shapes = {"k": (3, 3, 2, 5), "gain": (5,), "shift": (5,), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (2, 4, 4, 2))


@case("raw/batch_norm_train", group=((6, 1),))
def batch_norm_train(key):
    # S_6: statistics over the batch, one of each per unit.
    def fn(p, x):
        h = x @ p["w"]
        h = (h - jnp.mean(h, 0)) / jnp.sqrt(jnp.var(h, 0) + EPS)
        return jnp.tanh(h * p["gain"] + p["shift"]) @ p["out"]

    shapes = {"w": (3, 6), "gain": (6,), "shift": (6,), "out": (6, 2)}
    return fn, draw(key, shapes), data(key, (8, 3))


@case("raw/batch_norm_eval", group=((6, 1),))
def batch_norm_eval(key):
    # S_6: the running statistics are parameters like the rest.
    def fn(p, x):
        h = (x @ p["w"] - p["mean"]) / jnp.sqrt(jnp.exp(p["log_var"]) + EPS)
        return jnp.tanh(h * p["gain"] + p["shift"]) @ p["out"]

    shapes = {
        "w": (3, 6),
        "mean": (6,),
        "log_var": (6,),
        "gain": (6,),
        "shift": (6,),
        "out": (6, 2),
    }
    return fn, draw(key, shapes), data(key, (8, 3))


@case("raw/weight_standardised", group=((5, 1), (4, 1)))
def weight_standardised(key):
    # S_5, S_4: every output channel's kernel is centred and scaled by its own statistics.
    def standard(w):
        mean = jnp.mean(w, axis=(0, 1, 2), keepdims=True)
        return (w - mean) / (jnp.std(w, axis=(0, 1, 2), keepdims=True) + EPS)

    def fn(p, x):
        x = jnp.tanh(conv(x, standard(p["k0"])))
        x = jnp.tanh(conv(x, standard(p["k1"])))
        return jnp.mean(x, axis=(1, 2)) @ p["out"]

    shapes = {"k0": (3, 3, 2, 5), "k1": (3, 3, 5, 4), "out": (4, 2)}
    return fn, draw(key, shapes), data(key, (2, 4, 4, 2))


@case("raw/dueling_heads", group=((6, 1), (4, 1)))
def dueling_heads(key):
    # S_6 hidden; S_4 of the advantage's hidden layer; actions are outputs.
    def fn(p, x):
        h = jnp.tanh(affine(p["in"], x))
        advantage = jnp.tanh(affine(p["a"], h)) @ p["action"]
        return h @ p["value"] + advantage - jnp.mean(advantage, axis=-1, keepdims=True)

    shapes = {"in": ((3, 6), (6,)), "a": ((6, 4), (4,)), "action": (4, 3), "value": (6, 1)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/mixture_density", group=((5, 1), (4, 1)))
def mixture_density(key):
    # S_5 hidden; S_4 of the mixture's components, whose likelihood is a sum over them.
    def fn(p, x, y):
        h = jnp.tanh(affine(p["in"], x))
        log_weight = jax.nn.log_softmax(h @ p["weight"], axis=-1)
        mean = jnp.einsum("bh,hkd->bkd", h, p["mean"])
        log_scale = jnp.einsum("bh,hkd->bkd", h, p["scale"])
        z = (y[:, None, :] - mean) * jnp.exp(-log_scale)
        return jax.nn.logsumexp(log_weight - jnp.sum(log_scale + z**2 / 2, axis=-1), axis=-1)

    shapes = {"in": ((3, 5), (5,)), "weight": (5, 4), "mean": (5, 4, 2), "scale": (5, 4, 2)}
    return fn, draw(key, shapes), data(key, (6, 3), (6, 2))
