"""Conditions that are networks: the checkpoint to start from, or one that the new one should be like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .condition import Condition, Told


class NetworkCondition(Condition):
    """Another network: as a vector, by what an encoder says of it, or beside the one that is generated.

    Beside is how a network is updated (Peebles et al., *Learning to Learn with Generative Models of Neural
    Network Checkpoints*, 2022): the denoiser sees weight by weight where it started. An encoder is for networks of
    other architectures, or where only what they do counts.

    Attributes:
        encoder: from the weights of a network to ``(size,)``, a :class:`~wsljax.representation.Metanetwork`
            for instance, which no exchange of units changes; None for none.

    Example:
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Metanetwork
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> encoder = Metanetwork(spec, 8, 2, 16, key=jax.random.key(0))
        >>> NetworkCondition(encoder=encoder, size=16)(params).vector.shape
        (16,)
        >>> NetworkCondition()(params).beside[0] is params
        True
    """

    encoder: Callable[[Any], jax.Array] | None
    size: int | None = eqx.field(static=True)
    beside: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        encoder: Callable[[Any], jax.Array] | None = None,
        size: int | None = None,
        beside: bool | None = None,
    ):
        """Say how the network is told.

        Args:
            encoder: see the class.
            size: of what the encoder gives.
            beside: whether the network stands beside; by default if there is no encoder.
        """
        if (encoder is None) != (size is None):
            raise ValueError("an encoder needs the `size` of what it gives, and that an `encoder`")
        self.encoder, self.size = encoder, size
        self.beside = int(encoder is None if beside is None else beside)
        if encoder is None and not self.beside:
            raise ValueError("nothing is told; give an `encoder`, or beside=True")

    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        """The weights of one network."""
        del key
        vector = None
        if self.encoder is not None:
            vector = self.encoder(raw)
            if vector.shape != (self.size,):
                raise ValueError(f"the encoder gave {vector.shape}; expected ({self.size},)")
        if not self.beside:
            return Told(vector)
        return Told(vector, (raw,), (jnp.ones(()),))
