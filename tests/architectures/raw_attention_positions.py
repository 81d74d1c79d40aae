"""Attention that knows positions, normalises its queries, or replaces the softmax of products."""

import jax
import jax.numpy as jnp

from .raw_attention import D, T, attend
from .raw_draw import affine, data, draw
from .registry import case


def rotate_halves(x):
    """Rotary embedding of (T, H, k): dims i and i + k/2 turn by t / 10^(2 i / k)."""
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[0])[:, None] * 10.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle)[:, None].astype(x.dtype), jnp.sin(angle)[:, None].astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def rotate_neighbours(x):
    """The same with dims 2 i and 2 i + 1 paired."""
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[0])[:, None] * 10.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle)[:, None].astype(x.dtype), jnp.sin(angle)[:, None].astype(x.dtype)
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)


def rotate_by_swap(x):
    """`rotate_halves` with full-width tables, the halves swapped by a helper."""
    k = x.shape[-1]
    angle = jnp.arange(x.shape[0])[:, None] * 10.0 ** (-jnp.arange(k // 2) * 2 / k)
    angle = jnp.concatenate([angle, angle], axis=-1)[:, None].astype(x.dtype)
    swapped = jnp.concatenate([-x[..., k // 2 :], x[..., : k // 2]], axis=-1)
    return x * jnp.cos(angle) + swapped * jnp.sin(angle)


def rotate_first_two(x):
    """Rotates the first two dims only."""
    return jnp.concatenate([rotate_halves(x[..., :2]), x[..., 2:]], axis=-1)


def _rotary(rotate, width):
    """``build``: 2 heads of ``width`` rotated dims and 3 value dims; the key has a bias."""

    def build(key):
        def fn(p, x):
            q = (x @ p["q"]).reshape(T, 2, width)
            k = affine(p["k"], x).reshape(T, 2, width)
            v = (x @ p["v"]).reshape(T, 2, 3)
            return attend(rotate(q), rotate(k), v, causal=True).reshape(T, -1) @ p["o"]

        n = 2 * width
        shapes = {"q": (D, n), "k": ((D, n), (n,)), "v": (D, 6), "o": (6, D)}
        return fn, draw(key, shapes), data(key, (T, D))

    return build


# Each pair of dims turns at its own speed and each dim has its side: q/k dims are pinned. Heads are
# free, S_2, and so are their value dims, S_3^2. (A rotated key bias differs from place to place.)
ROTARY = ((2, 1), (3, 2))
case("raw/rotary_halves", group=ROTARY)(_rotary(rotate_halves, 4))
case("raw/rotary_neighbours", group=ROTARY)(_rotary(rotate_neighbours, 4))
case("raw/rotary_swap", group=ROTARY)(_rotary(rotate_by_swap, 4))

# The dims that are not rotated are free in each head: S_4^2 besides.
case("raw/rotary_partial", group=((2, 1), (3, 2), (4, 2)), exceptions=("k/1",))(
    _rotary(rotate_first_two, 6)
)


@case("raw/rotary_grouped", group=((2, 1), (2, 2), (3, 2)))
def rotary_grouped(key):
    # 2 groups of 2 query heads: S_2, S_2^2; q/k dims pinned by the rotation; S_3^2 value dims.
    def fn(p, x):
        q = rotate_halves((x @ p["q"]).reshape(T, 4, 4))
        k = rotate_halves((x @ p["k"]).reshape(T, 2, 4))
        v = (x @ p["v"]).reshape(T, 2, 3)
        k, v = jnp.repeat(k, 2, axis=1), jnp.repeat(v, 2, axis=1)
        return attend(q, k, v, causal=True).reshape(T, -1) @ p["o"]

    return fn, draw(key, {"q": (D, 16), "k": (D, 8), "v": (D, 6), "o": (12, D)}), data(key, (T, D))


@case("raw/alibi", group=((3, 4), (2, 4)))
def alibi(key):
    # Every head has its own slope, so the 4 heads are pinned; S_3 q/k dims and S_2 v dims in each.
    def fn(p, x):
        place = jnp.arange(T)
        slopes = 2.0 ** -jnp.arange(1, 5)
        bias = (slopes[:, None, None] * (place[None, :] - place[:, None])).astype(x.dtype)
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        return attend(q, k, v, bias, causal=True).reshape(T, -1) @ p["o"]

    shapes = {"q": (D, 4, 3), "k": (D, 4, 3), "v": (D, 4, 2), "o": (8, D)}
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/relative_bias", group=((3, 1), (2, 3), (4, 3)))
def relative_bias(key):
    # Learned biases per distance and head move with the heads: S_3, S_2^3, S_4^3.
    def fn(p, x):
        distance = jnp.clip(jnp.arange(T)[:, None] - jnp.arange(T), -2, 2) + 2
        bias = jnp.moveaxis(p["bias"][distance], -1, 0)
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        return jnp.einsum("thv,hvd->td", attend(q, k, v, bias), p["o"])

    shapes = {"q": (D, 3, 2), "k": (D, 3, 2), "v": (D, 3, 4), "o": (3, 4, D), "bias": (5, 3)}
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/query_key_norm", group=((2, 1), (3, 1), (4, 2)))
def query_key_norm(key):
    # Gains per dim are shared by all heads, which ties the heads' q/k dims: S_3 once; S_4^2 of v.
    def norm(z, gain):
        return z / jnp.sqrt(jnp.mean(z**2, axis=-1, keepdims=True) + 1e-6) * gain

    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        return jnp.einsum("thv,hvd->td", attend(norm(q, p["gq"]), norm(k, p["gk"]), v), p["o"])

    shapes = {
        "q": (D, 2, 3), "k": (D, 2, 3), "v": (D, 2, 4), "o": (2, 4, D), "gq": (3,), "gk": (3,),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/cosine_attention", group=((2, 1), (3, 2), (4, 2)))
def cosine_attention(key):
    # Lengths are taken within each head and a temperature is learned for each: S_2, S_3^2, S_4^2.
    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        q = q / jnp.linalg.norm(q, axis=-1, keepdims=True) * jnp.exp(p["temperature"])[:, None]
        k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)
        return jnp.einsum("thv,hvd->td", attend(q, k, v), p["o"])

    shapes = {
        "q": (D, 2, 3), "k": (D, 2, 3), "v": (D, 2, 4), "o": (2, 4, D), "temperature": (2,),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/linear_attention", group=((2, 1), (3, 2), (4, 2)))
def linear_attention(key):
    # Positive features instead of a softmax, causal by prefix sums over tokens: S_2, S_3^2, S_4^2.
    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
        memory = jnp.cumsum(jnp.einsum("thk,thv->thkv", k, v), axis=0)
        total = jnp.einsum("thk,thk->th", q, jnp.cumsum(k, axis=0))
        z = jnp.einsum("thk,thkv->thv", q, memory) / total[..., None]
        return jnp.einsum("thv,hvd->td", z, p["o"])

    shapes = {"q": (D, 2, 3), "k": (D, 2, 3), "v": (D, 2, 4), "o": (2, 4, D)}
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/additive_attention", group=((4, 1), (3, 1)))
def additive_attention(key):
    # S_4 of the comparison's hidden units, S_3 of the values.
    def fn(p, x):
        z = jnp.tanh((x @ p["q"])[:, None] + (x @ p["k"])[None] + p["b"])
        weights = jax.nn.softmax(z @ p["score"], axis=-1)
        return weights @ (x @ p["v"]) @ p["o"]

    shapes = {"q": (D, 4), "k": (D, 4), "b": (4,), "score": (4,), "v": (D, 3), "o": (3, D)}
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/graph_attention", group=((2, 1), (3, 2)))
def graph_attention(key):
    # Scores from one vector for senders, one for receivers, in each head: S_2, S_3^2.
    def fn(p, x, edges):
        h = (x @ p["w"]).reshape(T, 2, 3)
        scores = jax.nn.leaky_relu(
            (h * p["send"]).sum(-1)[None] + (h * p["receive"]).sum(-1)[:, None]
        )
        scores = jnp.where(edges[..., None] > -0.5, scores, -1e30)
        z = jnp.einsum("tsh,shk->thk", jax.nn.softmax(scores, axis=1), h)
        return jax.nn.elu(z.reshape(T, -1)) @ p["o"]

    shapes = {"w": (D, 6), "send": (2, 3), "receive": (2, 3), "o": (6, 2)}
    return fn, draw(key, shapes), data(key, (T, D), (T, T))


@case("raw/perceiver_pool", group=((3, 1), (4, 1), (2, 1), (2, 2), (5, 2)))
def perceiver_pool(key):
    # 3 learned queries of width 4 read the tokens and are averaged: S_3, S_4; heads S_2, q/k dims
    # S_2^2, v dims S_5^2.
    def fn(p, x):
        q = jnp.einsum("nd,dhk->nhk", p["latents"], p["q"])
        k, v = jnp.einsum("td,dhk->thk", x, p["k"]), jnp.einsum("td,dhk->thk", x, p["v"])
        z = p["latents"] + jnp.einsum("nhv,hvd->nd", attend(q, k, v), p["o"])
        return jnp.mean(jnp.tanh(z), axis=0) @ p["read"]

    shapes = {
        "latents": (3, 4), "q": (4, 2, 2), "k": (D, 2, 2), "v": (D, 2, 5),
        "o": (2, 5, 4), "read": (4, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/memory_slots", group=((6, 1), (3, 1)))
def memory_slots(key):
    # S_6: associative memories are read by a softmax over all of them; S_3 of their width.
    def fn(p, x):
        q = x @ p["in"]
        for _ in range(2):
            q = jax.nn.softmax(2 * q @ p["memory"].T, axis=-1) @ p["memory"]
        return q @ p["out"]

    return fn, draw(key, {"in": (D, 3), "memory": (6, 3), "out": (3, 2)}), data(key, (T, D))
