"""How long the search for all generators takes, how that grows with depth, and how much of the null space is found.

`python -m experiments.bench.generators [--out FILE]`. `infer` with all kinds stands beside `infer` of
permutations alone, on the same concrete weights; every repeat has a function that is new to jax, or its trace
would be remembered. The GPT-2 shapes are of reduced width: 64 channels, 4 heads, 128 words. The case of 8
layers compares their time with that of 4, doubled: linear is 1. Completeness is a figure, not a time: the
dimensions that generators explain, beside the nullity of the Jacobian, on networks small enough for that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import inference
from experiments.bench._report import Report, arguments
from wsljax import symmetry

WIDTH, HEADS, VOCABULARY, LENGTH = 64, 4, 128, 16


def drawn(shapes: Any, seed: int = 0) -> Any:
    """Generic weights: kernels of the usual size, gains around one, biases around zero."""
    random = np.random.default_rng(seed)

    def one(path, s):
        x = random.standard_normal(s.shape).astype(s.dtype)
        if len(s.shape) > 1:
            return jnp.asarray(x / s.shape[-2] ** 0.5)
        gain = any(n in jax.tree_util.keystr(path) for n in ("scale", "var"))
        return jnp.asarray(1 + 0.1 * np.tanh(x) if gain else 0.1 * x)

    return jax.tree_util.tree_map_with_path(one, shapes)


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def mlp(widths: tuple[int, ...] = (784, 256, 256, 10), activation: Callable = jax.nn.relu):
    """A classifier of dense layers."""

    def fn(params, x):
        *hidden, last = params
        for p in hidden:
            x = activation(x @ p["kernel"] + p["bias"])
        return x @ last["kernel"] + last["bias"]

    shapes = [{"kernel": array(a, b), "bias": array(b)} for a, b in zip(widths[:-1], widths[1:])]
    return fn, drawn(shapes), jnp.asarray(drawn(array(8, widths[0])))


def cnn(channels: tuple[int, ...] = (3, 32, 64, 64), size: int = 16):
    """Convolutions with BatchNorm in inference, ReLU and pooling, then a dense layer."""

    def fn(params, x):
        for p in params["layers"]:
            x = jax.lax.conv_general_dilated(
                x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = (x - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-3) * p["scale"] + p["bias"]
            x = jax.nn.relu(x)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.mean((1, 2)) @ params["kernel"] + params["bias"]

    layers = [
        {"kernel": array(3, 3, a, b)} | {n: array(b) for n in ("mean", "var", "scale", "bias")}
        for a, b in zip(channels[:-1], channels[1:])
    ]
    shapes = {"layers": layers, "kernel": array(channels[-1], 10), "bias": array(10)}
    return fn, drawn(shapes), jnp.asarray(drawn(array(4, size, size, channels[0]), 1))


def gpt(layers: int, width: int = WIDTH, heads: int = HEADS, words: int = VOCABULARY):
    """The model of :mod:`experiments.bench.inference` at another width."""

    def dense(rows, columns):
        return {"kernel": array(rows, columns), "bias": array(columns)}

    def norm():
        return {"scale": array(width), "bias": array(width)}

    def attend(p, x):
        parts = jnp.split(inference.apply_dense(p["qkv"], x), 3, axis=-1)
        q, k, v = (z.reshape(*z.shape[:2], heads, width // heads) for z in parts)
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / (width // heads) ** 0.5
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(jnp.where(mask, scores, -1e9)), v)
        return inference.apply_dense(p["out"], mixed.reshape(x.shape))

    def fn(params, tokens):
        x = params["tokens"][tokens] + params["positions"][: tokens.shape[1]]
        for p in params["blocks"]:
            x = x + attend(p, inference.apply_norm(p["norm_1"], x))
            h = inference.apply_dense(p["up"], inference.apply_norm(p["norm_2"], x))
            x = x + inference.apply_dense(p["down"], jax.nn.gelu(h))
        return inference.apply_norm(params["norm"], x) @ params["tokens"].T

    block = {
        "norm_1": norm(), "qkv": dense(width, 3 * width), "out": dense(width, width),
        "norm_2": norm(), "up": dense(width, 4 * width), "down": dense(4 * width, width),
    }  # fmt: skip
    shapes = {
        "tokens": array(words, width), "positions": array(LENGTH, width),
        "blocks": [block] * layers, "norm": norm(),
    }  # fmt: skip
    tokens = np.random.default_rng(1).integers(0, words, (2, LENGTH))
    return fn, drawn(shapes), jnp.asarray(tokens, jnp.int32)


def infer_seconds(case: tuple, kinds: tuple[str, ...] | None, repeats: int) -> float:
    """Median seconds of `infer`, after one that warms jax up."""
    fn, params, x = case
    seconds = []
    for turn in range(repeats + 1):
        start = time.perf_counter()
        symmetry.infer(lambda p, x: fn(p, x), params, x, kinds=kinds)
        if turn or not repeats:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def attention(biases: bool, d: int = 4, heads: int = 2, n: int = 3):
    """One layer of attention over six tokens."""

    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[s]) + p.get("b" + s, 0) for s in "qkv")
        weights = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k) / n**0.5)
        return jnp.einsum("hts,shk,hkd->td", weights, v, p["o"]) + p.get("bo", 0)

    shapes = {s: array(d, heads, n) for s in "qkv"} | {"o": array(heads, n, d)}
    if biases:
        shapes |= {"b" + s: array(heads, n) for s in "qkv"} | {"bo": array(d)}
    return fn, drawn(shapes), jnp.asarray(drawn(array(6, d), 1))


def rms_transformer(width: int = 4):
    """Pre-norm with RMSNorm, no biases, two heads of two."""

    def rms(x, gain):
        return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True)) * gain

    def fn(p, tokens):
        x = p["tokens"][tokens]
        q, k, v = (jnp.einsum("td,dhk->thk", rms(x, p["scale_1"]), p[s]) for s in "qkv")
        weights = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        x = x + jnp.einsum("hts,shk,hkd->td", weights, v, p["o"])
        x = x + jax.nn.gelu(rms(x, p["scale_2"]) @ p["up"]) @ p["down"]
        return rms(x, p["scale_3"]) @ p["head"]

    shapes = {s: array(width, 2, 2) for s in "qkv"} | {"o": array(2, 2, width)}
    shapes |= {f"scale_{k}": array(width) for k in (1, 2, 3)} | {"tokens": array(9, width)}
    shapes |= {"up": array(width, 6), "down": array(6, width), "head": array(width, 5)}
    return fn, drawn(shapes), jnp.array([0, 3, 8, 1, 2, 5])


def layer_norm():
    """Dense, LayerNorm, dense, tanh, dense."""

    def fn(p, x):
        h = inference.apply_norm(p["norm"], x @ p["w0"] + p["b0"])
        return jnp.tanh(h @ p["w1"] + p["b1"]) @ p["w2"]

    norm = {"scale": array(5), "bias": array(5)}
    shapes = {
        "w0": array(3, 5),
        "b0": array(5),
        "w1": array(5, 4),
        "b1": array(4),
        "w2": array(4, 2),
    }
    return fn, drawn(shapes | {"norm": norm}), jnp.asarray(drawn(array(12, 3), 1))


def small() -> dict[str, tuple]:
    """Networks whose Jacobian is small enough to be looked at whole, of units that are never dead."""
    widths = (3, 5, 4, 2)
    return {
        "leaky relu mlp": mlp(widths, lambda v: jax.nn.leaky_relu(v, 0.3)),
        "tanh mlp": mlp(widths, jnp.tanh),
        "sine mlp": mlp(widths, jnp.sin),
        "linear mlp": mlp(widths, lambda v: v),
        "cnn with batch norm": cnn((1, 3, 3), 8),
        "layer norm mlp": layer_norm(),
        "attention, 2 heads of 3": attention(False),
        "attention with biases, 2 heads of 3": attention(True),
        "rms norm transformer": rms_transformer(),
        "gpt2, 1 layer of 4 channels": gpt(1, 4, 2, 7),
    }


def main() -> None:
    report = Report(arguments(__doc__))
    repeats = min(report.repeats, 3)
    cases = {
        "mlp 784-256-256-10": mlp(),
        "cnn with batch norm": cnn(),
        **{f"gpt2 of width {WIDTH}, {n} layers": gpt(n) for n in (2, 4, 8, 12)},
    }
    times = {}
    for name, case in cases.items():
        own = (
            repeats if not name.startswith("gpt2") else 0
        )  # seconds: one of each, cold, says enough
        times[name] = infer_seconds(case, None, own)
        fewer = infer_seconds(case, ("permutation",), repeats)
        report.add(f"{name}, infer", "seconds", times[name], fewer, "permutations alone")
    four, eight = (times[f"gpt2 of width {WIDTH}, {n} layers"] for n in (4, 8))
    report.add("gpt2 infer, 8 layers against 2 x 4", "seconds", eight, 2 * four, "twice 4 layers")
    for name, (fn, params, x) in small().items():
        spec = symmetry.infer(fn, params, x, kinds=None)
        explained, nullity = symmetry.completeness(fn, params, spec, x)
        report.add(f"{name}, completeness", "dimensions", explained, nullity, "nullity")


if __name__ == "__main__":
    main()
