"""Networks step by step, as torch and TensorFlow scripts of published zoos write them.

The built-in "cnn" has one order of its parts. Published zoos have others: pooling before the
activation, another activation in each layer, batch normalisation here or there, sums of layers of
different widths. "layered" spells the steps out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.activations import ACTIVATIONS
from wsljax.zoo.architectures.cnn import convolve, pool
from wsljax.zoo.architectures.common import (
    INITIALISERS,
    dense,
    in_one_draw,
    linear,
    read_choice,
    standardised,
)

#: torch's GELU is the exact one, that of `jax.nn` by default an approximation.
LAYERED_ACTIVATIONS = {**ACTIVATIONS, "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False)}

_FIELDS = {
    "conv": {"name", "out", "kernel", "stride", "padding"},
    "dense": {"name", "out"},
    "batch_norm": {"name", "statistics", "epsilon"},
    "activation": {"of"},
    "max_pool": {"size"},
    "mean_pool": {"size"},
    "add": {"step"},
    "mean": set(),
    "flatten": set(),
}


@register_architecture("layered")
def layered(
    input_shape: Sequence[int],
    steps: Sequence[Mapping[str, Any]],
    activation: str | Sequence[str] = "relu",
    initialiser: str = "torch",
    bias: bool = True,
    mean: Any = 0.0,
    std: Any = 1.0,
) -> Architecture:
    """Steps in the order given, each a mapping with its `kind`.

    Args:
        input_shape: of one sample: `(height, width, channels)` or `(features,)`.
        steps: of these kinds:
            conv (name, out, kernel, stride=1, padding=0 or "SAME"); dense (name, out);
            batch_norm (name, statistics="moving" or "batch", epsilon=1e-5);
            activation (of: a name; without one, `activation`); max_pool, mean_pool (size);
            add (step): adds the output of an earlier step, of different widths the first channels;
            mean: over positions; flatten: row-major, channels last.
        activation: one for all steps that name none, or several, chosen by the column `activation`.
        initialiser, bias, mean, std: as for "mlp".

    Params: `{name: {"kernel", "bias"}}`; of batch_norm `{name: {"scale", "offset", "mean",
    "variance"}}`, all `(channels,)`.

    Raises:
        ValueError: an unknown kind, field or activation, a name twice, or shapes that do not fit.

    Example:
        >>> from wsljax.zoo.function import Function
        >>> steps = [{"kind": "conv", "name": "conv_0", "out": 4, "kernel": 3}, {"kind": "max_pool",
        ...     "size": 2}, {"kind": "activation"}, {"kind": "flatten"},
        ...     {"kind": "dense", "name": "dense_0", "out": 10}]
        >>> net = Function("layered", {"input_shape": (8, 8, 1), "steps": steps, "activation": "silu"})
        >>> net.apply(net.init(key=jax.random.key(0)), jnp.ones((2, 8, 8, 1))).shape
        (2, 10)
    """
    names = (activation,) if isinstance(activation, str) else tuple(activation)
    read_choice("activation", names, LAYERED_ACTIVATIONS)
    initialisers = read_choice("initialiser", initialiser, INITIALISERS)
    _check_steps(steps)
    chosen = len(names) > 1 and any(s["kind"] == "activation" and "of" not in s for s in steps)

    def run(params, x, row):
        """The outputs of all steps; `params` may make its layers when it is asked for them."""
        x, kept = standardised(x, mean, std), []
        for step in steps:
            x = _run_step(step, params, x, kept, names, row)
            kept.append(x)
        return x

    def init(row, *, key):
        made = _Maker(key, initialisers, row, bias)
        zero = {"activation": jnp.int32(0)}
        jax.eval_shape(
            lambda x: run(made, x, zero), jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        )
        return made.finished()

    def apply(params, x, row, key):
        return run(params, x, row)

    return Architecture(init, apply, tuple(input_shape), ("activation",) if chosen else ())


class _Maker:
    """Layers made for the widths that reach them, in a first walk over shapes."""

    def __init__(self, key, initialisers, row, bias):
        self.key, self.initialisers, self.row, self.bias = key, initialisers, row, bias
        self.shapes: dict[str, tuple[int, ...]] = {}

    def layer(self, step: Mapping[str, Any], x: Any) -> dict[str, Any]:
        """Zeros of the shapes of a step's weights."""
        wide = x.shape[-1]
        if step["kind"] == "batch_norm":
            self.shapes[step["name"]] = (wide,)
            return {name: jnp.ones(wide) for name in _NORM}
        size = step.get("kernel")
        shape = (wide, step["out"]) if size is None else (size, size, wide, step["out"])
        self.shapes[step["name"]] = shape
        return {"kernel": jnp.zeros(shape)}

    def finished(self) -> dict[str, dict[str, jax.Array]]:
        return in_one_draw(self.key, self._drawn)

    def _drawn(self, draw) -> dict[str, dict[str, jax.Array]]:
        out = {}
        for name, shape in self.shapes.items():
            if len(shape) == 1:
                out[name] = {n: jnp.full(shape, value, jnp.float32) for n, value in _NORM.items()}
            else:
                out[name] = dense(draw, shape, self.initialisers, self.row, bias=self.bias)
        return out


_NORM = {"offset": 0.0, "scale": 1.0, "mean": 0.0, "variance": 1.0}


def _run_step(step, params, x, kept, names, row):
    kind = step["kind"]
    if "name" in step:
        make = isinstance(params, _Maker)
        layer = params.layer(step, x) if make else params[step["name"]]
    if kind == "conv":
        return convolve(layer, x, step.get("stride", 1), step.get("padding", 0))
    if kind == "dense":
        return linear(layer, x)
    if kind == "batch_norm":
        return _normalise(layer, x, step.get("statistics", "moving"), step.get("epsilon", 1e-5))
    if kind == "activation":
        return _activate(step.get("of"), names, row, x)
    if kind in ("max_pool", "mean_pool"):
        return pool(x, kind.removesuffix("_pool"), step["size"])
    if kind == "add":
        source = kept[step["step"]]
        if x.shape[1:3] != source.shape[1:3]:
            raise ValueError(f"add: {source.shape} does not fit {x.shape}.")
        shared = min(x.shape[-1], source.shape[-1])
        return x.at[..., :shared].add(source[..., :shared])
    if kind == "mean":
        return x.mean((1, 2))
    return x.reshape(len(x), -1)


def _normalise(layer, x, statistics, epsilon):
    mean, variance = layer["mean"], layer["variance"]
    if statistics == "batch":
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
    return (x - mean) / jnp.sqrt(variance + epsilon) * layer["scale"] + layer["offset"]


def _activate(of, names, row, x):
    if of is not None or len(names) == 1:
        return LAYERED_ACTIVATIONS[of or names[0]](x)
    return jax.lax.switch(row["activation"], [LAYERED_ACTIVATIONS[name] for name in names], x)


def _check_steps(steps: Sequence[Mapping[str, Any]]) -> None:
    seen = set()
    for i, step in enumerate(steps):
        kind = step.get("kind")
        if kind not in _FIELDS:
            raise ValueError(f"step {i}: kind {kind!r}; there are {', '.join(_FIELDS)}.")
        unknown = set(step) - _FIELDS[kind] - {"kind"}
        if unknown:
            raise ValueError(f"step {i} ({kind}): unknown fields {sorted(unknown)}.")
        required = _FIELDS[kind] & {"name", "out", "size", "step"} | (
            {"kernel"} if kind == "conv" else set()
        )
        if required - set(step):
            raise ValueError(f"step {i} ({kind}) lacks {sorted(required - set(step))}.")
        if "name" in step and (step["name"] in seen or seen.add(step["name"])):
            raise ValueError(f"step {i}: the name {step['name']!r} occurs twice.")
        if kind == "activation" and step.get("of", "relu") not in LAYERED_ACTIVATIONS:
            raise ValueError(f"step {i}: activation {step['of']!r}; {sorted(LAYERED_ACTIVATIONS)}.")
        if kind == "add" and not 0 <= step["step"] < i:
            raise ValueError(f"step {i}: adds step {step['step']}, which is not an earlier one.")
        if step.get("statistics", "moving") not in ("moving", "batch"):
            raise ValueError(f"step {i}: statistics {step['statistics']!r}; 'moving' or 'batch'.")
