"""The networks whose weights the metanetworks of the bench read.

Each is a function and its parameters; what may be exchanged is found by `symmetry.infer`. For the
universal layers of the literature, which know nothing but units, :func:`plain` makes units of
everything: inputs and outputs, kernel positions, and what is nested by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from wsljax import symmetry, zoo


class Case(NamedTuple):
    """One network and the sizes at which metanetworks are run on it.

    Attributes:
        fn, params, inputs: the network.
        channels, networks: of the metanetworks that are compared with torch (batch and width).
        layers: weight shapes `(in, out, *kernel)` where it is a plain chain of layers, else empty.
        slow: a universal layer of the literature compiles for minutes on it.
    """

    fn: Callable[..., Any]
    params: Any
    inputs: tuple
    channels: int = 16
    networks: int = 4
    layers: tuple[tuple[int, ...], ...] = ()
    slow: bool = False


def cases() -> dict[str, Callable[[], Case]]:
    """Every case by name, made when called."""
    deep = {f"mlp of {n} layers 16x16": lambda n=n: chain("mlp", (16,) * (n + 1)) for n in DEPTHS}
    return {
        "mlp 2-32-32-1": lambda: chain("mlp", (2, 32, 32, 1), channels=64, networks=64),
        **deep,
        "cnn 1-16-16-16-10": lambda: chain("cnn", (1, 16, 16, 16, 10), channels=32, networks=32),
        "resnet": small_resnet,
        "rnn 64": lambda: recurrent("rnn", 64),
        "gru 64": lambda: recurrent("gru", 64),
        "lstm 32": lambda: recurrent("lstm", 32),
        "transformer of 2 layers": lambda: transformer(2),
        "transformer of 6 layers": lambda: transformer(6)._replace(slow=True),
    }


DEPTHS = (8, 16, 32)


def chain(kind: str, widths: tuple[int, ...], **sizes: int) -> Case:
    """A plain chain: dense layers, or the CNN zoo's 3x3 convolutions and a dense layer."""
    if kind == "mlp":
        fn, x = zoo.Function("mlp", {"widths": widths}), jnp.zeros((2, widths[0]))
        layers = tuple(zip(widths[:-1], widths[1:], strict=True))
    else:
        settings = {"input_shape": (28, 28, widths[0]), "channels": widths[1:-1]}
        fn = zoo.Function("cnn", {**settings, "dense_widths": widths[-1:]})
        x = jnp.zeros((2, 28, 28, widths[0]))
        ends = tuple(zip(widths[:-1], widths[1:], strict=True))
        layers = (*((*end, 3, 3) for end in ends[:-1]), ends[-1])
    return Case(fn.apply, fn.init({}, key=jax.random.key(0)), (x,), layers=layers, **sizes)


def recurrent(cell: str, hidden: int) -> Case:
    """One recurrent layer over vectors of 16 numbers, and a dense layer; gates are packed."""
    settings = {"cell": cell, "features": 16, "hidden": hidden, "layers": 1, "outputs": 16}
    fn = zoo.Function("recurrent", {**settings, "head": "each"})
    return Case(fn.apply, fn.init({}, key=jax.random.key(0)), (jnp.zeros((2, 3, 16)),))


def transformer(layers: int) -> Case:
    """A residual stream of 32, 4 heads of 8, dense layers of 64, positions and 64 tokens."""
    settings = {"tokens": 64, "width": 32, "heads": 4, "layers": layers, "mlp_width": 64}
    fn = zoo.Function("transformer", {**settings, "length": 8})
    return Case(fn.apply, fn.init({}, key=jax.random.key(0)), (jnp.zeros((2, 8), jnp.int32),))


def small_resnet() -> Case:
    """Two stages of residual blocks of two convolutions with batch norms: 32 tensors."""
    shapes: dict[str, tuple[int, ...]] = {"stem": (3, 3, 3, 8), "norm": (8,)}
    for stage, (n, m) in enumerate(((8, 8), (8, 16))):
        shapes |= {f"block{stage}/conv0": (3, 3, n, m), f"block{stage}/norm0": (m,)}
        shapes |= {f"block{stage}/conv1": (3, 3, m, m), f"block{stage}/norm1": (m,)}
    shapes |= {"block1/short": (1, 1, 8, 16), "block1/norm2": (16,), "head": (16, 10)}
    params: dict[str, Any] = {}
    keys = iter(jax.random.split(jax.random.key(0), len(shapes)))
    for name, shape in shapes.items():
        if len(shape) == 1:
            ones = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}
            params[name] = {k: jnp.full(shape, v) for k, v in ones.items()}
        else:
            fan = float(jnp.prod(jnp.array(shape[:-1])))
            params[name] = {"kernel": jax.random.normal(next(keys), shape) / fan**0.5}
    params["head"]["bias"] = jnp.zeros(10)

    def conv(name: str, p: Any, x: jax.Array, stride: int = 1) -> jax.Array:
        kernel = p[name]["kernel"]
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def norm(name: str, p: Any, x: jax.Array) -> jax.Array:
        p = p[name]
        return (x - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-5) * p["scale"] + p["bias"]

    def block(name: str, p: Any, x: jax.Array, stride: int = 1) -> jax.Array:
        y = jax.nn.relu(norm(f"{name}/norm0", p, conv(f"{name}/conv0", p, x, stride)))
        y = norm(f"{name}/norm1", p, conv(f"{name}/conv1", p, y))
        if f"{name}/short" in p:
            x = norm(f"{name}/norm2", p, conv(f"{name}/short", p, x, stride))
        return jax.nn.relu(x + y)

    def fn(p: Any, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(norm("norm", p, conv("stem", p, x)))
        x = block("block1", p, block("block0", p, x), 2).mean((1, 2))
        return x @ p["head"]["kernel"] + p["head"]["bias"]

    return Case(fn, params, (jnp.zeros((2, 16, 16, 3)),))


def inferred(case: Case, kinds: tuple[str, ...] = ("permutation",)) -> symmetry.Spec:
    """What a user has: inputs, outputs and kernel positions are fixed, heads are nested."""
    return symmetry.infer(case.fn, case.params, *case.inputs, kinds=kinds)


def plain(case: Case) -> tuple[symmetry.Spec, dict[str, tuple[str, ...]]]:
    """The same network where every axis of every block is units of its own name, none nested.

    Returns:
        The spec of its blocks, and for each block the labels of its axes. Inputs and outputs are
        free; what is fixed even then (kernel positions) has a label of its own.
    """
    free = symmetry.infer(
        case.fn,
        case.params,
        *case.inputs,
        free_inputs=True,
        free_outputs=True,
        kinds=("permutation",),
    )
    labels: dict[str, tuple[str, ...]] = {}
    for number, block in enumerate(free.layout):
        own = (f"k{number}_{k}" if a.startswith("_") else a for k, a in enumerate(block.axes))
        labels[block.name.replace("/", ".")] = tuple(own)
    shapes = {
        block.name.replace("/", "."): jax.ShapeDtypeStruct(block.shape, jnp.float32)
        for block in free.layout
    }
    return symmetry.parse(shapes, {name: " ".join(axes) for name, axes in labels.items()}), labels


def numbered(labels: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    """Labels as numbers, the same for the same label."""
    known: dict[str, int] = {}
    return {
        name: tuple(known.setdefault(a, len(known)) for a in axes) for name, axes in labels.items()
    }
