"""The latents of an autoencoder as a space, brought to one size.

A diffusion expects numbers of mean 0 and deviation 1. Latents of an autoencoder without divergence may be a
hundred times as large, and vary little around that; so they are standardised by the training networks.
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...zoo.chunks import map_chunks
from ..spaces.space import Space, checked
from .autoencoder import Autoencoder

Per = Literal["entry", "all"]


class LatentSpace(Space):
    """Standardised latents; ``decode`` is what the autoencoder makes of them, so not an exact inverse.

    Attributes:
        autoencoder: trained; a generator fitted in this space leaves it as it is.
        space: what the autoencoder sees of networks.
        mean, deviation: of the latents of the training networks.
    """

    autoencoder: Any
    space: Space
    mean: jax.Array
    deviation: jax.Array
    like: Any

    def encode(self, params: Any) -> jax.Array:
        """The standardised latents of one network."""
        z = self.autoencoder.encode(self.space.encode(params))
        return (z - self.mean.astype(z.dtype)) / self.deviation.astype(z.dtype)

    def decode(self, x: jax.Array) -> Any:
        """One network."""
        z = x * self.deviation.astype(x.dtype) + self.mean.astype(x.dtype)
        return self.space.decode(self.autoencoder.decode(z))

    def encode_all(self, params: Any) -> jax.Array:
        """Of many networks, ``(networks, ...)``; what the inner space does outside of ``jit`` is done."""
        x = self.space.encode_all(params)
        z = jax.vmap(self.autoencoder.encode)(x)
        return (z - self.mean.astype(z.dtype)) / self.deviation.astype(z.dtype)


def latent_space(
    autoencoder: Autoencoder,
    space: Space,
    networks: Any,
    *,
    per: Per = "entry",
    chunk: int | None = None,
) -> LatentSpace:
    """The latents of a trained autoencoder as a space.

    Args:
        autoencoder: trained on ``space``.
        space: what it sees of networks.
        networks: a ``Population``, or stacked weights: training networks alone.
        per: one mean and one deviation of each latent (``"entry"``), or of ``"all"`` of them.
        chunk: networks that are encoded at a time (default: all).

    Returns:
        A :class:`LatentSpace`. A latent that is the same in all networks keeps its size.

    Raises:
        ValueError: another ``per``, or latents that are not finite.

    Example:
        >>> from wsljax.generation.spaces import FlatSpace
        >>> from wsljax.generation.autoencoders import ConvolutionAutoencoder
        >>> networks = {"w": jax.random.normal(jax.random.key(0), (8, 3, 5))}
        >>> space = FlatSpace.fit(networks)
        >>> net = ConvolutionAutoencoder(space.like, 4, (8, 8), key=jax.random.key(1))
        >>> latents = latent_space(net, space, networks)
        >>> z = latents.encode_all(networks)
        >>> z.shape, abs(float(z.mean())) < 1e-5, abs(float(z.std()) - 1) < 1e-3
        ((8, 4), True, True)
    """
    if per not in ("entry", "all"):
        raise ValueError(f"`per` is {per!r}; it is 'entry' or 'all'")
    x = checked(space).encode_all(getattr(networks, "params", networks))
    z = np.asarray(map_chunks(eqx.filter_vmap(autoencoder.encode), x, chunk=chunk), np.float64)
    if not np.isfinite(z).all():
        raise ValueError(
            "the latents of a training network are not finite; train the autoencoder anew"
        )
    over = (0,) if per == "entry" else None
    mean, deviation = z.mean(axis=over), z.std(axis=over)
    rounding = 1e-6 * np.maximum(np.abs(mean), np.abs(z).max(initial=0))
    deviation = np.where(deviation <= rounding, 1.0, deviation)
    like = jax.eval_shape(autoencoder.encode, space.like)
    return LatentSpace(
        autoencoder=autoencoder,
        space=space,
        mean=jnp.asarray(np.broadcast_to(mean, z.shape[1:]), like.dtype),
        deviation=jnp.asarray(np.broadcast_to(deviation, z.shape[1:]), like.dtype),
        like=jax.ShapeDtypeStruct(like.shape, like.dtype),
    )
