"""How long inference takes beside tracing, and the group's action beside a copy, on GPT-2 shapes.

`python -m experiments.bench.inference [--out FILE]`. No array is allocated for inference: the model is
given as `ShapeDtypeStruct`s. `infer` includes its own trace, so a ratio of 0.5 means that the analysis
costs as much as `jax.make_jaxpr`. The function is new to jax in every repeat, or its trace would be
remembered. The last case compares the time of 48 layers with that of 12, divided by four: linear is 1.
"""

from __future__ import annotations

import statistics
import time

import jax
import jax.numpy as jnp

from experiments.bench._report import Report, arguments
from wsljax import symmetry

WIDTH, HEADS, VOCABULARY, POSITIONS = 768, 12, 50257, 1024


def shapes(layers: int):
    """Weights of a GPT-2 of 768 channels, without arrays."""

    def array(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def norm():
        return {"scale": array(WIDTH), "bias": array(WIDTH)}

    def dense(rows, columns):
        return {"kernel": array(rows, columns), "bias": array(columns)}

    def block():
        return {
            "norm_1": norm(),
            "qkv": dense(WIDTH, 3 * WIDTH),
            "out": dense(WIDTH, WIDTH),
            "norm_2": norm(),
            "up": dense(WIDTH, 4 * WIDTH),
            "down": dense(4 * WIDTH, WIDTH),
        }

    return {
        "tokens": array(VOCABULARY, WIDTH),
        "positions": array(POSITIONS, WIDTH),
        "blocks": [block() for _ in range(layers)],
        "norm": norm(),
    }


def apply_dense(p, x):
    return x @ p["kernel"] + p["bias"]


def apply_norm(p, x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]


def attend(p, x):
    length = x.shape[1]
    parts = jnp.split(apply_dense(p["qkv"], x), 3, axis=-1)
    q, k, v = (z.reshape(*z.shape[:2], HEADS, WIDTH // HEADS) for z in parts)
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / (WIDTH // HEADS) ** 0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
    return apply_dense(p["out"], mixed.reshape(x.shape))


def gpt(params, tokens):
    """Logits of a GPT-2 with tied embeddings, packed queries, keys and values."""
    x = params["tokens"][tokens] + params["positions"][: tokens.shape[1]]
    for p in params["blocks"]:
        x = x + attend(p, apply_norm(p["norm_1"], x))
        x = x + apply_dense(
            p["down"], jax.nn.gelu(apply_dense(p["up"], apply_norm(p["norm_2"], x)))
        )
    return apply_norm(params["norm"], x) @ params["tokens"].T


def inference_times(layers: int, repeats: int) -> tuple[float, float]:
    """Median seconds of `infer` and of `make_jaxpr`, taken in turns after one of each."""
    params, tokens = shapes(layers), jax.ShapeDtypeStruct((2, 128), jnp.int32)
    infer, trace = [], []
    for turn in range(repeats + 1):
        start = time.perf_counter()
        jax.make_jaxpr(lambda p, t: gpt(p, t))(params, tokens)
        middle = time.perf_counter()
        symmetry.infer(lambda p, t: gpt(p, t), params, tokens, kinds=("permutation",))
        if turn:
            trace.append(middle - start)
            infer.append(time.perf_counter() - middle)
    return statistics.median(infer), statistics.median(trace)


def action_times(layers: int, repeats: int) -> tuple[float, float]:
    """Median seconds of the jitted action and of `tree.map(jnp.copy)`, taken in turns."""
    spec = symmetry.infer(
        gpt, shapes(layers), jax.ShapeDtypeStruct((2, 128), jnp.int32), kinds=("permutation",)
    )
    params = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes(layers))
    g, act = spec.sample(jax.random.key(0)), jax.jit(spec.act)
    runs = {"act": lambda: act(g, params), "copy": lambda: jax.tree.map(jnp.copy, params)}
    seconds = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return statistics.median(seconds["act"]), statistics.median(seconds["copy"])


def main() -> None:
    report = Report(arguments(__doc__))
    times = {}
    for layers in (12, 48):
        times[layers] = inference_times(layers, report.repeats)
        report.add(f"gpt2 {layers} layers, infer", "steady_s", *times[layers], "jax.make_jaxpr")
    report.add(
        "gpt2 infer, 48 layers against 4 x 12", "steady_s", times[48][0], 4 * times[12][0],
        "four times 12 layers",
    )  # fmt: skip
    report.add("gpt2 12 layers, act", "steady_s", *action_times(12, report.repeats), "jnp.copy")


if __name__ == "__main__":
    main()
