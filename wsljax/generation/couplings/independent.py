"""Sources and targets as they come."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax


class Independent(eqx.Module):
    """Each network is paired with a source of its own, drawn independently of it.

    >>> import jax.numpy as jnp
    >>> sources, targets = Independent()(jnp.ones(3), jnp.zeros(3), key=jax.random.key(0))
    >>> sources.tolist()
    [1.0, 1.0, 1.0]
    """

    def __call__(self, sources: Any, targets: Any, *, key: jax.Array) -> tuple[Any, Any]:
        return sources, targets
