"""The trunk of graph networks: an embedding, equal layers, and what is read out of nodes and edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..methods.trunk import Trunk
from ..parts.layers import draw_layers, run_layers
from ..parts.probes import WEIGHTS, Probes
from .derive import Graph, graph_of
from .embed import GraphEmbed
from .features import GraphFeatures
from .looks import Positions
from .readout import GraphPool, GraphReadout


class GraphTrunk(Trunk):
    """Weights to :class:`.GraphFeatures`.

    Attributes:
        embed: the embedding.
        layers: all layers in one, run by ``lax.scan``.
        probes: what is found out by running the networks; see :class:`~..parts.probes.Probes`.
    """

    embed: GraphEmbed
    layers: eqx.Module
    probes: Probes | None
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        draw: Callable[[Graph, jax.Array], eqx.Module],
        *,
        key: jax.Array,
        positions: Positions = "learned",
        probes: Probes | None = None,
        c_in: int | None = None,
        scales: Mapping[str, float] | None = None,
        unroll: int = 1,
        remat: bool = False,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a trunk.

        Args:
            spec: annotation of the networks.
            channels: of nodes and of edges.
            layers: how many layers.
            draw: makes one layer of the graph and a key: from features to features of as many channels.
            key: of the initial weights.
            positions: ``"learned"`` embeddings of node sets and blocks, or sinusoids of their
                ``"depth"``, with which networks of other depths are read too; see :mod:`.embed`.
            probes: features of the network's function, beside those of its weights.
            c_in, scales: see :class:`~..parts.embed.Embed`.
            unroll, remat, dtype: see :class:`~..methods.trunk.LayeredTrunk`.

        Raises:
            ValueError: fewer than one layer; probes that are of another spec, or beside ``c_in``.
        """
        if probes is not None and probes.weights_spec != spec:
            raise ValueError("`probes` were drawn for another spec; draw them for this one")
        if probes is not None and c_in is not None:
            raise ValueError(
                "`probes` run the network, which several channels of weights are not; leave out "
                "`c_in`, or embed `probes(params)` beside the channels"
            )
        key_embed, key_layers = jax.random.split(key)
        seen = spec if probes is None else probes.spec
        self.embed = GraphEmbed(
            seen,
            channels,
            key=key_embed,
            positions=positions,
            c_in=c_in,
            scales=_prefixed(scales, probes),
            dtype=dtype,
        )
        graph = graph_of(seen)
        self.layers = draw_layers(partial(draw, graph), layers, key_layers)
        self.probes, self.unroll, self.remat = probes, unroll, remat

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> GraphFeatures:
        if self.probes is not None:
            blocks, spec = self.probes.with_blocks(blocks, spec)
        return run_layers(self.layers, self.embed(blocks, spec), self.unroll, self.remat)

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> GraphPool:
        options = {"each": self.embed.positions == "learned", **options}
        return GraphPool(self.embed.graph, **options)

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> GraphReadout:
        return GraphReadout(
            spec,
            channels,
            key=key,
            positions=self.embed.positions,
            prefix="" if self.probes is None else f"{WEIGHTS}/",
            scales=scales,
            dtype=dtype,
        )


def _prefixed(
    scales: Mapping[str, float] | None, probes: Probes | None
) -> Mapping[str, float] | None:
    if probes is None or scales is None:
        return scales
    return {f"{WEIGHTS}/{name}": size for name, size in scales.items()}
