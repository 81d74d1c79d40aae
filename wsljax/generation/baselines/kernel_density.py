"""Kernel density estimates of training networks, in all weights or in principal components."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .baseline import Baseline, Stack
from .gaussians import principal_factors


class KernelDensity(Baseline):
    """A kernel density estimate in principal components: a training network, and noise of their covariance.

    Attributes:
        bandwidth: deviation of the kernel, as a share of that of each component.
        independent: whether each component takes its own training network (a product of estimates in one
            dimension, as K. Schuerholt et al., "Hyper-representations as generative models", NeurIPS 2022,
            do in each dimension of a latent space).

    Reference:
        D. W. Scott, "Multivariate density estimation", 1992, for the bandwidth `models ** (-1 / (d + 4))`
        of `d` dimensions.

    Example:
        >>> estimate = KernelDensity({"w": jnp.array([[0.0], [1.0], [2.0]])}, bandwidth=0.0)
        >>> drawn = estimate.sample(jax.random.key(0), 9)["w"]
        >>> bool(jnp.allclose(drawn, jnp.round(drawn), atol=1e-5))
        True
    """

    training: Stack
    mean: jax.Array
    factors: jax.Array
    places: jax.Array
    bandwidth: float
    independent: bool

    def __init__(
        self,
        networks: Any,
        components: int | None = None,
        *,
        bandwidth: float | None = None,
        independent: bool = False,
    ):
        """See the class; `components=None` takes all that the training networks span.

        Raises:
            ValueError: a negative bandwidth, or as many components as networks.
        """
        self.training = Stack(networks)
        self.mean, factors = principal_factors(self.training, components)
        length = jnp.linalg.norm(factors, axis=1, keepdims=True)
        some = length[:, 0] > 1e-6 * length.max()
        self.factors, length = factors[some], length[some]
        rows = jnp.asarray(self.training.rows(), jnp.float32) - self.mean
        self.places = rows @ (self.factors / length**2).T  # in units of each component's deviation
        count, dimensions = self.places.shape
        scott = count ** (-1 / (dimensions + 4))
        self.bandwidth = float(scott if bandwidth is None else bandwidth)
        if self.bandwidth < 0:
            raise ValueError(f"`bandwidth` is {bandwidth}; it is not negative.")
        self.independent = bool(independent)

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        which, what = jax.random.split(key)
        count, dimensions = self.places.shape
        shape = (dimensions,) if self.independent else ()
        index = jnp.broadcast_to(jax.random.randint(which, shape, 0, count), (dimensions,))
        place = self.places[index, jnp.arange(dimensions)]
        place = place + self.bandwidth * jax.random.normal(what, (dimensions,))
        return self.training.network(self.training.from_row(self.mean + place @ self.factors))
