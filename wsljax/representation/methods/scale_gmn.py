"""ScaleGMN: message passing between units that respects permutations, scales and signs.

Kalogeropoulos, Bouritsas, Panagakis, *Scale Equivariant Graph Metanetworks*, 2024. Units are nodes,
blocks are dense edges, and a feature is always ``x`` times a function of what nothing moves. Here the
positive part of this, ``x -> n f(x / n)``, is by path norms (:mod:`..scaling.frame`), and signs by features
of two sorts: *odd* ones, which flip with the weight or unit that they belong to, and *even* ones, which
nothing flips. Odd ones are only added to odd ones of the same kind, multiplied by even ones, and
multiplied with each other to make even ones. So both directions of message passing are equivariant, for
units with scales, with signs, with both, several or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.stacks import Cell, assemble
from ..parts.layers import draw_layers, run_layers
from ..parts.pool import InvariantPool
from ..scaling.embed import Scaled, ScaledEmbed, ScaledPool
from ..scaling.messages import Plan, plan
from ..scaling.pieces import pieces
from ..scaling.scale_gmn_layer import ScaleGMNLayer, State, layer_weights
from ..scaling.trunk import ScaledTrunk
from .registry import register_method


class ScaleGMN(ScaledTrunk):
    """An embedding and equal layers, run by ``lax.scan``.

    Attributes:
        embed: of the pieces.
        start: features that the streams without charge start from.
        layers: all layers in one.
    """

    embed: ScaledEmbed
    start: jax.Array | None
    layers: ScaleGMNLayer
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Scaled:
        source = self.embed.spec if spec is None else spec
        own, squares, sizes = self.embed(blocks, spec)
        found = plan(source, False)
        place = {b: (g, n) for g, members in enumerate(own.groups) for n, b in enumerate(members)}
        wanted = [
            [Cell(*place[b], tuple(range(len(g.widths)))) for b in g.members] for g in found.groups
        ]
        features = assemble(dict(enumerate(own.arrays)), wanted)
        even = features
        if squares is not None:
            other = assemble(dict(enumerate(squares.arrays)), wanted)
            even = [b if g.flips else a for a, b, g in zip(features, other, found.groups)]
        nodes = list(found.zeros(own.channels, own.arrays[0].dtype))
        for n, (_, charge) in enumerate(found.streams):
            if not charge:
                k, m = found.place[n]
                started = self.start[self._started(found, n)].astype(nodes[k].dtype)  # type: ignore[index]
                nodes[k] = nodes[k].at[m].add(started)
        x = State(
            tuple(a if g.flips else None for a, g in zip(features, found.groups)),
            tuple(even),
            tuple(nodes),
            source,
        )
        x = run_layers(self.layers, x, self.unroll, self.remat)
        return self._answer(found, own, x, sizes)

    @staticmethod
    def _started(found: Plan, stream: int) -> int:
        return sum(not charge for _, charge in found.streams[:stream])

    @staticmethod
    def _answer(found: Plan, own: Features, x: State, sizes: dict[str, jax.Array]) -> Scaled:
        odd = [b if a is None else a for a, b in zip(x.odd, x.even)]
        place = {b: (k, n) for k, g in enumerate(found.groups) for n, b in enumerate(g.members)}
        wanted = [
            [Cell(*place[b], tuple(range(a.ndim - 2))) for b in members]
            for a, members in zip(own.arrays, own.groups)
        ]
        odd, even = (
            Features(tuple(assemble(dict(enumerate(y)), wanted)), own.structure, own.groups)
            for y in (odd, x.even)
        )
        free = tuple(a for a, (charged, _) in zip(x.nodes, found.kinds) if not charged)
        return Scaled(odd, even, free, sizes, x.spec)

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> ScaledPool:
        free = sum(not charge for _, charge in plan(spec, False).streams)
        return ScaledPool(InvariantPool(pieces(spec).spec, **options), free)


@register_method("scale_gmn")
def scale_gmn_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    bidirectional: bool = True,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    c_in: int | None = None,
    scales: Mapping[str, float] | None = None,
    unroll: int = 1,
    remat: bool = False,
    dtype: jnp.dtype | type = jnp.float32,
) -> ScaleGMN:
    """The trunk of a ScaleGMN.

    Args:
        spec, channels, layers, key, c_in, scales, unroll, remat, dtype: see :class:`.LayeredTrunk`.
        bidirectional: messages in both directions (ScaleGMN-B), or from inputs to outputs only. The
            direction is told by the exponents of scales; without any, the last index of a block is
            taken for the outputs.
        activation: a function of single numbers.
    """
    key_embed, key_start, key_layers = jax.random.split(key, 3)
    embed = ScaledEmbed(
        spec, channels, key=key_embed, c_in=c_in, scales=scales, squares=True, dtype=dtype
    )
    free = sum(not charge for _, charge in plan(spec, False).streams)
    start = jax.random.normal(key_start, (free, channels), dtype) if free else None

    def draw(key: jax.Array) -> ScaleGMNLayer:
        return ScaleGMNLayer(
            layer_weights(spec, channels, layers, key, dtype), bidirectional, activation
        )

    drawn = draw_layers(draw, layers, key_layers)
    return ScaleGMN(embed, start, drawn, unroll, remat)
