"""Telling every layer of a trunk one vector: scales and shifts of its channels (FiLM).

Perez et al., *FiLM: Visual Reasoning with a General Conditioning Layer*, 2018. The vector is the same
for all units, so what was equivariant stays so. Where features flip with signs they are scaled and not
shifted, which leaves them flipping.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import equinox as eqx
import jax

from ...representation.blocks.features import Features
from ...representation.graph.features import GraphFeatures
from ...representation.graph.trunk import GraphTrunk
from ...representation.graph_batch.message_passing import GraphFeatures as IndexedFeatures
from ...representation.methods.graph_metanetwork import GraphMetanetwork
from ...representation.methods.trunk import LayeredTrunk, Trunk
from ...representation.scaling.scale_gmn_layer import State
from ...representation.scaling.trunk import ScaledTrunk

LAYERED = (LayeredTrunk, GraphTrunk, GraphMetanetwork, ScaledTrunk)
"""Trunks whose layers are one stack, run by :func:`~wsljax.representation.parts.layers.run_layers`."""


def may_shift(trunk: Trunk) -> bool:
    """Whether a constant may be added to the trunk's features and to what it reads."""
    return not isinstance(trunk, ScaledTrunk)


def has_layers(trunk: Any) -> bool:
    """Whether every layer of the trunk can be told something."""
    return isinstance(trunk, LAYERED)


class Modulated(eqx.Module):
    """A layer, or a stack of layers, and what is done to the channels that come out.

    Attributes:
        layer: from features to features.
        scale: ``(C,)``, or ``(layers, C)`` of a stack; what comes out is multiplied by one more.
        shift: the same shape; None where nothing may be added.
    """

    layer: Any
    scale: jax.Array
    shift: jax.Array | None

    def __call__(self, x: Any) -> Any:
        return modulate(self.layer(x), self.scale, self.shift)


def with_modulation(trunk: Trunk, scale: jax.Array, shift: jax.Array | None) -> Any:
    """The trunk with scales and shifts, ``(layers, C)``, behind its layers."""
    layers: Any = trunk.layers  # pyright: ignore[reportAttributeAccessIssue]
    return eqx.tree_at(lambda t: t.layers, trunk, Modulated(layers, scale, shift))


def _one(a: jax.Array, scale: jax.Array, shift: jax.Array | None) -> jax.Array:
    a = a * (1 + scale.astype(a.dtype))
    return a if shift is None else a + shift.astype(a.dtype)


@singledispatch
def modulate(x: Any, scale: jax.Array, shift: jax.Array | None) -> Any:
    """Features with their channels scaled and shifted.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation import structure
        >>> spec = symmetry.parse({"b": jnp.zeros(2)}, {"b": "h"})
        >>> x = Features.of(structure(spec), {"b": jnp.ones((2, 1))})
        >>> modulate(x, jnp.array([1.0]), jnp.array([0.5]))["b"].tolist()
        [[2.5], [2.5]]
    """
    raise TypeError(f"features of type {type(x).__name__} have no known channels to modulate")


@modulate.register
def _(x: Features, scale: jax.Array, shift: jax.Array | None) -> Features:
    return jax.tree.map(lambda a: _one(a, scale, shift), x)


@modulate.register
def _(x: GraphFeatures, scale: jax.Array, shift: jax.Array | None) -> GraphFeatures:
    return jax.tree.map(lambda a: _one(a, scale, shift), x)


@modulate.register
def _(x: IndexedFeatures, scale: jax.Array, shift: jax.Array | None) -> IndexedFeatures:
    nodes, edges, graphs = (_one(a, scale, shift) for a in (x.nodes, x.edges, x.graphs))
    return IndexedFeatures(nodes, edges, graphs, x.topology, x.scalars)


@modulate.register
def _(x: State, scale: jax.Array, shift: jax.Array | None) -> State:
    return jax.tree.map(lambda a: _one(a, scale, shift), x)
