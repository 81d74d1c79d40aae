"""Training networks, drawn with replacement, as they are or with noise on them."""

from __future__ import annotations

from typing import Any

import jax

from .baseline import Baseline, Stack, deviations, normal_like


class Copies(Baseline):
    """A training network at random. What does no better than this has learned to copy.

    Example:
        >>> import jax.numpy as jnp
        >>> copies = Copies({"w": jnp.arange(3.0)[:, None]})
        >>> bool(jnp.isin(copies.sample(jax.random.key(0), 5)["w"], jnp.arange(3.0)).all())
        True
    """

    training: Stack

    def __init__(self, networks: Any):
        """Of a population, or stacked params."""
        self.training = Stack(networks)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        index = jax.random.randint(key, (), 0, self.training.count)
        return self.training.network(self.training.one(index))


class NoisyCopies(Baseline):
    """A training network at random, and noise on every weight.

    Attributes:
        share: the deviation of the noise, as a share of that of the same weight over networks.
        deviation: of every weight.

    Example:
        >>> import jax.numpy as jnp
        >>> noisy = NoisyCopies({"w": jnp.array([[0.0], [2.0]])}, share=0.0)
        >>> set(noisy.sample(jax.random.key(0), 8)["w"][:, 0].tolist())
        {0.0, 2.0}
    """

    training: Stack
    deviation: Any
    share: float

    def __init__(self, networks: Any, share: float = 0.1):
        """See the class.

        Raises:
            ValueError: a negative share.
        """
        if share < 0:
            raise ValueError(f"`share` is {share}; it is a share of a deviation, not negative.")
        self.training = Stack(networks)
        self.deviation, self.share = deviations(self.training.weights), float(share)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        which, what = jax.random.split(key)
        copy = self.training.one(jax.random.randint(which, (), 0, self.training.count))
        noise = normal_like(what, copy)
        moved = jax.tree.map(lambda x, sd, e: x + self.share * sd * e, copy, self.deviation, noise)
        return self.training.network(moved)
