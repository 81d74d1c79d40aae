"""Denoisers that say by how much a network differs from the one beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax


class FromBeside(eqx.Module):
    """A denoiser whose output is added to the first network beside: at first it answers with that one.

    For targets "data" of updates: G.pt (Peebles et al., 2022) predicts the new checkpoint as the one it starts
    from and a difference.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax.generation.denoisers import FlatDenoiser
        >>> net = FromBeside(FlatDenoiser(jnp.ones(2), 8, 1, beside=1, key=jax.random.key(0)))
        >>> net(jnp.zeros(2), jnp.float32(0.5), None, (jnp.array([3.0, 4.0]),)).tolist()
        [3.0, 4.0]
    """

    net: Any

    def __call__(
        self,
        x: Any,
        level: jax.Array,
        told: jax.Array | None = None,
        beside: Sequence[Any] | None = None,
    ) -> Any:
        """A tree like ``x``."""
        if not beside:
            raise ValueError("there is no network beside; give one, as `beside=(start,)`")
        out = self.net(x, level, told, beside)
        return jax.tree.map(lambda a, b: (a + b).astype(a.dtype), out, beside[0])
