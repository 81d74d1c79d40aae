"""What the architectures share: initial weights, dense layers, activations chosen by a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import orthonormal_columns
from wsljax.zoo.architectures.activations import activate

Draw = Callable[[Sequence[int]], jax.Array]
"""Gives numbers of a shape, uniform in (0, 1)."""


def in_one_draw(key: jax.Array, make: Callable[[Draw], Any]) -> Any:
    """`make(draw)`, with all that it draws taken from a single call: that compiles many times faster.

    >>> in_one_draw(jax.random.key(0), lambda draw: (draw((2, 3)), draw((4,))))[1].shape
    (4,)
    """
    sizes: list[int] = []

    def count(shape):
        sizes.append(math.prod(shape))
        return jnp.full(tuple(shape), 0.5, jnp.float32)

    jax.eval_shape(lambda: make(count))
    flat = jax.random.uniform(key, (sum(sizes),), jnp.float32, minval=2.0**-24)
    ends = iter(np.cumsum(sizes).tolist())

    def draw(shape):
        end, size = next(ends), math.prod(shape)
        return flat[end - size : end].reshape(tuple(shape))

    return make(draw)


def normal(u: jax.Array) -> jax.Array:
    """Standard normal numbers from uniform ones."""
    return math.sqrt(2) * jax.scipy.special.erfinv(2 * u - 1)


def truncated(u: jax.Array) -> jax.Array:
    """Standard normal numbers within two deviations, from uniform ones."""
    inside = math.erf(math.sqrt(2))
    return math.sqrt(2) * jax.scipy.special.erfinv(inside * (2 * u - 1))


def _orthogonal(u: jax.Array) -> jax.Array:
    """Orthonormal columns, or rows (Saxe 2014)."""
    q = orthonormal_columns(normal(u if u.shape[0] >= u.shape[1] else u.T))
    return q if u.shape[0] >= u.shape[1] else q.T


KEPT = 0.87962566103423978
"""The deviation of a standard normal number that is kept within two deviations."""

#: Initial kernels by name: from uniform numbers of the shape of a matrix `(fan_in, fan_out)`. Glorot
#: and Bengio 2010, He et al. 2015, LeCun et al. 1998, Saxe et al. 2014; "torch" is the default of
#: torch's linear and convolutional layers, uniform within 1/sqrt(fan_in).
INITIALISERS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "lecun_normal": lambda u: truncated(u) / KEPT * u.shape[0] ** -0.5,
    "he_normal": lambda u: truncated(u) / KEPT * (2 / u.shape[0]) ** 0.5,
    "he_uniform": lambda u: (2 * u - 1) * (6 / u.shape[0]) ** 0.5,
    "glorot_normal": lambda u: truncated(u) / KEPT * (2 / sum(u.shape)) ** 0.5,
    "glorot_uniform": lambda u: (2 * u - 1) * (6 / sum(u.shape)) ** 0.5,
    "orthogonal": _orthogonal,
    "normal": lambda u: 0.05 * normal(u),
    "truncated_normal": lambda u: 0.05 * truncated(u),
    "uniform": lambda u: 0.05 * (2 * u - 1),
    "torch": lambda u: (2 * u - 1) * u.shape[0] ** -0.5,
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
    draw: Draw, shape: Sequence[int], names: Sequence[str], row: Mapping[str, Any]
) -> jax.Array:
    """A kernel `(..., fan_in, fan_out)` times the row's `init_scale`, by its `initialiser`."""
    u = draw((math.prod(shape[:-1]), shape[-1]))
    makers = [INITIALISERS[name] for name in names]
    if len(makers) == 1:
        kernel = makers[0](u)
    else:
        kernel = jax.lax.switch(row.get("initialiser", 0), makers, u)
    scale = jnp.asarray(row.get("init_scale", 1.0), jnp.float32)
    return (scale * kernel).reshape(tuple(shape))


def dense(
    draw: Draw,
    shape: Sequence[int],
    names: Sequence[str],
    row: Mapping[str, Any],
    *,
    bias: bool = True,
) -> dict[str, jax.Array]:
    """Weights of one layer: `kernel` of `shape`, and a `bias` of its last axis.

    Biases start at zero, under the initialiser "torch" uniformly within 1/sqrt(fan_in).
    """
    out = {"kernel": draw_kernel(draw, shape, names, row)}
    if bias and tuple(names) == ("torch",):
        out["bias"] = (2 * draw(shape[-1:]) - 1) * math.prod(shape[:-1]) ** -0.5
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
