"""Recurrent networks over sequences: LSTM, GRU and the plain tanh network."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.common import (
    INITIALISERS,
    Names,
    dense,
    draw_kernel,
    drop,
    in_one_draw,
    linear,
    read_choice,
    standardised,
)

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def _lstm(layer: Any, carry: tuple, x: jax.Array) -> tuple:
    h, c = carry
    i, f, g, o = jnp.split(linear(layer, x) + h @ layer["recurrent"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(layer: Any, carry: tuple, x: jax.Array) -> tuple:
    (h,) = carry
    r, z, n = jnp.split(linear(layer, x), 3, axis=-1)
    hr, hz, hn = jnp.split(h @ layer["recurrent"], 3, axis=-1)
    hn = hn + layer["recurrent_bias"] if "recurrent_bias" in layer else hn
    z = jax.nn.sigmoid(z + hz)
    return ((1 - z) * jnp.tanh(n + jax.nn.sigmoid(r + hr) * hn) + z * h,)


def _rnn(layer: Any, carry: tuple, x: jax.Array) -> tuple:
    return (jnp.tanh(linear(layer, x) + carry[0] @ layer["recurrent"]),)


STEPS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


@register_architecture("recurrent")
def recurrent(
    cell: str = "lstm",
    tokens: int | None = None,
    features: int | None = None,
    hidden: int = 32,
    layers: int = 2,
    outputs: int = 10,
    head: str = "last",
    initialiser: Names = "torch",
    mean: Any = 0.0,
    std: Any = 1.0,
) -> Architecture:
    """Layers of one kind of cell over a sequence, then a dense layer.

    Args:
        cell: "lstm" (gates i f g o), "gru" (r z n) or "rnn" (tanh).
        tokens: inputs are integers `(n, time)` below this number, seen as one-hot vectors; or
        features: inputs are vectors, `(n, time, features)`.
        hidden, layers: units of a layer, and how many.
        outputs: logits.
        head: "last": one output `(n, outputs)` after the last step; "each": `(n, time, outputs)`.
        initialiser, mean, std: as for "mlp"; `mean` and `std` are of vectors.

    Params: `cell_i/kernel` `(in, gates * hidden)`, `cell_i/recurrent` `(hidden, gates * hidden)`,
    `cell_i/bias` `(gates * hidden,)`, of a GRU also `cell_i/recurrent_bias` `(hidden,)`;
    `dense/kernel`, `dense/bias`.

    Raises:
        ValueError: an unknown cell or head, or not exactly one of `tokens` and `features`.
    """
    if cell not in GATES:
        raise ValueError(f"cell: {cell!r}; one of {', '.join(GATES)}.")
    if (tokens is None) == (features is None):
        raise ValueError("give either `tokens` or `features`.")
    if head not in ("last", "each"):
        raise ValueError(f"head: {head!r}; 'last' or 'each'.")
    names = read_choice("initialiser", initialiser, INITIALISERS)
    gates, step = GATES[cell], STEPS[cell]

    def init(row, *, key):
        return in_one_draw(key, lambda draw: make(draw, row))

    def make(draw, row):
        params = {}
        for i in range(layers):
            size = cast(int, tokens or features) if i == 0 else hidden
            layer = dense(draw, (size, gates * hidden), names, row)
            layer["recurrent"] = draw_kernel(draw, (hidden, gates * hidden), names, row)
            if names == ("torch",):  # torch draws all weights of a cell within 1/sqrt(hidden)
                layer["kernel"] = layer["kernel"] * jnp.sqrt(size / hidden).astype(jnp.float32)
                layer["bias"] = layer["bias"] * jnp.sqrt(size / hidden).astype(jnp.float32)
            if cell == "gru":
                layer["recurrent_bias"] = (2 * draw((hidden,)) - 1) * hidden**-0.5
            params[f"cell_{i}"] = layer
        return params | {"dense": dense(draw, (hidden, outputs), names, row)}

    def apply(params, x, row, key):
        kernel = params["cell_0"]["kernel"]
        if tokens is not None:
            x = jax.nn.one_hot(x, tokens, dtype=kernel.dtype)
        else:
            x = standardised(x, mean, std)
        for i in range(layers):
            layer = params[f"cell_{i}"]
            zero = jnp.zeros((len(x), hidden), jnp.result_type(x, kernel))

            def advance(carry, x, layer=layer):
                carry = step(layer, carry, x)
                return carry, carry[0]

            start = (zero, zero) if cell == "lstm" else (zero,)
            _, x = jax.lax.scan(advance, start, jnp.swapaxes(x, 0, 1))
            x = drop(jnp.swapaxes(x, 0, 1), row, key, i)
        return linear(params["dense"], x if head == "each" else x[:, -1])

    shape = (None,) if tokens is not None else (None, features)
    dtype = jnp.int32 if tokens is not None else jnp.float32
    return Architecture(init, apply, shape, dtype=dtype)
