"""Latents that no exchange of units changes, and a decoder by coordinates.

The encoder is the invariant one of :class:`~wsljax.representation.Inr2Array` (Zhou et al., *Neural Functional
Transformers*, 2023), so a network and all its copies with units exchanged have the same latents; the decoder gives
one of the copies. Which one, the latents do not say: measure reconstructions by what the networks answer
(:func:`answers`), or align the training networks, so that one copy is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.methods.ends import Ends
from ...representation.methods.inr2array import Inr2Array
from ...symmetry.spec import Spec
from ..denoisers.levels import Linear
from ..spaces import Space
from .autoencoder import Autoencoder, Distance, check_latents, two_parts
from .reconstruction import mean_squared


class EquivariantAutoencoder(Autoencoder):
    """Trees of weights to invariant latents ``(rows, size)``, and back.

    Attributes:
        net: what reads weights into an array and writes them from one.
        down, up: from the rows of the array to latents, and back.

    Example:
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> net = EquivariantAutoencoder(spec, params, 2, 4, 8, layers=1, key=jax.random.key(0))
        >>> z = net.encode(params)
        >>> z.shape, jax.tree.map(jnp.shape, net.decode(z))
        ((2, 4), {'b': (5,), 'w': (3, 5)})
    """

    net: Inr2Array
    down: Linear
    up: Linear
    like: Any
    latent: tuple[int, ...] = eqx.field(static=True)
    distance: Distance = eqx.field(static=True)
    kl: float = eqx.field(static=True)
    input_noise: float = eqx.field(static=True)
    latent_noise: float = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        like: Any,
        rows: int,
        size: int,
        channels: int,
        *,
        key: jax.Array,
        layers: int = 3,
        heads: int | None = None,
        ends: Ends = "free",
        distance: Distance = mean_squared,
        kl: float = 1e-4,
        input_noise: float = 0.0,
        latent_noise: float = 0.0,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an autoencoder.

        Args:
            spec: annotation of what it reads: of a :class:`~..spaces.WeightSpace`, its ``spec``.
            like: what it reads, or its shapes: ``space.like``.
            rows, size: of the latents.
            channels, layers, heads, ends: see :class:`~wsljax.representation.Inr2Array`.
            key: of the initial weights.
            distance, kl, input_noise, latent_noise: see :class:`.Autoencoder`.
            dtype: of the weights.
        """
        keys = jax.random.split(key, 3)
        self.net = Inr2Array(
            spec,
            latents=rows,
            channels=channels,
            key=keys[0],
            layers=layers,
            heads=heads,
            ends=ends,
            dtype=dtype,
        )
        self.down = Linear(channels, 2 * size, key=keys[1], dtype=dtype)
        self.up = Linear(size, channels, key=keys[2], dtype=dtype)
        self.like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
        self.latent, self.distance, self.kl = (rows, size), distance, kl
        self.input_noise, self.latent_noise = input_noise, latent_noise

    def posterior(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """A tree to mean and logarithm of the variance, both ``(rows, size)``; invariant."""
        return two_parts(self.down(self.net.encode(x)))

    def decode(self, z: jax.Array) -> Any:
        check_latents(z, self.latent)
        return self.net.decode(self.up(z), like=self.like)


def answers(fn: Callable[..., Any], space: Space, *inputs: Any, scale: float = 1.0) -> Distance:
    """A distance between networks by what they answer: the mean squared difference of their outputs.

    Nothing of the order of units enters, so it is one for latents that do not tell it.

    Args:
        fn: ``fn(params, *inputs)``, of one network.
        space: that decodes what an autoencoder works on to ``params``.
        inputs: the probes.
        scale: deviation of the outputs; the difference is divided by it.

    Example:
        >>> from wsljax.generation.spaces import IdentitySpace
        >>> params = {"w": jnp.ones((2, 1))}
        >>> distance = answers(lambda p, x: x @ p["w"], IdentitySpace(params), jnp.eye(2))
        >>> float(distance({"w": jnp.zeros((2, 1))}, params))
        1.0
    """
    if scale <= 0:
        raise ValueError(f"`scale` must be positive; got {scale}")

    def distance(predicted: Any, x: Any) -> jax.Array:
        pairs = zip(
            jax.tree.leaves(fn(space.decode(predicted), *inputs)),
            jax.tree.leaves(fn(space.decode(x), *inputs)),
            strict=True,
        )
        return jnp.mean(jnp.stack([jnp.mean(jnp.square((a - b) / scale)) for a, b in pairs]))

    return distance
