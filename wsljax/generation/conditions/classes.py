"""Conditions that are one of several classes."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import is_tracer
from .condition import Condition, Told


class ClassCondition(Condition):
    """A class to its learned vector.

    Attributes:
        table: ``(count, size)``.

    Example:
        >>> condition = ClassCondition(10, 16, key=jax.random.key(0))
        >>> condition(jnp.asarray(3)).vector.shape
        (16,)
    """

    table: jax.Array
    size: int | None = eqx.field(static=True)
    beside: int = eqx.field(static=True, default=0)

    def __init__(
        self, count: int, size: int, *, key: jax.Array, dtype: jnp.dtype | type = jnp.float32
    ):
        """Draw the vectors of ``count`` classes."""
        if count < 1 or size < 1:
            raise ValueError(f"`count` and `size` must be positive; got {count} and {size}")
        self.table = jax.random.normal(key, (count, size), dtype)
        self.size, self.beside = size, 0

    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        """An integer from 0 to ``count - 1``.

        Raises:
            ValueError: no integer, or one out of range; inside of ``jit``, where that is not known, the
                vector is NaN.
        """
        del key
        label, count = jnp.asarray(raw), len(self.table)
        if label.shape != () or not jnp.issubdtype(label.dtype, jnp.integer):
            raise ValueError(
                f"a class is one integer; got {label.dtype} of shape {label.shape}"
                + ("; for a batch use jax.vmap" if label.ndim == 1 else "")
            )
        if not is_tracer(label) and not 0 <= int(np.asarray(label)) < count:
            raise ValueError(f"class {int(label)} is out of range: there are {count}")
        known = (label >= 0) & (label < count)
        vector = self.table[jnp.clip(label, 0, count - 1)]
        return Told(jnp.where(known, vector, jnp.asarray(jnp.nan, vector.dtype)))

    def missing(self, raw: Any) -> jax.Array:
        """Classes below 0 are not known."""
        return jnp.asarray(raw) < 0
