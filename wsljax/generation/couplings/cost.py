"""Distances between batches of trees, and pieces of batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def transport_cost(sources: Any, targets: Any) -> jax.Array:
    """The mean squared distance of the pairs of a batch; trees of arrays ``(batch, ...)``.

    >>> float(transport_cost({"w": jnp.zeros((2, 3))}, {"w": jnp.ones((2, 3))}))
    3.0
    """
    pairs = zip(jax.tree.leaves(sources), jax.tree.leaves(targets), strict=True)
    return jnp.stack([jnp.sum((a - b) ** 2) / a.shape[0] for a, b in pairs]).sum()


def inner_products(x: Any, y: Any) -> jax.Array:
    """``(batch of x, batch of y)``: the sum of the products of all entries."""
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    parts = [
        jnp.matmul(a.reshape(len(a), -1), b.reshape(len(b), -1).T, precision="highest")
        for a, b in pairs
    ]
    return sum(parts[1:], parts[0])


def take(tree: Any, rows: jax.Array) -> Any:
    """The rows of all arrays."""
    return jax.tree.map(lambda x: x[rows], tree)


def in_groups(fn: Callable[..., Any], size: int | None, *trees: Any) -> Any:
    """``fn`` on pieces of ``size`` rows of a batch, put together again.

    Raises:
        ValueError: pieces of this size do not make up the batch.
    """
    count = jax.tree.leaves(trees)[0].shape[0]
    if size is None or size == count:
        return fn(*trees)
    if size < 1 or count % size:
        raise ValueError(f"a batch of {count} cannot be cut into pieces of `size` {size}")
    cut = jax.tree.map(lambda x: x.reshape(count // size, size, *x.shape[1:]), trees)
    out = jax.lax.map(lambda piece: fn(*piece), cut)
    return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), out)
