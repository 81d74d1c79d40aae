"""What a set encoder says of a network, and what is made of it: one vector, or a number for every weight."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax

from ...symmetry.spec import Spec


class SetFeatures(NamedTuple):
    """What comes out: a vector for the network, and one for every weight, ``{block: (*shape, C)}``."""

    network: jax.Array
    entries: dict[str, jax.Array]


class NetworkPool(eqx.Module):
    """The vector of the network."""

    def size(self, channels: int) -> int:
        return channels

    def __call__(self, x: SetFeatures) -> jax.Array:
        return x.network


class EntryReadout(eqx.Module):
    """A number for every weight from its own vector, by one small dense network for all of them."""

    up: jax.Array
    down: jax.Array
    spec: Spec = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)

    def __call__(self, x: SetFeatures, spec: Spec | None = None) -> dict[str, jax.Array]:
        """``{block: array of the block's shape}``."""
        del spec
        out = {}
        for name, h in x.entries.items():
            y = jax.nn.gelu(h @ self.up.astype(h.dtype)) @ self.down.astype(h.dtype)
            out[name] = y * dict(self.scales).get(name, 1.0)
        return out
