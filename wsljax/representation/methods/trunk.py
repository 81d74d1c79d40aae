"""What the methods have in common: a trunk turns weights into features, of which a head makes answers.

A :class:`Trunk` is the body of a metanetwork. Its features may be anything that it itself knows how to
pool (invariantly) and to read out (equivariantly): :meth:`Trunk.make_pool` and
:meth:`Trunk.make_readout` build what stands behind it. :class:`LayeredTrunk` is the commonest form: an
embedding and equal equivariant layers between :class:`~..blocks.features.Features`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..parts.embed import Embed
from ..parts.folding import feature_structure
from ..parts.layers import draw_layers, run_layers
from ..parts.pool import make_pool
from ..parts.readout import Readout
from ..universal.kronecker import KroneckerPool


class Trunk(eqx.Module):
    """Weights to features that move with the units of the network; the base of all methods."""

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Any:
        """``spec.blocks(params)`` of one network to its features.

        Args:
            blocks: ``{block: array}``, with a last axis of ``c_in`` channels if the trunk was drawn so.
            spec: their annotation, where it is another one than the trunk was drawn for.
        """
        raise NotImplementedError

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> Any:
        """What makes one vector of the features, the same for all networks of an orbit.

        Args:
            spec, channels: of the features.
            key: of initial weights, if there are any.
            options: see :func:`~..parts.pool.make_pool`.

        Returns:
            A module: called with features it gives ``(size,)``; its ``size(channels)`` says how many.
        """
        return make_pool(spec, channels, key=key, **options)

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> Any:
        """What makes arrays of the weights' shapes of the features.

        Returns:
            A module: called with features and a spec (or None) it gives ``{block: array}``.
        """
        return Readout(spec, channels, key=key, scales=scales, dtype=dtype)


class LayeredTrunk(Trunk):
    """An embedding and a stack of equal equivariant layers.

    Attributes:
        embed: the embedding.
        layers: all layers in one, every array with a leading axis of layers; run by ``lax.scan``, so
            that programs do not grow with their number.
    """

    embed: Embed
    layers: eqx.Module
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)
    fixed: str = eqx.field(static=True)
    up_to: int | None = eqx.field(static=True)

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
        fixed: str = "fold",
        up_to: int | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a trunk.

        Args:
            spec: annotation of the networks.
            channels: of the features.
            layers: how many layers.
            draw: makes one layer of a key: a module from features to features of as many channels.
            key: of the initial weights.
            c_in, scales: see :class:`.Embed`.
            unroll, remat: see :func:`~..parts.layers.run_layers`.
            fixed, up_to: what becomes of fixed axes, see :mod:`~..parts.folding`; layers must be drawn
                for ``feature_structure(spec, fixed, up_to)``.
            dtype: of the weights.
        """
        key_embed, key_layers = jax.random.split(key)
        self.fixed, self.up_to = fixed, up_to
        self.embed = Embed(
            spec,
            channels,
            key=key_embed,
            c_in=c_in,
            scales=scales,
            fixed=fixed,
            up_to=up_to,
            dtype=dtype,
        )
        self.layers = draw_layers(draw, layers, key_layers)
        self.unroll, self.remat = unroll, remat

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Features:
        return run_layers(self.layers, self.embed(blocks, spec), self.unroll, self.remat)

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> Any:
        if self.fixed == "kronecker":
            key_read, key = jax.random.split(key)
            pool = make_pool(spec, channels, key=key, **options)
            return KroneckerPool(spec, channels, pool, key=key_read, up_to=self.up_to)
        blocks: Any = feature_structure(spec, self.fixed, self.up_to)
        return make_pool(blocks, channels, key=key, **options)

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> Any:
        return Readout(
            spec,
            channels,
            key=key,
            scales=scales,
            fixed=self.fixed,
            up_to=self.up_to,
            dtype=dtype,
        )
