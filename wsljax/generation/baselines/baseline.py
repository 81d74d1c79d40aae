"""What all trivial baselines share: training networks to draw from, and nothing to fit by descent."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...zoo.chunks import is_stacked
from ...zoo.population import Population
from ..generator import Batch, Generator


class Stack(eqx.Module):
    """Training networks: the floating weights, and what all networks have alike.

    Attributes:
        weights: a tree of `(models, ...)`; None where a leaf is no floating array.
        others: the leaves that are none, as the first network has them.
    """

    weights: Any
    others: Any

    def __init__(self, networks: Any):
        """Of a population, or stacked params.

        Raises:
            ValueError: no networks, no floating weights, or some that are NaN or infinite.
        """
        params = networks.params if isinstance(networks, Population) else networks
        stacked, shared = eqx.partition(params, is_stacked)
        is_float = lambda x: is_stacked(x) and jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        self.weights, counted = eqx.partition(jax.tree.map(jnp.asarray, stacked), is_float)
        leaves = jax.tree.leaves(self.weights)
        if not leaves or not len(leaves[0]):
            raise ValueError("a baseline needs training networks with floating weights.")
        if not all(bool(jnp.isfinite(x).all()) for x in leaves):
            raise ValueError(
                "the training networks hold NaN or infinite weights; leave those out "
                "(`zoo.finite_members`)."
            )
        first = jax.tree.map(lambda x: x[0], counted)
        self.others = eqx.combine(first, shared)

    @property
    def count(self) -> int:
        return len(jax.tree.leaves(self.weights)[0])

    def one(self, index: jax.Array) -> Any:
        """The weights of one network."""
        return jax.tree.map(lambda x: x[index], self.weights)

    def network(self, weights: Any) -> Any:
        """A whole network, in the dtypes of the training networks."""
        cast = jax.tree.map(lambda x, like: x.astype(like.dtype), weights, self.weights)
        return eqx.combine(cast, self.others)

    def rows(self) -> np.ndarray:
        """`(models, size)` in float64, the leaves one after the other."""
        leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(self.weights)]
        return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1)

    def from_row(self, row: jax.Array) -> Any:
        """The weights of one network, of a row."""
        leaves, treedef = jax.tree.flatten(self.weights)
        ends = np.cumsum([x[0].size for x in leaves])
        parts = jnp.split(row, ends[:-1])
        shaped = [p.reshape(x.shape[1:]) for p, x in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(treedef, shaped)


class Baseline(Generator):
    """A generator that is made from training networks, without training.

    Attributes:
        training: those networks.
    """

    training: eqx.AbstractVar[Stack]

    def loss(self, batch: Batch, *, key: jax.Array) -> Any:
        """There is none.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{type(self).__name__} is made from training networks and has nothing to fit; call "
            "`sample` on it as it is."
        )

    def trainable(self) -> Any:
        """Nothing."""
        return jax.tree.map(lambda _: False, self)


def normal_like(key: jax.Array, tree: Any) -> Any:
    """Standard normal numbers, one for each entry of a tree, in float32 at least."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(k, x.shape, jnp.promote_types(x.dtype, jnp.float32))
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, drawn)


def deviations(weights: Any) -> Any:
    """The deviation of every entry over networks (ddof 0)."""
    return jax.tree.map(
        lambda x: jnp.std(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 0), weights
    )
