"""What a universal equivariant layer costs: running time beside its floor, compile time over depth.

`python -m experiments.bench.linear [--out FILE]`.

Running time, forward and backward, three layers on the weights of a 2-32-32-1 MLP, 64 channels, a batch
of 64 networks. The floor is a pointwise channel MLP, one dense C -> C map a layer applied to the
features of every weight: what a layer costs that lets no weight see another. It is timed in two
layouts, `(networks, weights, C)` and `(networks * weights, C)`, and the faster one counts. The target is
a cost of at most 1.5 times the floor, a ratio of at least 0.667. "fixed ends" folds inputs and outputs
into channels, as an inferred spec does; "free ends" has all four axes as units, 62 maps.

Compile time (tracing included) of one layer, forward and backward, on MLPs of 4 to 64 weight matrices.
The reference is that of 4 matrices times the depth over 4: growth no worse than linear is a ratio of at
least 1. Equal widths let blocks be stacked; unequal ones cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench._report import Report, arguments, compare, measure
from wsljax import symmetry
from wsljax.representation import Features, UniversalLinear, structure

LAYERS, CHANNELS, NETWORKS = 3, 64, 64
DEPTHS = (4, 8, 16, 32, 64)
FIXED_ENDS = {"w0": "_ a", "b0": "a", "w1": "a b", "b1": "b", "w2": "b _", "b2": "_"}
FREE_ENDS = {"w0": "i a", "b0": "a", "w1": "a b", "b1": "b", "w2": "b o", "b2": "o"}


def mlp_weights(*widths: int) -> dict[str, jax.ShapeDtypeStruct]:
    out = {}
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        out[f"w{k}"] = jax.ShapeDtypeStruct((n, m), jnp.float32)
        out[f"b{k}"] = jax.ShapeDtypeStruct((m,), jnp.float32)
    return out


def deep_mlp(*widths: int) -> symmetry.Spec:
    """An MLP all of whose axes are units."""
    axes = {}
    for k in range(len(widths) - 1):
        axes[f"w{k}"], axes[f"b{k}"] = f"h{k} h{k + 1}", f"h{k + 1}"
    return symmetry.parse(mlp_weights(*widths), axes)


def random_features(spec: symmetry.Spec, networks: int, channels: int) -> Features:
    blocks = structure(spec)
    arrays = {
        b.name: jax.random.normal(
            jax.random.key(k), (networks, *(spec.size_of(a) for a in b.labels), channels)
        )
        for k, b in enumerate(blocks)
    }
    return jax.vmap(lambda a: Features.of(blocks, a))(arrays)


def ours(
    spec: symmetry.Spec,
    activation: Callable,
    layers: int = LAYERS,
    channels: int = CHANNELS,
    networks: int = NETWORKS,
) -> tuple[Callable, tuple]:
    """Loss and gradients of universal layers with an activation after each."""
    stack = [
        UniversalLinear(spec, channels, channels, key=jax.random.key(k)) for k in range(layers)
    ]

    def loss(stack: list[UniversalLinear], x: Features) -> jax.Array:
        for layer in stack:
            x = jax.tree.map(activation, jax.vmap(layer)(x))
        return sum(jnp.sum(jnp.square(a)) for a in x.arrays)

    return jax.value_and_grad(loss), (stack, random_features(spec, networks, channels))


def floor(
    weights: Mapping[str, Any], activation: Callable, *, flat: bool
) -> tuple[Callable, tuple]:
    """Loss and gradients of as many dense maps on the channels of every weight."""
    count = sum(x.size for x in weights.values())
    shape = (NETWORKS * count, CHANNELS) if flat else (NETWORKS, count, CHANNELS)
    x = jax.random.normal(jax.random.key(0), shape)
    keys = jax.random.split(jax.random.key(1), LAYERS)
    stack = [jax.random.normal(k, (CHANNELS, CHANNELS)) / CHANNELS**0.5 for k in keys]

    def loss(stack: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in stack:
            x = activation(x @ w)
        return jnp.sum(jnp.square(x))

    return jax.value_and_grad(loss), (stack, x)


def running_time(report: Report) -> None:
    weights = mlp_weights(2, 32, 32, 1)
    for name, activation in (("relu", jax.nn.relu), ("gelu", jax.nn.gelu)):
        times = compare(
            {
                "fixed ends": ours(symmetry.parse(weights, FIXED_ENDS), activation),
                "free ends": ours(symmetry.parse(weights, FREE_ENDS), activation),
                "batched": floor(weights, activation, flat=False),
                "flat rows": floor(weights, activation, flat=True),
            },
            repeats=report.repeats,
        )
        best = min(("batched", "flat rows"), key=lambda layout: times[layout].steady)
        for ends in ("fixed ends", "free ends"):
            case = (
                f"2-32-32-1 {ends}, {LAYERS} layers, {CHANNELS} channels, batch {NETWORKS}, {name}"
            )
            reference = f"pointwise channel MLP, {best}"
            report.add(case, "steady_s", times[ends].steady, times[best].steady, reference)


def compile_time(report: Report) -> None:
    for name, width in (("equal widths", lambda k: 16), ("unequal widths", lambda k: 4 + k)):
        first = None
        for depth in DEPTHS:
            spec = deep_mlp(*(width(k) for k in range(depth + 1)))
            fn, args = ours(spec, jax.nn.relu, layers=1, channels=16, networks=4)
            times = measure(fn, *args, repeats=1)
            seconds = times.trace + times.compile
            first = seconds if first is None else first
            report.add(
                f"mlp of {depth} matrices, {name}",
                "compile_s",
                seconds,
                first * depth / DEPTHS[0],
                f"{DEPTHS[0]} matrices, times {depth // DEPTHS[0]}",
            )


def main() -> None:
    report = Report(arguments(__doc__))
    running_time(report)
    compile_time(report)


if __name__ == "__main__":
    main()
