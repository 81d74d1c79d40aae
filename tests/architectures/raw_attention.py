"""Attention over a set of tokens in plain JAX: projections split, merged, packed, shared.

Inputs and outputs are fixed, so only heads and what is inside them can move. T tokens of width 5.
"""

import jax
import jax.numpy as jnp

from .raw_draw import affine, data, draw
from .registry import case

T, D = 4, 5


def attend(q, k, v, bias=0.0, causal=False):
    """``(T, H, k), (S, H, k), (S, H, v) -> (T, H, v)``."""
    scores = jnp.einsum("thk,shk->hts", q, k) / q.shape[-1] ** 0.5 + bias
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -1e30)
    return jnp.einsum("hts,shv->thv", jax.nn.softmax(scores, axis=-1), v)


@case("raw/attention_split", group=((2, 1), (3, 2), (4, 2)), exceptions=("bk",))
def attention_split(key):
    # S_2 of the heads; S_3 of the query/key dims and S_4 of the value dims of each head. The key
    # bias adds the same to all scores of a query: a null direction.
    def fn(p, x):
        q, k, v = (
            jnp.einsum("td,dhk->thk", x, p[w]) + p[b]
            for w, b in (("q", "bq"), ("k", "bk"), ("v", "bv"))
        )
        return jnp.einsum("thv,hvd->td", attend(q, k, v), p["o"])

    shapes = {
        "q": (D, 2, 3), "bq": (2, 3), "k": (D, 2, 3), "bk": (2, 3),
        "v": (D, 2, 4), "bv": (2, 4), "o": (2, 4, D),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/attention_merged", group=((2, 1), (3, 2), (4, 2)))
def attention_merged(key):
    # The same group; projections stored as d x (H k).
    def fn(p, x):
        q, k, v = ((x @ p[n]).reshape(T, 2, -1) for n in "qkv")
        return attend(q, k, v, causal=True).reshape(T, -1) @ p["o"]

    return fn, draw(key, {"q": (D, 6), "k": (D, 6), "v": (D, 8), "o": (8, D)}), data(key, (T, D))


@case("raw/attention_batched_transposed", group=((2, 1), (3, 2), (4, 2)))
def attention_batched_transposed(key):
    # The same group; a batch axis, heads moved before tokens, weights stored output first.
    def fn(p, x):
        def heads(w):
            z = jnp.einsum("btd,ed->bte", x, w)
            return z.reshape(*z.shape[:2], 2, -1).transpose(0, 2, 1, 3)

        q, k, v = heads(p["q"]), heads(p["k"]), heads(p["v"])
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) * 3**-0.5, axis=-1)
        return (weights @ v).transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1) @ p["o"].T

    return fn, draw(key, {"q": (6, D), "k": (6, D), "v": (8, D), "o": (D, 8)}), data(key, (2, T, D))


# One packed projection: heads move together, but the dims of values do not go with those of keys.
PACKED = ((2, 1), (3, 2), (3, 2))


def _packed(unpack, kernel, **kw):
    """``build``: a single projection of x by ``kernel``; ``unpack`` gives q, k, v."""

    def build(key):
        def fn(p, x):
            z = jnp.tensordot(x, p["qkv"], 1) + p["b"]
            return attend(*unpack(z), **kw).reshape(T, -1) @ p["o"]

        shapes = {"qkv": kernel, "b": kernel[1:], "o": (6, D)}
        return fn, draw(key, shapes), data(key, (T, D))

    return build


# Flat, split in three: "_ (H q[H])+(H q[H])+(H v[H])". The bias holds a key
# bias, so it is excepted here and below.
case("raw/qkv_flat_split", group=PACKED, exceptions=("b",))(
    _packed(lambda z: [u.reshape(T, 2, 3) for u in jnp.split(z, 3, axis=-1)], (D, 18))
)

# Flat, reshaped to (3, H, D), transposed and indexed.
case("raw/qkv_flat_indexed", group=PACKED, exceptions=("b",))(
    _packed(
        lambda z: tuple(
            u[i] for u in [z.reshape(T, 3, 2, 3).transpose(1, 0, 2, 3)] for i in range(3)
        ),
        (D, 18),
    )
)

# A kernel with an axis of 3, unpacked by unstacking it.
case("raw/qkv_kernel_axis", group=PACKED, exceptions=("b",))(
    _packed(lambda z: tuple(jnp.moveaxis(z, 1, 0)), (D, 3, 2, 3))
)

# A kernel with an axis of 3, indexed in place, causal.
case("raw/qkv_kernel_indexed", group=PACKED, exceptions=("b",))(
    _packed(lambda z: (z[:, 0], z[:, 1], z[:, 2]), (D, 3, 2, 3), causal=True)
)

# Packed within each head, (H, 3 D): "_ (H q[H]+q[H]+v[H])".
case("raw/qkv_within_head", group=PACKED, exceptions=("b",))(
    _packed(lambda z: jnp.split(z.reshape(T, 2, 9), 3, axis=-1), (D, 18))
)

# Packed within each dim, (H, D, 3): the axis of 3 innermost.
case("raw/qkv_innermost", group=PACKED, exceptions=("b",))(
    _packed(lambda z: [z.reshape(T, 2, 3, 3)[..., i] for i in range(3)], (D, 18))
)


@case("raw/kv_packed", group=((2, 1), (3, 2), (3, 2), (4, 1)))
def kv_packed(key):
    # Cross-attention: queries from x, keys and values packed, from an embedded context (S_4).
    def fn(p, x, context):
        context = jnp.tanh(affine(p["context"], context))
        k, v = jnp.split(context @ p["kv"], 2, axis=-1)
        q, k, v = (z.reshape(-1, 2, 3) for z in (x @ p["q"], k, v))
        return attend(q, k, v).reshape(T, 6) @ p["o"]

    shapes = {"context": ((2, 4), (4,)), "q": (D, 6), "kv": (4, 12), "o": (6, D)}
    return fn, draw(key, shapes), data(key, (T, D), (6, 2))


@case("raw/multi_query", group=((2, 1), (3, 1), (4, 1)))
def multi_query(key):
    # All heads share one set of keys and values, so S_3 and S_4 once.
    def fn(p, x):
        q, k, v = jnp.einsum("td,dhk->thk", x, p["q"]), x @ p["k"], x @ p["v"]
        weights = jax.nn.softmax(jnp.einsum("thk,sk->hts", q, k), axis=-1)
        return jnp.einsum("hts,sv,hvd->td", weights, v, p["o"])

    shapes = {"q": (D, 2, 3), "k": (D, 3), "v": (D, 4), "o": (2, 4, D)}
    return fn, draw(key, shapes), data(key, (T, D))


GROUPED = {"q": (D, 18), "k": (D, 6), "v": (D, 8), "o": (24, D)}


@case("raw/grouped_query_repeat", group=((2, 1), (3, 2), (3, 2), (4, 2)))
def grouped_query_repeat(key):
    # 2 groups of 3 query heads: S_2; in each, S_3 of heads, S_3 of q/k dims, S_4 of v dims.
    def fn(p, x):
        q, k, v = (
            (x @ p["q"]).reshape(T, 6, 3),
            (x @ p["k"]).reshape(T, 2, 3),
            (x @ p["v"]).reshape(T, 2, 4),
        )
        k, v = jnp.repeat(k, 3, axis=1), jnp.repeat(v, 3, axis=1)
        return attend(q, k, v).reshape(T, -1) @ p["o"]

    return fn, draw(key, GROUPED), data(key, (T, D))


@case("raw/grouped_query_einsum", group=((2, 1), (3, 2), (3, 2), (4, 2)))
def grouped_query_einsum(key):
    # The same group, an axis for the group and one for the head within it.
    def fn(p, x):
        q = (x @ p["q"]).reshape(T, 2, 3, 3)
        k, v = (x @ p["k"]).reshape(T, 2, 3), (x @ p["v"]).reshape(T, 2, 4)
        weights = jax.nn.softmax(jnp.einsum("tgrk,sgk->grts", q, k), axis=-1)
        return jnp.einsum("grts,sgv->tgrv", weights, v).reshape(T, -1) @ p["o"]

    return fn, draw(key, GROUPED), data(key, (T, D))


@case("raw/grouped_query_broadcast", group=((2, 1), (3, 2), (3, 2), (4, 2)))
def grouped_query_broadcast(key):
    # The same group, shared keys broadcast to the query heads and merged with them.
    def fn(p, x):
        def shared(z):
            z = z.reshape(T, 2, 1, -1)
            return jnp.broadcast_to(z, (T, 2, 3, z.shape[-1])).reshape(T, 6, -1)

        q, k, v = (x @ p["q"]).reshape(T, 6, 3), shared(x @ p["k"]), shared(x @ p["v"])
        return attend(q, k, v).reshape(T, -1) @ p["o"]

    return fn, draw(key, GROUPED), data(key, (T, D))


@case("raw/dot_product_attention", group=((2, 1), (3, 2), (3, 2)))
def dot_product_attention(key):
    # jax.nn's own function; S_2, S_3^2 of q/k dims, S_3^2 of v dims.
    def fn(p, x):
        q, k, v = (jnp.einsum("btd,dhk->bthk", x, p[n]) for n in "qkv")
        return jnp.einsum(
            "bthv,hvd->btd", jax.nn.dot_product_attention(q, k, v, is_causal=True), p["o"]
        )

    shapes = {"q": (D, 2, 3), "k": (D, 2, 3), "v": (D, 2, 3), "o": (2, 3, D)}
    return fn, draw(key, shapes), data(key, (2, T, D))


@case("raw/dot_product_attention_grouped", group=((2, 1), (2, 2), (3, 2), (3, 2)))
def dot_product_attention_grouped(key):
    # jax.nn's own function with 2 shared key heads for 4 query heads.
    def fn(p, x):
        q, k, v = (jnp.einsum("btd,dhk->bthk", x, p[n]) for n in "qkv")
        return jnp.einsum("bthv,hvd->btd", jax.nn.dot_product_attention(q, k, v), p["o"])

    shapes = {"q": (D, 4, 3), "k": (D, 2, 3), "v": (D, 2, 3), "o": (4, 3, D)}
    return fn, draw(key, shapes), data(key, (2, T, D))


@case("raw/latent_attention", group=((4, 1), (2, 1), (3, 2), (3, 2)))
def latent_attention(key):
    # Keys and values are expanded from a shared latent of 4: S_4; then heads, q/k dims, v dims.
    def fn(p, x):
        latent = x @ p["down"]
        q = jnp.einsum("td,dhk->thk", x, p["q"])
        k, v = jnp.einsum("tr,rhk->thk", latent, p["k"]), jnp.einsum("tr,rhk->thk", latent, p["v"])
        return attend(q, k, v).reshape(T, -1) @ p["o"]

    shapes = {"down": (D, 4), "q": (D, 2, 3), "k": (4, 2, 3), "v": (4, 2, 3), "o": (6, D)}
    return fn, draw(key, shapes), data(key, (T, D))


@case("raw/talking_heads", group=((2, 1), (3, 2), (4, 1), (2, 1), (5, 2)))
def talking_heads(key):
    # 2 query heads (3 dims) are mixed into 4 softmaxes, those into 2 value heads (5 dims).
    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        scores = jnp.einsum("tik,sik,ij->jts", q, k, p["before"])
        weights = jnp.einsum("jts,jm->mts", jax.nn.softmax(scores, axis=-1), p["after"])
        return jnp.einsum("mts,smv,mvd->td", weights, v, p["o"])

    shapes = {
        "q": (D, 2, 3), "k": (D, 2, 3), "before": (2, 4), "after": (4, 2),
        "v": (D, 2, 5), "o": (2, 5, D),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (T, D))
