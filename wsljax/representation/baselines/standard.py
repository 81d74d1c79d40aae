"""What all predictors do to their features first: check them, and bring columns to mean 0 and deviation 1."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

Validation = tuple[Any, Any] | None
"""Features and targets of held-out networks, or None."""


class Standard(eqx.Module):
    """Columns to mean 0 and deviation 1; constant ones to 0."""

    mean: jax.Array
    deviation: jax.Array

    @staticmethod
    def of(x: jax.Array) -> Standard:
        mean, deviation = jnp.mean(x, axis=0), jnp.std(x, axis=0)
        constant = deviation <= 8 * jnp.finfo(x.dtype).eps * jnp.abs(mean)
        return Standard(mean, jnp.where(constant, jnp.inf, deviation))

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x - self.mean) / self.deviation


def checked(x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    """Features and targets in their floating dtype; raises `ValueError` where they do not fit."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    dtype = jnp.result_type(x.dtype, jnp.float32)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y) or not x.size:
        raise ValueError(f"`x` is (networks, features), `y` (networks,); not {x.shape}, {y.shape}.")
    for name, value in (("x", x), ("y", y)):
        bad = int(jnp.sum(~jnp.isfinite(value).reshape(len(value), -1).all(axis=1)))
        if bad:
            raise ValueError(
                f"`{name}` is not finite for {bad} of {len(x)} networks; leave them out, or their "
                "columns."
            )
    return x.astype(dtype), y.astype(dtype)
