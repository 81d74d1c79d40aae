"""Activations chosen by number, so that the choice is data and vmaps."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from wsljax.zoo.architectures.sine import sine

#: Every activation that can be chosen by name; a code is an index into the names given.
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
    "elu": jax.nn.elu,
    "sigmoid": jax.nn.sigmoid,
    "sine": sine,
    "linear": lambda x: x,
}


def activate(
    code: jax.Array | int, x: jax.Array, names: Sequence[str] = ("relu", "tanh")
) -> jax.Array:
    """Apply activation `names[code]`.

    Under `vmap` over `code` every activation named is computed and one is kept, so name only those
    that occur. An integer `code` computes just that one.

    Args:
        code: index into `names`; values outside it are clamped, as `jax.lax.switch` does.
        x: of any shape.
        names: names from `ACTIVATIONS`.

    Returns:
        An array shaped like `x`.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> activate(jnp.int32(1), jnp.array([-1.0, 2.0]), ("tanh", "relu")).tolist()
        [0.0, 2.0]
    """
    unknown = [name for name in names if name not in ACTIVATIONS]
    if unknown or not names:
        raise ValueError(
            f"unknown activation {unknown or names!r}; there are {sorted(ACTIVATIONS)}."
        )
    functions = [ACTIVATIONS[name] for name in names]
    if isinstance(code, int):
        return functions[min(max(code, 0), len(functions) - 1)](x)
    if len(functions) == 1:
        return functions[0](x)
    return jax.lax.switch(code, functions, x)
