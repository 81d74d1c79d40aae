"""Small networks whose continuous and sign symmetries are known: what the tests of generators run on."""

import jax
import jax.numpy as jnp


def normal(seed, /, **shapes):
    """Parameters: kernels of size 0.7, biases of 0.3, gains (names with a ``g``) around one."""
    out = {}
    for key, (name, shape) in zip(
        jax.random.split(jax.random.key(seed), len(shapes)), shapes.items()
    ):
        x = jax.random.normal(key, shape, "float64")
        out[name] = x * 0.7 if len(shape) > 1 else 0.3 * x + (1.0 if name[0] == "g" else 0.0)
    return out


def inputs(*shape, seed=99):
    return jax.random.normal(jax.random.key(seed), shape, "float64")


def mlp(activation):
    def fn(p, x):
        h = activation(activation(x @ p["w0"] + p["b0"]) @ p["w1"] + p["b1"])
        return h @ p["w2"] + p["b2"]

    return fn, normal(0, w0=(3, 5), b0=(5,), w1=(5, 4), b1=(4,), w2=(4, 2), b2=(2,)), inputs(12, 3)


def leaky(v):
    return jax.nn.leaky_relu(v, 0.3)


def attention(biases, rotary=False):
    def fn(p, x):
        def heads(name):
            return jnp.einsum("td,dhk->thk", x, p[name]) + p.get("b" + name, 0)

        def turn(v):
            if not rotary:
                return v
            n = v.shape[-1] // 2
            angle = jnp.arange(len(v))[:, None, None] * jnp.asarray([1.0, 0.37])[:n]
            a, b = v[..., :n], v[..., n:]
            c, s = jnp.cos(angle), jnp.sin(angle)
            return jnp.concatenate([a * c - b * s, a * s + b * c], -1)

        scores = jnp.einsum("thk,shk->hts", turn(heads("q")), turn(heads("k"))) / 3
        mixed = jnp.einsum("hts,shk->thk", jax.nn.softmax(scores), heads("v"))
        return jnp.einsum("thk,hkd->td", mixed, p["o"]) + p.get("bo", 0)

    n = 4 if rotary else 3
    p = normal(1, q=(4, 2, n), k=(4, 2, n), v=(4, 2, 3), o=(2, 3, 4))
    if biases:
        p |= normal(2, bq=(2, n), bk=(2, n), bv=(2, 3), bo=(4,))
    return fn, p, inputs(6, 4)


def rms(v, gain, eps=0.0):
    return gain * v / jnp.sqrt(jnp.mean(v**2, -1, keepdims=True) + eps)


def transformer():
    """Pre-norm with RMSNorm, no biases: 4 dimensions, 2 heads of 2."""

    def fn(p, tokens):
        h = p["emb"][tokens]
        a = rms(h, p["g1"])
        q, k, v = (jnp.einsum("td,dhk->thk", a, p[n]) for n in "qkv")
        scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        h = h + jnp.einsum("hts,shk,hkd->td", scores, v, p["o"])
        h = h + jax.nn.gelu(rms(h, p["g2"]) @ p["w1"]) @ p["w2"]
        return rms(h, p["g3"]) @ p["head"]

    p = normal(
        3, emb=(9, 4), g1=(4,), q=(4, 2, 2), k=(4, 2, 2), v=(4, 2, 2), o=(2, 2, 4), g2=(4,),
        w1=(4, 6), w2=(6, 4), g3=(4,), head=(4, 5),
    )  # fmt: skip
    return fn, p, jnp.array([0, 3, 8, 1, 2, 5])


def batch_norm(train):
    def fn(p, x):
        h = x @ p["w0"] + p["b0"]
        mean, var = (h.mean(0), h.var(0)) if train else (p["mean"], p["var"] + 1e-3)
        return jax.nn.relu((h - mean) / jnp.sqrt(var) * p["g"] + p["s"]) @ p["w1"] + p["b1"]

    p = normal(4, w0=(3, 5), b0=(5,), g=(5,), s=(5,), w1=(5, 2), b1=(2,))
    if not train:
        p |= {"mean": 0.3 * inputs(5), "var": 1 + 0.2 * jnp.arange(5.0)}
    return fn, p, inputs(12, 3)


def layer_norm():
    def fn(p, x):
        h = x @ p["w0"] + p["b0"]
        h = h - h.mean(-1, keepdims=True)
        return jnp.tanh((rms(h, p["g"]) + p["s"]) @ p["w1"] + p["b1"]) @ p["w2"]

    p = normal(5, w0=(3, 5), b0=(5,), g=(5,), s=(5,), w1=(5, 4), b1=(4,), w2=(4, 2))
    return fn, p, inputs(12, 3)


def radial():
    def fn(p, x):
        h = x @ p["w0"] + p["b0"]
        return h * jnp.tanh(jnp.linalg.norm(h, axis=-1, keepdims=True)) @ p["w1"]

    return fn, normal(6, w0=(4, 3), b0=(3,), w1=(3, 2)), inputs(12, 4)


def gated():
    def fn(p, x):
        return (jax.nn.silu(x @ p["wg"]) * (x @ p["wv"] + p["bv"])) @ p["wo"]

    return fn, normal(7, wg=(3, 5), wv=(3, 5), bv=(5,), wo=(5, 2)), inputs(12, 3)


def classifier():
    def fn(p, x):
        return jax.nn.softmax(leaky(x @ p["w0"] + p["b0"]) @ p["w1"] + p["b1"])

    return fn, normal(9, w0=(3, 5), b0=(5,), w1=(5, 3), b1=(3,)), inputs(12, 3)


def lstm():
    def fn(p, x):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ p["wx"] + h @ p["wh"] + p["b"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros(len(p["wh"]))
        return jax.lax.scan(step, (zero, zero), x)[1] @ p["wo"]

    return fn, normal(8, wx=(3, 12), wh=(3, 12), b=(12,), wo=(3, 2)), inputs(6, 3)


def convolution():
    def fn(p, x):
        def conv(v, w):
            numbers = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(v, w, (1, 1), "SAME", dimension_numbers=numbers)

        h = leaky(conv(x, p["k0"]) + p["b0"])
        window = (1, 2, 2, 1)
        h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, window, window, "VALID")
        return (h + leaky(conv(h, p["k1"]) + p["b1"])).sum((1, 2)) @ p["w"]

    p = normal(10, k0=(2, 2, 1, 3), b0=(3,), k1=(2, 2, 3, 3), b1=(3,), w=(3, 2))
    return fn, p, inputs(2, 8, 8, 1)


def lora():
    frozen = normal(12, w=(4, 5))["w"]

    def fn(p, x):
        return jnp.tanh(x @ (frozen + p["a"] @ p["b"]))

    return fn, normal(11, a=(4, 2), b=(2, 5)), inputs(30, 4)


def packed_attention():
    """Queries, keys and values in one kernel ``(d, 3, heads, n)``, with biases."""

    def fn(p, x):
        q, k, v = jnp.moveaxis(jnp.einsum("td,dchk->tchk", x, p["qkv"]) + p["b"], 1, 0)
        scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k) / 3)
        return jnp.einsum("hts,shk,hkd->td", scores, v, p["o"]) + p["bo"]

    return fn, normal(13, qkv=(4, 3, 2, 3), b=(3, 2, 3), o=(2, 3, 4), bo=(4,)), inputs(6, 4)


def centred_attention():
    """Attention with biases whose outputs are read by a LayerNorm, so that constants in them do not matter."""
    attend, p, x = attention(True)

    def fn(p, x):
        h = attend(p, x)
        h = h - h.mean(-1, keepdims=True)
        return jnp.tanh(rms(h, p["g"]) @ p["w"])

    return fn, p | normal(14, g=(4,), w=(4, 3)), x


def layer_norm_transformer(normed=True):
    """Pre-norm with LayerNorm and biases: 4 dimensions, 2 heads of 2; the stream is ``normed`` before it is
    read out, or not."""

    def norm(v, gain, shift):
        return rms(v - v.mean(-1, keepdims=True), gain) + shift

    def fn(p, x):
        h = x @ p["emb"]
        a = norm(h, p["g1"], p["s1"])
        q, k, v = (jnp.einsum("td,dhk->thk", a, p[n]) + p["b" + n] for n in "qkv")
        scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        h = h + jnp.einsum("hts,shk,hkd->td", scores, v, p["o"]) + p["bo"]
        up = jax.nn.gelu(norm(h, p["g2"], p["s2"]) @ p["w1"] + p["b1"])
        h = h + up @ p["w2"] + p["b2"]
        h = norm(h, p["g3"], p["s3"]) if normed else h
        return h @ p["head"] + p["b3"]

    p = normal(
        21, emb=(3, 4), g1=(4,), s1=(4,), q=(4, 2, 2), k=(4, 2, 2), v=(4, 2, 2), bq=(2, 2), bk=(2, 2),
        bv=(2, 2), o=(2, 2, 4), bo=(4,), g2=(4,), s2=(4,), w1=(4, 3), b1=(3,), w2=(3, 4), b2=(4,),
        head=(4, 5), b3=(5,), **({"g3": (4,), "s3": (4,)} if normed else {}),
    )  # fmt: skip
    return fn, p, inputs(6, 3)
