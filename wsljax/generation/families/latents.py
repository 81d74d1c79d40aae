"""The latents of networks side by side: the space that p-diff and those that follow it work in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import optax

from ..autoencoders import ConvolutionAutoencoder, LatentSpace, fit_autoencoder, latent_space
from ..spaces import CanonicalSpace, FlatSpace, SubsetSpace, WeightSpace, fit_spaces


def flat_latents(
    population: Any,
    *,
    key: jax.Array,
    leaves: Sequence[str] | str | None = None,
    align: Sequence[str] | None = (),
    size: int = 128,
    channels: Sequence[int] = (64, 128, 256, 256, 32),
    kl: float = 0.0,
    input_noise: float = 0.0,
    latent_noise: float = 0.1,
    steps: int = 500,
    batch_size: int = 50,
    optimiser: optax.GradientTransformation | None = None,
) -> LatentSpace:
    """Train a convolutional autoencoder of normalised weights; its latents are a space.

    Args:
        population: training networks, a ``Population`` or stacked weights.
        key: of the alignment, the initial weights and the training.
        leaves: patterns of the leaves that are generated, as ``"*/bn2/*"``; None for all. The others
            are those of the first network.
        align: kinds of the group by which networks are aligned to the first one before, as
            ``("permutation",)``; None for all that the spec has, empty for no alignment.
        size, channels, kl, input_noise, latent_noise: of the autoencoder.
        steps, batch_size: of its training.
        optimiser: by default AdamW at a rate that falls from 1e-3 along a cosine.

    Returns:
        A space with standardised latents, ``(size,)``.

    Raises:
        ValueError: a pattern that no leaf matches, an alignment without a spec, or weights that are not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> zoo = {"w": jax.random.normal(jax.random.key(0), (12, 3, 2)), "b": jnp.zeros((12, 2))}
        >>> space = flat_latents(zoo, key=jax.random.key(1), leaves="w", size=2, channels=(4,), steps=2)
        >>> space.encode({"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}).shape
        (2,)
    """
    align_key, net_key, fit_key = jax.random.split(key, 3)
    fits: list[Any] = []
    if align is None or tuple(align):
        fits.append(partial(CanonicalSpace.fit, key=align_key, kinds=align))
    if leaves is not None:
        fits.append(partial(SubsetSpace.fit, patterns=leaves))
    space = fit_spaces(population, *fits, partial(WeightSpace.fit, kind="leaf"), FlatSpace.fit)
    net = ConvolutionAutoencoder(
        space.like,
        size,
        channels,
        key=net_key,
        kl=kl,
        input_noise=input_noise,
        latent_noise=latent_noise,
    )
    params = getattr(population, "params", population)
    if optimiser is None:
        optimiser = optax.adamw(optax.cosine_decay_schedule(1e-3, steps), weight_decay=0.0)
    found = fit_autoencoder(
        net,
        space,
        params,
        steps=steps,
        batch_size=min(batch_size, len(jax.tree.leaves(space.encode_all(params))[0])),
        optimiser=optimiser,
        key=fit_key,
        every=steps,
    )
    return latent_space(found.model, space, params)
