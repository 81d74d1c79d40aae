"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.activations import ACTIVATIONS
from wsljax.zoo.architectures.common import (
    INITIALISERS,
    Names,
    activation_of,
    dense,
    drop,
    in_one_draw,
    linear,
    read_choice,
    reads_of,
    standardised,
)


@register_architecture("mlp")
def mlp(
    widths: Sequence[int] = (64, 16, 16, 10),
    activation: Names = "relu",
    initialiser: Names = "lecun_normal",
    bias: bool = True,
    mean: Any = 0.0,
    std: Any = 1.0,
) -> Architecture:
    """Dense layers with an activation between them.

    Args:
        widths: inputs, hidden layers, outputs.
        activation: a name of `zoo.ACTIVATIONS`, or several, chosen by the column `activation`.
        initialiser: likewise of `INITIALISERS`, column `initialiser`.
        bias: whether the layers have biases.
        mean, std: what inputs are standardised with, numbers or one an input.

    Params: `dense_i/kernel` `(in, out)` and `dense_i/bias` `(out,)`.

    Raises:
        ValueError: fewer than two widths, or unknown names.
    """
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise ValueError(f"widths: {tuple(widths)}; two at least, each 1 or more.")
    activations = read_choice("activation", activation, ACTIVATIONS)
    initialisers = read_choice("initialiser", initialiser, INITIALISERS)
    shapes = list(zip(widths[:-1], widths[1:], strict=True))

    def init(row, *, key):
        def make(draw):
            return {
                f"dense_{i}": dense(draw, shape, initialisers, row, bias=bias)
                for i, shape in enumerate(shapes)
            }

        return in_one_draw(key, make)

    def apply(params, x, row, key):
        x = standardised(x, mean, std)
        for i in range(len(shapes) - 1):
            x = activation_of(activations, row, linear(params[f"dense_{i}"], x))
            x = drop(x, row, key, i)
        return linear(params[f"dense_{len(shapes) - 1}"], x)

    return Architecture(init, apply, (widths[0],), reads_of("activation", activation))
