"""Points between training networks: pairs, and soups of several."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .baseline import Baseline, Stack


class Interpolation(Baseline):
    """A point on the line between two training networks.

    Align the networks first (`aligned_population`): between raw ones lies a barrier.

    Attributes:
        low, high: the share of the second network is uniform between them.

    Example:
        >>> ends = {"w": jnp.array([[0.0], [1.0]])}
        >>> Interpolation(ends, 0.25, 0.25).sample(jax.random.key(0), 9)["w"].min().item()
        0.25
    """

    training: Stack
    low: float
    high: float

    def __init__(self, networks: Any, low: float = 0.25, high: float = 0.75):
        """See the class.

        Raises:
            ValueError: fewer than two networks, or shares outside of 0 to 1.
        """
        if not 0 <= low <= high <= 1:
            raise ValueError(f"shares from {low} to {high}; they go from 0 to 1.")
        self.training = Stack(networks)
        if self.training.count < 2:
            raise ValueError("interpolation needs two training networks at least.")
        self.low, self.high = float(low), float(high)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        which, where = jax.random.split(key)
        pair = _several(which, self.training.count, 2)
        share = jax.random.uniform(where, (), minval=self.low, maxval=self.high)
        first, second = (self.training.one(index) for index in pair)
        mixed = jax.tree.map(lambda a, b: a + share * (b - a), first, second)
        return self.training.network(mixed)


class Soups(Baseline):
    """The mean of several training networks, drawn without replacement.

    Attributes:
        size: how many.

    Reference:
        M. Wortsman et al., "Model soups", ICML 2022, for one start; aligned here where starts differ.

    Example:
        >>> soups = Soups({"w": jnp.arange(4.0)[:, None]}, size=4)
        >>> soups.sample(jax.random.key(0), 2)["w"].tolist()
        [[1.5], [1.5]]
    """

    training: Stack
    size: int

    def __init__(self, networks: Any, size: int = 16):
        """See the class.

        Raises:
            ValueError: a size that is not positive, or more than there are networks.
        """
        self.training = Stack(networks)
        if not 0 < size <= self.training.count:
            raise ValueError(
                f"`size` is {size}; soups are of 1 to {self.training.count} training networks."
            )
        self.size = int(size)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        chosen = _several(key, self.training.count, self.size)
        mixed = jax.tree.map(
            lambda x: x[chosen].astype(jnp.promote_types(x.dtype, jnp.float32)).mean(0),
            self.training.weights,
        )
        return self.training.network(mixed)


def _several(key: jax.Array, count: int, size: int) -> jax.Array:
    """Different indices: those of the largest of random numbers."""
    return jax.lax.top_k(jax.random.uniform(key, (count,)), size)[1]
