"""What all autoencoders have in common: latents with a deviation, a loss, and how they are fitted."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...train import FitResult, fit
from ..spaces.space import Space, checked

Distance = Callable[[Any, Any], jax.Array]
"""``distance(predicted, x)`` of one network, a number: :class:`.Reconstruction`, or how differently two
networks answer."""


class Autoencoder(eqx.Module):
    """What a space makes of a network to latents, and back; for one network.

    Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014: latents are normal with a mean and a deviation,
    and are drawn in training, unless ``kl`` is 0.

    Attributes:
        latent: the shape of the latents.
        distance: of a reconstruction and what it should be.
        kl: the weight of the divergence from a standard normal distribution, a mean over latents, beside
            the reconstruction; 0 for an autoencoder without noise of its own.
        input_noise, latent_noise: deviations of noise added in training to what goes in and to latents, as
            p-diff has them (Wang et al., 2024).
    """

    latent: eqx.AbstractVar[tuple[int, ...]]
    distance: eqx.AbstractVar[Distance]
    kl: eqx.AbstractVar[float]
    input_noise: eqx.AbstractVar[float]
    latent_noise: eqx.AbstractVar[float]

    @abc.abstractmethod
    def posterior(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """The mean of the latents of one ``x``, and the logarithm of their variance."""

    @abc.abstractmethod
    def decode(self, z: jax.Array) -> Any:
        """Latents to ``x``."""

    def encode(self, x: Any) -> jax.Array:
        """The latents of one ``x``: the mean."""
        return self.posterior(x)[0]

    def loss(self, batch: Any, *, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of a batch of ``x``, and its parts.

        Args:
            batch: a tree like ``x`` with a leading axis.
            key: draws latents and noise.
        """
        keys = jax.random.split(key, len(jax.tree.leaves(batch)[0]))
        off, divergence = (jnp.mean(v) for v in jax.vmap(self._one)(batch, keys))
        total = off + self.kl * divergence
        return total, {"reconstruction": off, "divergence": divergence}

    def _one(self, x: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_input, key_draw, key_latent = jax.random.split(key, 3)
        seen = x
        if self.input_noise:
            leaves, treedef = jax.tree.flatten(x)
            keys = jax.random.split(key_input, len(leaves))
            seen = jax.tree.unflatten(
                treedef,
                [
                    a + self.input_noise * jax.random.normal(k, a.shape, a.dtype)
                    for k, a in zip(keys, leaves, strict=True)
                ],
            )
        mean, log_variance = self.posterior(seen)
        z = mean
        if self.kl:
            noise = jax.random.normal(key_draw, z.shape, z.dtype)
            z = z + jnp.exp(0.5 * log_variance) * noise
        if self.latent_noise:
            z = z + self.latent_noise * jax.random.normal(key_latent, z.shape, z.dtype)
        divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
        return self.distance(self.decode(z), x), jnp.mean(divergence)


LOG_VARIANCE = 20.0
"""Bound of the logarithms of variances, either way."""


def two_parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and bounded logarithm of the variance, side by side on the last axis.

    Example:
        >>> [a.tolist() for a in two_parts(jnp.array([1.0, 50.0]))]
        [[1.0], [20.0]]
    """
    mean, log_variance = jnp.split(x, 2, axis=-1)
    return mean, jnp.clip(log_variance, -LOG_VARIANCE, LOG_VARIANCE)


def check_latents(z: jax.Array, shape: tuple[int, ...]) -> None:
    """That latents have their shape.

    Raises:
        ValueError: they have another.
    """
    if z.shape != shape:
        hint = "; for a batch use jax.vmap" if z.shape[1:] == shape else ""
        raise ValueError(f"latents have shape {z.shape}; expected {shape}{hint}")


def fit_autoencoder(
    autoencoder: Any,
    space: Space,
    networks: Any,
    *,
    steps: int,
    batch_size: int,
    optimiser: Any,
    key: jax.Array,
    **options: Any,
) -> FitResult:
    """Train an autoencoder on training networks.

    Args:
        autoencoder: drawn for ``space.like``.
        space: what it sees of networks.
        networks: a ``Population``, or stacked weights: training networks alone.
        steps, batch_size, optimiser, key, options: see :func:`~wsljax.train.fit`.

    Returns:
        A :class:`~wsljax.train.FitResult`, whose ``model`` is the trained autoencoder.

    Raises:
        ValueError: a network that holds NaN or infinity.
    """
    x = checked(space).encode_all(getattr(networks, "params", networks))
    for path, leaf in jax.tree_util.tree_flatten_with_path(x)[0]:
        bad = ~np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(axis=1)
        if bad.any():
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "the encoding"
            raise ValueError(
                f"{name}: {int(bad.sum())} networks hold NaN or infinity, the first is "
                f"{int(bad.argmax())}; leave them out, see `wsljax.zoo.finite_members`"
            )

    def loss(model: Any, batch: Any, *, key: jax.Array) -> Any:
        return model.loss(batch, key=key)

    return fit(
        loss,
        autoencoder,
        x,
        steps=steps,
        batch_size=batch_size,
        optimiser=optimiser,
        key=key,
        **options,
    )
