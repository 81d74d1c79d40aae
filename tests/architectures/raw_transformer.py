"""Whole transformers and mixers in plain JAX."""

import jax
import jax.numpy as jnp

from .raw_attention import attend
from .raw_attention_positions import rotate_halves
from .raw_draw import affine, data, draw
from .registry import case

T, V, D = 5, 7, 6  # tokens, vocabulary, width of the residual stream


def norm(p, x):
    """Layer norm with gain and shift."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * p["gain"] + p["shift"]


def rms(gain, x):
    """RMS norm."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * gain


def heads(x, w, n=2):
    """``x @ w`` as ``n`` heads."""
    return (x @ w).reshape(x.shape[0], n, -1)


def attention(p, x, causal=False):
    """Two heads, projections stored as matrices."""
    q, k, v = (heads(x, p[n]) for n in "qkv")
    return attend(q, k, v, causal=causal).reshape(x.shape[0], -1) @ p["o"]


ATTENTION = {"q": (D, 6), "k": (D, 6), "v": (D, 8), "o": (8, D)}  # q/k dims 3, v dims 4
NORM = {"gain": (D,), "shift": (D,)}
MLP = {"up": ((D, 5), (5,)), "down": ((5, D), (D,))}
BLOCK = {"n0": NORM, "attention": ATTENTION, "n1": NORM, "mlp": MLP}


def mlp(p, x):
    """Two dense layers."""
    return affine(p["down"], jax.nn.gelu(affine(p["up"], x)))


def pre_norm_block(p, x, causal=False):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""
    x = x + attention(p["attention"], norm(p["n0"], x), causal)
    return x + mlp(p["mlp"], norm(p["n1"], x))


# Per block: S_2 of the heads, S_3^2 of q/k dims, S_4^2 of v dims, S_5 of the MLP.
ONE, TWO = ((2, 1), (3, 2), (4, 2), (5, 1)), ((2, 2), (3, 4), (4, 4), (5, 2))


def tokens():
    """Every token of the vocabulary in one sequence, one of them twice."""
    return jnp.array([3, 0, 5, 1, 6, 4, 2, 0])


@case("raw/gpt_tied", group=((D, 1), *TWO))
def gpt_tied(key):
    # S_6 of the residual stream through embedding, both blocks and the tied readout.
    def fn(p, ids):
        x = p["wte"][ids] + p["wpe"][: ids.shape[0]]
        for block in p["blocks"]:
            x = pre_norm_block(block, x, causal=True)
        return norm(p["final"], x) @ p["wte"].T

    shapes = {"wte": (V, D), "wpe": (8, D), "blocks": [BLOCK, BLOCK], "final": NORM}
    return fn, draw(key, shapes), (tokens(),)


@case("raw/gpt_one_hot", group=((D, 1), *ONE))
def gpt_one_hot(key):
    # The same with one-hot embedding, a table of positions added by arange, a separate readout.
    def fn(p, ids):
        x = jax.nn.one_hot(ids, V, dtype=p["wte"].dtype) @ p["wte"]
        x = x + jnp.take(p["wpe"], jnp.arange(ids.shape[0]), axis=0)
        x = pre_norm_block(p["block"], x, causal=True)
        return jax.nn.log_softmax(norm(p["final"], x) @ p["head"], axis=-1)

    shapes = {"wte": (V, D), "wpe": (8, D), "block": BLOCK, "final": NORM, "head": (D, V)}
    return fn, draw(key, shapes), (tokens(),)


@case("raw/post_norm", group=((D, 1), *TWO))
def post_norm(key):
    # S_6 stream, norms after the sums.
    def fn(p, x):
        x = x @ p["in"]
        for block in p["blocks"]:
            x = norm(block["n0"], x + attention(block["attention"], x))
            x = norm(block["n1"], x + mlp(block["mlp"], x))
        return jnp.mean(x, axis=0) @ p["out"]

    return fn, draw(key, {"in": (3, D), "blocks": [BLOCK, BLOCK], "out": (D, 2)}), data(key, (T, 3))


@case("raw/parallel_block", group=((D, 1), *ONE))
def parallel_block(key):
    # Attention and MLP read one norm and are added at once.
    def fn(p, x):
        x = x @ p["in"]
        z = norm(p["block"]["n0"], x)
        x = x + attention(p["block"]["attention"], z) + mlp(p["block"]["mlp"], z)
        return x @ p["out"]

    block = {"n0": NORM, "attention": ATTENTION, "mlp": MLP}
    return fn, draw(key, {"in": (3, D), "block": block, "out": (D, 2)}), data(key, (T, 3))


@case("raw/gpt_fused_projection", group=((D, 1), (2, 1), (3, 2), (3, 2), (5, 1)))
def gpt_fused_projection(key):
    # One kernel makes queries, keys, values, gate and up: "(H q)+(H q)+(H v)+m+m"; one closes.
    def fn(p, x):
        x = x @ p["in"]
        q, k, v, gate, up = jnp.split(rms(p["gain"], x) @ p["fused"], [6, 12, 18, 23], axis=-1)
        q, k, v = (z.reshape(T, 2, 3) for z in (q, k, v))
        z = jnp.concatenate([attend(q, k, v).reshape(T, -1), jax.nn.silu(gate) * up], axis=-1)
        return (x + z @ p["close"]) @ p["out"]

    shapes = {"in": (3, D), "gain": (D,), "fused": (D, 28), "close": (11, D), "out": (D, 2)}
    return fn, draw(key, shapes), data(key, (T, 3))


@case("raw/llama", group=((D, 1), (2, 2), (2, 4), (3, 4), (5, 2)))
def llama(key):
    # Per block: S_2 of the key groups, S_2^2 of the query heads in each, S_3^2 of v dims (q/k dims
    # are pinned by the rotation), S_5 of SwiGLU with gate and up packed; S_6 stream.
    def block(p, x):
        z = rms(p["g0"], x)
        q, k = rotate_halves(heads(z, p["q"], 4)), rotate_halves(heads(z, p["k"], 2))
        k, v = jnp.repeat(k, 2, axis=1), jnp.repeat(heads(z, p["v"], 2), 2, axis=1)
        x = x + attend(q, k, v, causal=True).reshape(x.shape[0], -1) @ p["o"]
        gate, up = jnp.split(rms(p["g1"], x) @ p["gate_up"], 2, axis=-1)
        return x + (jax.nn.silu(gate) * up) @ p["down"]

    def fn(p, ids):
        x = p["embed"][ids]
        for layer in p["layers"]:
            x = block(layer, x)
        return rms(p["gain"], x) @ p["head"]

    layer = {
        "g0": (D,), "q": (D, 16), "k": (D, 8), "v": (D, 6), "o": (12, D),
        "g1": (D,), "gate_up": (D, 10), "down": (5, D),
    }  # fmt: skip
    shapes = {"embed": (V, D), "layers": [layer, layer], "gain": (D,), "head": (D, V)}
    return fn, draw(key, shapes), (tokens(),)


@case("raw/vit", group=((D, 1), *ONE))
def vit(key):
    # Patches, class token and positions are written into one stream of S_6.
    def fn(p, image):
        patches = image.reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(4, 12)
        x = jnp.concatenate([p["class"], patches @ p["patch"]], axis=0) + p["position"]
        x = norm(p["final"], pre_norm_block(p["block"], x))
        return affine(p["head"], x[0])

    shapes = {
        "class": (1, D), "patch": (12, D), "position": (T, D), "block": BLOCK,
        "final": NORM, "head": ((D, 2), (2,)),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (4, 4, 3))


@case("raw/mlp_mixer", group=((D, 1), (4, 2), (7, 2)))
def mlp_mixer(key):
    # S_6 stream; per block S_4 hidden over tokens and S_7 over channels; tokens are places.
    def fn(p, x):
        x = x @ p["in"]
        for block in p["blocks"]:
            z = norm(block["n0"], x)
            x = x + (block["token_down"] @ jax.nn.gelu(block["token_up"] @ z))
            x = x + jax.nn.gelu(norm(block["n1"], x) @ block["up"]) @ block["down"]
        return jnp.mean(norm(p["final"], x), axis=0) @ p["out"]

    block = {
        "n0": NORM, "token_up": (4, T), "token_down": (T, 4),
        "n1": NORM, "up": (D, 7), "down": (7, D),
    }  # fmt: skip
    shapes = {"in": (3, D), "blocks": [block, block], "final": NORM, "out": (D, 2)}
    return fn, draw(key, shapes), data(key, (T, 3))


@case("raw/encoder_decoder", group=((D, 1), (4, 1), (2, 2), (3, 4), (4, 4), (5, 1)))
def encoder_decoder(key):
    # Streams of 4 (encoder) and 6 (decoder); decoder has self- and cross-attention and an MLP.
    def fn(p, source, target):
        memory = jnp.tanh(affine(p["source"], source))
        x = target @ p["target"]
        x = x + attention(p["self"], norm(p["n0"], x), causal=True)
        q = heads(norm(p["n1"], x), p["cross"]["q"])
        k, v = heads(memory, p["cross"]["k"]), heads(memory, p["cross"]["v"])
        x = x + attend(q, k, v).reshape(x.shape[0], -1) @ p["cross"]["o"]
        return (x + mlp(p["mlp"], norm(p["n2"], x))) @ p["out"]

    cross = {"q": (D, 6), "k": (4, 6), "v": (4, 8), "o": (8, D)}
    shapes = {
        "source": ((2, 4), (4,)), "target": (3, D), "self": ATTENTION, "cross": cross, "mlp": MLP,
        "n0": NORM, "n1": NORM, "n2": NORM, "out": (D, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (6, 2), (T, 3))
