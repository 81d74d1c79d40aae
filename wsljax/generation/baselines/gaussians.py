"""Normal distributions fitted to training networks: per array, per weight, and with covariances."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .baseline import Baseline, Stack, deviations, normal_like


class EntryGaussian(Baseline):
    """Each weight on its own, with its mean and deviation over networks (a diagonal covariance).

    Example:
        >>> constant = EntryGaussian({"w": jnp.full((3, 2), 7.0)})
        >>> constant.sample(jax.random.key(0), 1)["w"].tolist()
        [[7.0, 7.0]]
    """

    training: Stack
    mean: Any
    deviation: Any

    def __init__(self, networks: Any):
        """Of a population, or stacked params."""
        self.training = Stack(networks)
        self.mean = jax.tree.map(lambda x: _wide(x).mean(0), self.training.weights)
        self.deviation = deviations(self.training.weights)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        noise = normal_like(key, self.mean)
        drawn = jax.tree.map(lambda m, sd, e: m + sd * e, self.mean, self.deviation, noise)
        return self.training.network(drawn)


class LeafGaussian(Baseline):
    """Each weight on its own, with the mean and deviation of its whole array: a fitted initialisation.

    The only one of the Gaussians that treats all units alike.
    """

    training: Stack
    mean: Any
    deviation: Any

    def __init__(self, networks: Any):
        """Of a population, or stacked params."""
        self.training = Stack(networks)
        self.mean = jax.tree.map(lambda x: _wide(x).mean(), self.training.weights)
        self.deviation = jax.tree.map(lambda x: _wide(x).std(), self.training.weights)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        noise = normal_like(key, self.training.one(jnp.asarray(0)))
        drawn = jax.tree.map(lambda m, sd, e: m + sd * e, self.mean, self.deviation, noise)
        return self.training.network(drawn)


class PrincipalGaussian(Baseline):
    """A normal distribution with the covariance of the training networks, or its first components.

    Samples lie in the affine hull of the training networks (all of it with `components=None`).

    Attributes:
        mean: `(size,)`.
        factors: `(components, size)`; the covariance is `factors.T @ factors`.

    Example:
        >>> line = PrincipalGaussian({"w": jnp.array([[0.0, 0.0], [1.0, 2.0]])})
        >>> drawn = line.sample(jax.random.key(0), 4)["w"]
        >>> bool(jnp.allclose(drawn[:, 1], 2 * drawn[:, 0]))
        True
    """

    training: Stack
    mean: jax.Array
    factors: jax.Array

    def __init__(self, networks: Any, components: int | None = None):
        """See the class.

        Raises:
            ValueError: fewer than two networks, or as many components as networks.
        """
        self.training = Stack(networks)
        self.mean, self.factors = principal_factors(self.training, components)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        row = self.mean + jax.random.normal(key, (len(self.factors),)) @ self.factors
        return self.training.network(self.training.from_row(row))


def principal_factors(training: Stack, components: int | None) -> tuple[jax.Array, jax.Array]:
    """The mean, and rows whose products sum to the covariance (ddof 1), the largest first."""
    count = training.count
    if count < 2:
        raise ValueError("a covariance needs two training networks at least.")
    if components is not None and not 0 < components < count:
        raise ValueError(
            f"`components` is {components}; {count} networks have 1 to {count - 1} of them."
        )
    rows = training.rows()
    mean = rows.mean(0)
    centred = (rows - mean) / np.sqrt(count - 1)
    # eigenvectors of the small side: never of the size of the weights squared
    values, vectors = np.linalg.eigh(centred @ centred.T)
    keep = np.argsort(-values)[: count - 1 if components is None else components]
    factors = vectors[:, keep].T @ centred
    return jnp.asarray(mean, jnp.float32), jnp.asarray(factors, jnp.float32)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
