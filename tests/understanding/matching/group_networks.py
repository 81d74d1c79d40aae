"""Small networks with groups, most written by hand: each returns ``fn, params, spec, inputs``."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from wsljax import symmetry
from wsljax.symmetry import Linear, Orthogonal, Scale, Shift, Sign, Term, Uniform
from wsljax.symmetry.generators import Carry, Phase


def normal(seed, /, **shapes):
    """Kernels of variance one over what they sum, biases of size 0.3, gains (names in ``g``) near one."""
    out = {}
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    for key, (name, shape) in zip(keys, shapes.items(), strict=True):
        x = jax.random.normal(key, shape, "float32")
        out[name] = x * 0.5 if len(shape) > 1 else 0.3 * x + (1.0 if name[0] == "g" else 0.0)
    return out


def ready(fn, params, annotations, generators, inputs):
    spec = replace(symmetry.parse(params, annotations), generators=tuple(generators))
    spec.validate()
    return fn, params, spec, inputs


def term(block, axis, exponent=1.0, parents=(), **more):
    return Term(block, axis, exponent, parents, **more)


def mlp(kind, activation, step=0.0):
    """Three layers; each hidden unit scaled, flipped or shifted in phase."""

    def fn(p, x):
        h = activation(activation(x @ p["w0"] + p["b0"]) @ p["w1"] + p["b1"])
        return h @ p["w2"] + p["b2"]

    p = normal(0, w0=(4, 8), b0=(8,), w1=(8, 7), b1=(7,), w2=(7, 3), b2=(3,))
    axes = {"w0": "_ h", "b0": "h", "w1": "h m", "b1": "m", "w2": "m _", "b2": "_"}
    generators = []
    for name, n, i in (("h", 8, 0), ("m", 7, 1)):
        into = (term(f"w{i}", 1), term(f"b{i}", 0))
        out = term(f"w{i + 1}", 0, -1.0)
        if kind == "scale":
            generators.append(Scale(f"scale:{name}", name, (*into, out), n))
        if kind in ("sign", "phase"):
            generators.append(Sign(f"sign:{name}", name, (*into, out), n))
        if kind == "about":
            carry = Carry(f"b{i + 1}", f"w{i + 1}", "a,ab->b", 0.5)
            generators.append(Sign(f"sign:{name}", name, (*into, out), n, carries=(carry,)))
        if kind == "phase":
            out = (replace(out, exponent=1.0),)
            generators.append(
                Phase(f"phase:{name}", name, out, n, (name,), (n,), (), f"b{i}", step=step)
            )
    return ready(fn, p, axes, generators, jax.random.normal(jax.random.key(9), (16, 4), "float32"))


def attention():
    """One layer with biases and four heads of three: general linear maps, and shifts of biases."""

    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) + p["b" + n] for n in "qkv")
        scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        return jnp.einsum("hts,shk,hkd->td", scores, v, p["o"]) + p["bo"]

    heads = {n: (6, 4, 3) for n in "qkv"} | {f"b{n}": (4, 3) for n in "qkv"}
    p = normal(1, **heads, o=(4, 3, 6), bo=(6,))
    axes = {"q": "_ h e[h]", "k": "_ h e[h]", "v": "_ h f[h]", "o": "h f[h] _", "bo": "_"}
    axes |= {"bq": "h e[h]", "bk": "h e[h]", "bv": "h f[h]"}
    at = lambda n, k, e=1.0: term(n, k, e, (k - 1,))  # noqa: E731
    generators = [
        Linear("linear:e", "e", (at("bq", 1), at("q", 2), at("k", 2, -1.0)), 3, ("h",), (4,)),
        Linear("linear:f", "f", (at("bv", 1), at("v", 2), at("o", 1, -1.0)), 3, ("h",), (4,)),
        Shift("shift:bk", "e", (), 3, ("h", "e"), (4, 3), (), "bk"),
        Shift("shift:bv", "f", (), 3, ("h", "f"), (4, 3), (Carry("bo", "o", "ab,abc->c"),), "bv"),
    ]
    return ready(fn, p, axes, generators, jax.random.normal(jax.random.key(9), (7, 6), "float32"))


def transformer(layers=2):
    """RMSNorm before attention and MLP, layers scanned: the residual stream may be turned."""

    def rms(x, gain):
        return gain * x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True))

    def layer(h, p):
        a = rms(h, p["g1"])
        q, k, v = (jnp.einsum("td,dhk->thk", a, p[n]) for n in "qkv")
        scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        h = h + jnp.einsum("hts,shk,hkd->td", scores, v, p["o"])
        return h + jax.nn.gelu(rms(h, p["g2"]) @ p["w1"]) @ p["w2"], None

    def fn(p, tokens):
        h = jax.lax.scan(layer, p["emb"][tokens], {n: p[n] for n in stacked})[0]
        return rms(h, p["g3"]) @ p["head"]

    stacked = {"g1": (6,), "q": (6, 2, 3), "k": (6, 2, 3), "v": (6, 2, 3), "o": (2, 3, 6)}
    stacked |= {"g2": (6,), "w1": (6, 8), "w2": (8, 6)}
    shapes = {n: (layers, *s) for n, s in stacked.items()}
    p = normal(2, emb=(11, 6), **shapes, g3=(6,), head=(6, 5))
    p |= {n: 1 + 0.3 * p[n] for n in ("g1", "g2")}
    axes = {"emb": "_ d", "g1": "_L d", "g2": "_L d", "g3": "d", "head": "d _"}
    axes |= {n: "_L d h[_L] e[_L,h]" for n in "qk"} | {"v": "_L d h[_L] f[_L,h]"}
    axes |= {"o": "_L h[_L] f[_L,h] d", "w1": "_L d m[_L]", "w2": "_L m[_L] d"}
    over, sizes = ("_L",), (layers,)
    gain = lambda n: {"through": (n,), "seats": (0, 1)}  # noqa: E731
    readers = {"g1": "qkv", "g2": ("w1",)}
    stream = [term("emb", 1), term("o", 3), term("w2", 2), term("head", 0, through=("g3",))]
    stream += [term(n, 1, **gain(g)) for g, names in readers.items() for n in names]
    generators: list = [Orthogonal("orthogonal:d", "d", tuple(stream), 6)]
    for kind, name in ((Scale, "scale"), (Sign, "sign")):
        for g, names in readers.items():
            moved = (term(g, 1, 1.0, (0,)), *(term(n, 1, -1.0, (0,)) for n in names))
            generators.append(kind(f"{name}:{g}", "d", moved, 6, over, sizes))
        generators.append(kind(f"{name}:g3", "d", (term("g3", 0), term("head", 0, -1.0)), 6))
    head = lambda n, k, e=1.0: term(n, k, e, (0, k - 1))  # noqa: E731
    several = (("_L", "h"), (layers, 2))
    generators += [
        Linear("linear:e", "e", (head("q", 3), head("k", 3, -1.0)), 3, *several),
        Linear("linear:f", "f", (head("v", 3), head("o", 2, -1.0)), 3, *several),
        Uniform("uniform", None, tuple(term(n, None) for n in ("emb", "v", "w2")), 1),
    ]
    return ready(fn, p, axes, generators, jnp.array([0, 3, 10, 1, 2, 5, 7]))


def lstm():
    """An LSTM that is read through a linear bottleneck."""

    def fn(p, x):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ p["wx"] + h @ p["wh"] + p["b"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros(len(p["wh"]), x.dtype)
        return jax.lax.scan(step, (zero, zero), x)[1] @ p["down"] @ p["up"]

    p = normal(3, wx=(4, 24), wh=(6, 24), b=(24,), down=(6, 2), up=(2, 5))
    axes = {"wx": "_ h+h+h+h", "wh": "h h+h+h+h", "b": "h+h+h+h", "down": "h r", "up": "r _"}
    generators = [Linear("linear:r", "r", (term("down", 1), term("up", 0, -1.0)), 2)]
    return ready(fn, p, axes, generators, jax.random.normal(jax.random.key(9), (9, 4), "float32"))


def grouped_convolution():
    """A grouped convolution between two others, leaky: groups of channels, and channels inside."""

    def conv(x, w, groups=1):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    def leaky(x):
        return jax.nn.leaky_relu(x, 0.3)

    def fn(p, x):
        h = leaky(conv(x, p["k0"].reshape(2, 2, 2, 6)))
        h = leaky(conv(h, p["k1"].reshape(2, 2, 2, 6), 3))
        return h.mean((1, 2)) @ p["w"].reshape(6, 4)

    p = normal(4, k0=(2, 2, 2, 3, 2), k1=(2, 2, 2, 3, 2), w=(3, 2, 4))
    axes = {"k0": "_ _ _ g a[g]", "k1": "_ _ a[g] g c[g]", "w": "g c[g] _"}
    at = lambda n, k, e, j: term(n, k, e, (j,))  # noqa: E731
    generators = [
        Scale("scale:a", "a", (at("k0", 4, 1.0, 3), at("k1", 2, -1.0, 3)), 2, ("g",), (3,)),
        Scale("scale:c", "c", (at("k1", 4, 1.0, 3), at("w", 1, -1.0, 0)), 2, ("g",), (3,)),
    ]
    x = jax.random.normal(jax.random.key(9), (3, 5, 5, 2), "float32")
    return ready(fn, p, axes, generators, x)


def llama(width=8, heads=4, groups=2, size=4, layers=1):
    """Grouped queries with rotary positions, SwiGLU, an embedding that is the head too; its group inferred."""

    def rms(x, gain):
        return gain * x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)

    def rotary(x):
        at = jnp.arange(len(x))[:, None] / 10.0 ** (jnp.arange(size // 2) / size * 2)
        c, s = jnp.cos(at)[:, None], jnp.sin(at)[:, None]
        u, v = jnp.split(x, 2, -1)
        return jnp.concatenate([u * c - v * s, u * s + v * c], -1)

    def layer(h, p):
        a = rms(h, p["g1"])
        q, k, v = ((a @ p[n]).reshape(len(h), -1, size) for n in "qkv")
        q, k = rotary(q), rotary(k)
        k, v = (jnp.repeat(z, heads // groups, axis=1) for z in (k, v))
        scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        h = h + jnp.einsum("hts,shk->thk", scores, v).reshape(len(h), -1) @ p["o"]
        a = rms(h, p["g2"])
        return h + (jax.nn.silu(a @ p["gate"]) * (a @ p["up"])) @ p["down"]

    def fn(p, tokens):
        h = p["emb"][tokens]
        for block in p["blocks"]:
            h = layer(h, block)
        return rms(h, p["g3"]) @ p["emb"].T

    outer, inner, d, m = heads * size, groups * size, width, 12
    shapes = {"g1": (d,), "q": (d, outer), "k": (d, inner), "v": (d, inner), "o": (outer, d)}
    shapes |= {"g2": (d,), "gate": (d, m), "up": (d, m), "down": (m, d)}
    p = normal(5, emb=(11, d), g3=(d,)) | {
        "blocks": [normal(6 + i, **shapes) for i in range(layers)]
    }
    tokens = jnp.array([0, 3, 10, 1, 2, 5, 7])
    return fn, p, symmetry.infer(fn, p, tokens), tokens


NETWORKS = {
    "leaky MLP": lambda: mlp("scale", lambda v: jax.nn.leaky_relu(v, 0.3)),
    "tanh MLP": lambda: mlp("sign", jnp.tanh),
    "sigmoid MLP": lambda: mlp("about", jax.nn.sigmoid),
    "sine MLP": lambda: mlp("phase", lambda v: jnp.sin(2 * v), jnp.pi / 2),
    "attention": attention,
    "scanned RMSNorm transformer": transformer,
    "LSTM with a bottleneck": lstm,
    "grouped convolution": grouped_convolution,
    "tied Llama, inferred": llama,
}
