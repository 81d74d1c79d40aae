"""What the architectures share: initial weights, dense layers, activations chosen by a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.zoo.architectures.activations import activate

#: Initial kernels by name; drawn for a matrix `(fan_in, fan_out)`.
INITIALISERS = {
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "he_normal": jax.nn.initializers.he_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "normal": jax.nn.initializers.normal(0.05),
    "truncated_normal": jax.nn.initializers.truncated_normal(0.05),
    "uniform": lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -0.05, 0.05
    ),
    # torch's default of linear and convolutional layers: uniform within 1/sqrt(fan_in)
    "torch": jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}

Names = str | Sequence[str]


def words(value: Names) -> tuple[str, ...]:
    """One name or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def read_choice(column: str, value: Names, known: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a setting, checked.

    Raises:
        ValueError: a name that is not known.
    """
    names = words(value)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{column}: {unknown or names!r} is not among {sorted(known)}.")
    return names


def reads_of(column: str, value: Names) -> tuple[str, ...]:
    """The column that chooses, if there is a choice."""
    return (column,) if len(words(value)) > 1 else ()


def activation_of(names: Sequence[str], row: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """The only activation, or the one of the row's code."""
    return activate(0 if len(names) == 1 else row["activation"], x, names)


def draw_kernel(
    key: jax.Array, shape: Sequence[int], names: Sequence[str], row: Mapping[str, Any]
) -> jax.Array:
    """A kernel `(..., fan_in, fan_out)` times the row's `init_scale`, by its `initialiser`."""
    flat = (int(np.prod(shape[:-1])), shape[-1])
    draws = [lambda key, f=INITIALISERS[name]: f(key, flat, jnp.float32) for name in names]
    if len(draws) == 1:
        kernel = draws[0](key)
    else:
        kernel = jax.lax.switch(row.get("initialiser", 0), draws, key)
    scale = jnp.asarray(row.get("init_scale", 1.0), jnp.float32)
    return (scale * kernel).reshape(tuple(shape))


def dense(
    key: jax.Array,
    shape: Sequence[int],
    names: Sequence[str],
    row: Mapping[str, Any],
    *,
    bias: bool = True,
) -> dict[str, jax.Array]:
    """Weights of one layer: `kernel` of `shape`, and a `bias` of its last axis.

    Biases start at zero, under the initialiser "torch" uniformly within 1/sqrt(fan_in).
    """
    draw, shift = jax.random.split(key)
    out = {"kernel": draw_kernel(draw, shape, names, row)}
    if bias and tuple(names) == ("torch",):
        limit = 1 / np.sqrt(np.prod(shape[:-1]))
        out["bias"] = jax.random.uniform(shift, shape[-1:], jnp.float32, -limit, limit)
    elif bias:
        out["bias"] = jnp.zeros(shape[-1], jnp.float32)
    return out


def linear(layer: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """`x @ kernel + bias`, the bias if there is one."""
    y = x @ layer["kernel"]
    return y + layer["bias"] if "bias" in layer else y


def drop(x: jax.Array, row: Mapping[str, Any], key: jax.Array | None, number: int) -> jax.Array:
    """Dropout number `number` at the row's rate, if there are a rate and a key."""
    if key is None or "dropout" not in row:
        return x
    kept = 1 - jnp.asarray(row["dropout"], x.dtype)
    mask = jax.random.uniform(jax.random.fold_in(key, number), x.shape, x.dtype) < kept
    return jnp.where(mask, x / kept, jnp.zeros((), x.dtype))


def standardised(x: jax.Array, mean: Any, std: Any) -> jax.Array:
    """Inputs as the networks saw them: `(x - mean) / std`, numbers or one for each channel."""
    if mean == 0 and std == 1:
        return x
    return (x - jnp.asarray(mean, x.dtype)) / jnp.asarray(std, x.dtype)
