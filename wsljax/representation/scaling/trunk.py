"""Trunks whose features are those of pieces: what is common to the methods that respect scales and signs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..methods.trunk import Trunk
from ..parts.layers import draw_layers, run_layers
from ..parts.pool import InvariantPool
from .embed import Scaled, ScaledEmbed, ScaledPool, ScaledReadout, by_parity
from .pieces import pieces


class ScaledTrunk(Trunk):
    """What pools and reads out features that move with scales and signs."""

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> ScaledPool:
        return ScaledPool(InvariantPool(pieces(spec).spec, **options), 0)

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> ScaledReadout:
        return ScaledReadout(spec, channels, key=key, scales=scales, dtype=dtype)


class PieceTrunk(ScaledTrunk):
    """Features of pieces through equal layers, run by ``lax.scan``."""

    embed: ScaledEmbed
    layers: eqx.Module
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        draw: Callable[[jax.Array], eqx.Module],
        *,
        key: jax.Array,
        c_in: int | None = None,
        scales: Mapping[str, float] | None = None,
        unroll: int = 1,
        remat: bool = False,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """As :class:`.LayeredTrunk`."""
        key_embed, key_layers = jax.random.split(key)
        self.embed = ScaledEmbed(
            spec, channels, key=key_embed, c_in=c_in, scales=scales, dtype=dtype
        )
        self.layers = draw_layers(draw, layers, key_layers)
        self.unroll, self.remat = unroll, remat

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Scaled:
        x, _, sizes = self.embed(blocks, spec)
        x = run_layers(self.layers, x, self.unroll, self.remat)
        source = self.embed.spec if spec is None else spec
        even = by_parity(source, x, jax.tree.map(jnp.square, x), x)
        return Scaled(x, even, (), sizes, source)
