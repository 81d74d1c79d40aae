"""p-diff: latent diffusion of some leaves of a network.

The recipe of K. Wang et al., "Neural network diffusion", 2024, and its code: chosen leaves (the published
ResNets: the last batch norms alone), normalised leaf by leaf, as one vector; an autoencoder of 1-D convolutions
with noise on its latents; DDPM with 1,000 steps and linear betas on the latents, trained to say the noise.
Statistics that must stay positive are generated as logarithms.

What differs: latents are standardised before diffusion (published ones have magnitudes around 100, and users
report that whole networks then collapse); group norms stand for batch norms; the denoiser is a U-Net that the
level modulates, where theirs keeps the length and adds the level to the input; samples are drawn by DDIM unless
another sampler is given. On checkpoints of a single run nothing that is new can be told from noise: see
``wsljax.generation.evaluation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ..denoisers import FlatUNet
from ..diffusion import Diffusion
from ..processes import VariancePreserving
from ..samplers import DDIM
from .latents import flat_latents


def p_diff(
    population: Any,
    *,
    key: jax.Array,
    leaves: Sequence[str] | str | None = None,
    channels: Sequence[int] = (64, 128, 256),
    steps: int = 100,
    conditioner: Any = None,
    autoencoder: Mapping[str, Any] | None = None,
) -> Diffusion:
    """A generator to be fitted to the same population; its autoencoder is trained here.

    Args:
        population: training networks, a ``Population`` or stacked weights.
        key: of the autoencoder and of the initial weights.
        leaves: patterns of the leaves that are generated; None for all.
        channels: of the denoiser.
        steps: of the sampler.
        conditioner: of ``wsljax.generation.conditions``, or None.
        autoencoder: arguments of ``flat_latents``, as ``{"size": 64, "steps": 2000}``.

    Raises:
        ValueError: a pattern that no leaf matches, or weights that are not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> zoo = {"w": jax.random.normal(jax.random.key(0), (12, 3, 2)), "bn": jnp.ones((12, 2))}
        >>> model = p_diff(zoo, key=jax.random.key(1), leaves="bn", channels=(4,), steps=2,
        ...                autoencoder={"size": 2, "channels": (4,), "steps": 2})
        >>> drawn = model.sample(jax.random.key(2), 5)
        >>> drawn["bn"].shape, bool((drawn["w"] == zoo["w"][0]).all())
        ((5, 2), True)
    """
    latent_key, net_key = jax.random.split(key)
    space = flat_latents(population, key=latent_key, leaves=leaves, **(autoencoder or {}))
    told = {} if conditioner is None else {"told": conditioner.size, "beside": conditioner.beside}
    net = FlatUNet(space.like, channels, key=net_key, **told)
    return Diffusion(
        net,
        space,
        path=VariancePreserving.linear(1000),
        target="noise",
        sampler=DDIM(steps),
        conditioner=conditioner,
    )
