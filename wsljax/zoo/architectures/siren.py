"""Implicit neural representations: coordinates in, signal out.

Sitzmann et al., "Implicit neural representations with periodic activation functions", 2020
(SIREN, with its initialisation); Tancik et al. 2020 (positional encoding). What the files of
published zoos leave out, the frequency and the offset of the output, is a setting here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.activations import ACTIVATIONS
from wsljax.zoo.architectures.common import in_one_draw, linear, read_choice
from wsljax.zoo.architectures.sine import sine


def _sitzmann(inputs: int, frequency: float, first: bool, last: bool) -> tuple[float, float]:
    return (1 / inputs if first else math.sqrt(6 / inputs) / frequency), inputs**-0.5


def _dws(inputs: int, frequency: float, first: bool, last: bool) -> tuple[float, float]:
    return (inputs**-0.5,) * 2 if last else (math.sqrt(6 / inputs) / frequency, 0.0)


#: Starts by name: the limits within which kernels and biases of a layer are uniform, from its inputs,
#: the frequency, and whether it is the first, the last.
STARTS: dict[str, Callable[[int, float, bool, bool], tuple[float, float]]] = {
    "siren": _sitzmann,
    "dws": _dws,
}


@register_architecture("siren")
def siren(
    widths: Sequence[int] = (2, 32, 32, 1),
    frequency: float = 30.0,
    first_frequency: float | None = None,
    offset: float = 0.0,
    output: str = "linear",
    initialiser: str = "siren",
) -> Architecture:
    """`h = sin(frequency (x W + b))`, hidden layers times; then linear, plus `offset`.

    Args:
        widths: coordinates, hidden layers, channels of the signal.
        frequency: of the hidden layers (omega_0), inside the sine.
        first_frequency: of the first layer; the same by default.
        offset: added to the output; 0.5 for the MNIST INRs of Navon et al. 2023.
        output: an activation applied to the output, e.g. "sigmoid" for occupancies.

        initialiser: "siren": kernels uniform within 1/in (first layer) and sqrt(6/in)/frequency
            (others), biases within 1/sqrt(in). "dws", as the INRs of Navon et al. 2023 start: sqrt(6/in)/
            frequency in all layers that a sine follows, whose biases are zero; the last layer, kernel
            and bias, within 1/sqrt(in). Kernels are times the row's `init_scale`.

    Params: `dense_i/kernel` `(in, out)` and `dense_i/bias` `(out,)`.
    """
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise ValueError(f"widths: {tuple(widths)}; two at least, each 1 or more.")
    (last,) = read_choice("output", output, ACTIVATIONS)
    (start,) = read_choice("initialiser", initialiser, STARTS)
    count = len(widths) - 1
    speeds = [frequency if first_frequency is None else first_frequency] + [frequency] * count

    def init(row, *, key):
        scale = jnp.asarray(row.get("init_scale", 1.0), jnp.float32)

        def layer(draw, i, n, m):
            limit, shift = STARTS[start](n, speeds[i], i == 0, i == count - 1)
            return {
                "kernel": scale * limit * (2 * draw((n, m)) - 1),
                "bias": (2 * draw((m,)) - 1) * shift,
            }

        def make(draw):
            pairs = enumerate(zip(widths[:-1], widths[1:], strict=True))
            return {f"dense_{i}": layer(draw, i, n, m) for i, (n, m) in pairs}

        return in_one_draw(key, make)

    def apply(params, x, row, key):
        for i in range(count - 1):
            x = sine(speeds[i] * linear(params[f"dense_{i}"], x))
        x = linear(params[f"dense_{count - 1}"], x) + offset
        return ACTIVATIONS[last](x)

    return Architecture(init, apply, (widths[0],))


def grid(*sizes: int, order: str = "xy") -> np.ndarray:
    """Coordinates of the samples of an image or a volume, in [-1, 1].

    Args:
        sizes: samples along each axis of the array, `(height, width)` for an image.
        order: "xy": the last axis of the array is the first coordinate, as in the MNIST INRs of
            Navon et al. 2023 (x fastest, x first); "ij": coordinates in the order of the axes.

    Returns:
        float32 `(prod(sizes), len(sizes))`, in row-major order of the array.

    Example:
        >>> grid(2, 3).tolist()[:3]
        [[-1.0, -1.0], [0.0, -1.0], [1.0, -1.0]]
    """
    if order not in ("xy", "ij"):
        raise ValueError(f"order: {order!r}; 'xy' or 'ij'.")
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in sizes), indexing="ij")
    axes = axes[::-1] if order == "xy" else axes
    return np.stack([axis.ravel() for axis in axes], axis=-1).astype(np.float32)
