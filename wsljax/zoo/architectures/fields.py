"""Fields over space by coordinates with a positional encoding: shapes, and radiance fields.

Tancik et al. 2020 and Mildenhall et al. 2020 (NeRF: density and colour along a ray, composed).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.activations import ACTIVATIONS
from wsljax.zoo.architectures.common import (
    INITIALISERS,
    Names,
    dense,
    in_one_draw,
    linear,
    read_choice,
)


def encode(x: jax.Array, octaves: int) -> jax.Array:
    """`x`, and sine and cosine of `2^k pi x` for k below `octaves`: `(..., d)` to `(..., d (1 + 2 k))`."""
    if not octaves:
        return x
    angles = x[..., None, :] * (jnp.pi * 2.0 ** jnp.arange(octaves))[:, None].astype(x.dtype)
    angles = angles.reshape(*x.shape[:-1], -1)
    return jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=-1)


@register_architecture("field")
def field(
    widths: Sequence[int] = (3, 32, 32, 1),
    octaves: int = 4,
    activation: str = "relu",
    output: str = "linear",
    initialiser: Names = "he_normal",
) -> Architecture:
    """Dense layers on encoded coordinates.

    Args:
        widths: coordinates, hidden layers, channels of the field.
        octaves: of the encoding; 0 for none.
        activation: of the hidden layers.
        output: an activation applied to the output.
        initialiser: of the kernels.

    Params: `dense_i/kernel` `(in, out)`, `dense_i/bias`.
    """
    (hidden,) = read_choice("activation", activation, ACTIVATIONS)
    (last,) = read_choice("output", output, ACTIVATIONS)
    names = read_choice("initialiser", initialiser, INITIALISERS)
    sizes = (widths[0] * (1 + 2 * octaves), *widths[1:])

    def init(row, *, key):
        return _initial(key, sizes, names, row)

    def apply(params, x, row, key):
        return ACTIVATIONS[last](_layers(params, encode(x, octaves), len(sizes) - 1, hidden))

    return Architecture(init, apply, (widths[0],))


@register_architecture("nerf")
def nerf(
    widths: Sequence[int] = (32, 32),
    octaves: int = 4,
    samples: int = 16,
    near: float = 0.5,
    far: float = 2.5,
    background: float = 1.0,
    activation: str = "relu",
) -> Architecture:
    """The colour of rays through a field of density and colour.

    Args:
        widths: of the hidden layers.
        octaves: of the encoding of positions.
        samples: along a ray, at the middles of equal pieces of `[near, far]`.
        near, far: where the field lies, in lengths of the ray's direction.
        background: the colour of what is behind.
        activation: of the hidden layers.

    Inputs are rays `(n, 6)`, origin and direction; outputs are colours `(n, 3)`. With density s and
    pieces of length l a sample's weight is `exp(-sum of s l before it) (1 - exp(-s l))`.

    Params: `dense_i/kernel`, `dense_i/bias`; the last has colour (3) and density (1).
    """
    (hidden,) = read_choice("activation", activation, ACTIVATIONS)
    sizes = (3 * (1 + 2 * octaves), *widths, 4)

    def init(row, *, key):
        return _initial(key, sizes, ("he_normal",), row)

    def apply(params, rays, row, key):
        origin, direction = rays[:, None, :3], rays[:, None, 3:]
        length = (far - near) / samples
        depths = near + length * (jnp.arange(samples, dtype=rays.dtype) + 0.5)
        points = origin + depths[:, None] * direction
        y = _layers(params, encode(points, octaves), len(sizes) - 1, hidden)
        colour, density = jax.nn.sigmoid(y[..., :3]), jax.nn.softplus(y[..., 3])
        step = density * length * jnp.linalg.norm(direction, axis=-1)
        through = jnp.exp(-(jnp.cumsum(step, axis=-1) - step))
        weight = through * (1 - jnp.exp(-step))
        seen = jnp.einsum("ns,nsc->nc", weight, colour)
        return seen + background * jnp.exp(-step.sum(-1))[:, None]

    return Architecture(init, apply, (6,))


def _initial(key, sizes: Sequence[int], names: Sequence[str], row) -> dict:
    def make(draw):
        shapes = enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        return {f"dense_{i}": dense(draw, shape, names, row) for i, shape in shapes}

    return in_one_draw(key, make)


def _layers(params, x, count: int, activation: str) -> jax.Array:
    for i in range(count - 1):
        x = ACTIVATIONS[activation](linear(params[f"dense_{i}"], x))
    return linear(params[f"dense_{count - 1}"], x)
