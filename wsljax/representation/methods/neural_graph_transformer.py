"""Neural graphs, transformer: NG-T of Kofinas et al., *Graph Neural Networks for Learning Equivariant
Representations of Neural Networks*, 2024 (section 3 and appendix C), after Diao and Loynd,
*Relational Attention*, 2023.

Every node attends to its neighbours; the edge between the two takes part in the key and modulates the
value, and is updated by its ends. One softmax runs over all neighbours of a node, in whatever blocks they
are. The published network attends from every neuron to every other through a matrix padded with zeros;
here nodes attend where there is a block between them, so memory is linear in the number of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.dtypes import wide
from ..blocks.product import times
from ..graph.derive import Graph
from ..graph.features import (
    Collected,
    GraphFeatures,
    Sets,
    aside,
    ends_of,
    in_order,
    spread,
)
from ..graph.layers import columns, counts_of, maps, nested, rms, roles_of
from ..graph.trunk import GraphTrunk
from .registry import register_method

CAP = 12.0
"""Logits of attention lie between minus and plus this. With it the softmax over several blocks is two
sums, with nothing to compare between blocks."""


class RelationalAttentionLayer(eqx.Module):
    """Attention along all edges, an update of edges, and a pointwise network at nodes.

    Attributes:
        says: ``(C, (4 * roles + 2) * C)``: queries, keys, values and what edges hear, at each role; and
            what nested sets hear.
        meets: ``{number of ends: (C, 4 * C)}``: of edges, to keys, scale and shift of values, update.
        updates: ``{number of ends: (C, C)}``, of edges.
        joins: ``(C, C)``, of what attention gives.
        below, above: see :func:`~..graph.layers.nested`.
        inner, outer: the pointwise network, ``(C, 2 * C)`` and ``(2 * C, C)``.
        gains: of the normalisations, ``(3, C)``.
    """

    says: jax.Array
    meets: dict[str, jax.Array]
    updates: dict[str, jax.Array]
    joins: jax.Array
    below: jax.Array
    above: jax.Array
    inner: jax.Array
    outer: jax.Array
    gains: jax.Array
    heads: int = eqx.field(static=True)
    roles: tuple[str, ...] = eqx.field(static=True)
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        graph: Graph,
        channels: int,
        *,
        key: jax.Array,
        heads: int = 4,
        depth: int = 1,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer that is one of ``depth`` in a stack: what it adds is that much smaller.

        Raises:
            ValueError: if the channels cannot be dealt to the heads.
        """
        if heads < 1 or channels % heads:
            raise ValueError(
                f"`channels` must be a multiple of `heads`; got {channels} and {heads}"
            )
        c, self.heads, self.roles = channels, heads, roles_of(graph)
        counts = counts_of(graph)
        shapes = [(c, (4 * len(self.roles) + 2) * c), *((c, 4 * c) for _ in counts)]
        shapes += [(c, c) for _ in counts]
        shapes += [(c, c), (c, c), (4 * c, c), (c, 2 * c), (2 * c, c)]
        draws = iter(maps(key, shapes, dtype))
        small = jnp.asarray((3 * depth) ** -0.5, dtype)
        self.says = next(draws)
        self.meets = {str(k): next(draws) for k in counts}
        self.updates = {str(k): next(draws) * small for k in counts}
        self.joins = next(draws) * small
        self.below, self.above = next(draws) * small, next(draws) * small
        self.inner, self.outer = next(draws), next(draws) * small
        self.gains = jnp.ones((3, c), dtype)
        self.activation = activation

    def __call__(self, x: GraphFeatures) -> GraphFeatures:
        """Features of the same shapes and dtype."""
        nodes = [rms(a, self.gains[0]) for a in x.nodes.arrays]
        said = columns([times(a, self.says) for a in nodes], 4 * len(self.roles) + 2)
        sets = [Sets(part, x.nodes.groups) for part in said[:-2]]
        speaks = {role: sets[4 * n : 4 * n + 4] for n, role in enumerate(self.roles)}
        attended, heard = Collected(x.nodes.groups), Collected(x.nodes.groups)
        nested(x, said[-2], said[-1], self.below, self.above, heard)
        edges = []
        for members, a in zip(x.edges.groups, x.edges.arrays, strict=True):
            edges.append(a + self._along(x.graph, members, a, speaks, attended))
        c = x.nodes.channels
        sums = attended.sums(x.nodes.arrays, c + self.heads)
        out = []
        for a, total, h in zip(x.nodes.arrays, sums, heard.sums(x.nodes.arrays, c), strict=True):
            values, weights = total[..., :c], total[..., c:]
            weights = jnp.where(weights > 0, weights, 1)  # nodes on which no block lies
            values = values / jnp.repeat(weights, c // self.heads, axis=-1)
            a = a + h + times(values.astype(a.dtype), self.joins)
            hidden = self.activation(times(rms(a, self.gains[2]), self.inner))
            out.append(a + times(hidden, self.outer))
        return x.put(out, edges)

    def _along(self, graph, members, a, speaks, attended: Collected) -> jax.Array:
        """The update of one stack of edge sets; what its ends attend to goes to ``attended``."""
        rank, ends = a.ndim - 2, ends_of(graph, members)
        count = str(len(ends))
        edge_keys, scale, shift, hidden = jnp.split(
            times(rms(a, self.gains[1]), self.meets[count]), 4, axis=-1
        )
        queries, keys, values, tells = (
            [spread(speaks[end.role][what].take(sets), end.at, rank) for end, sets in ends]
            for what in range(4)
        )
        for n, (end, sets) in enumerate(ends):
            others = [m for m in range(len(ends)) if m != n]
            key = sum((keys[m] for m in others), edge_keys)
            value = shift
            if others:
                value = shift + (1 + scale) * sum(values[m] for m in others)
            logits = self._by_head(queries[n] * key).sum(-1) / (a.shape[-1] / self.heads) ** 0.5
            logits = wide(logits)
            weight = jnp.exp(CAP * jnp.tanh(logits / CAP))
            weighed = (self._by_head(value) * weight[..., None]).reshape(*a.shape)
            total = jnp.concatenate([weighed, weight], axis=-1)
            total = jnp.sum(total, axis=aside(end.at, rank))
            attended.add(sets, in_order(total, end.at))
        hidden = self.activation((hidden + sum(tells)) / len(ends) ** 0.5)
        return times(hidden, self.updates[count])

    def _by_head(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


@register_method("neural_graph_transformer")
def neural_graph_transformer(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    heads: int | None = None,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> GraphTrunk:
    """The trunk of NG-T.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`~..graph.trunk.GraphTrunk`; among the
            options are ``positions`` and ``probes``.
        heads: of attention; by default the largest of 8, 4, 2, 1 that leaves each 4 channels or more.
        activation: a function of single numbers.

    Example:
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Editor
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> method = "neural_graph_transformer"
        >>> edit = Editor(spec, channels=8, layers=2, key=jax.random.key(0), method=method)
        >>> jax.tree.map(jnp.shape, edit(params))
        {'b': (5,), 'w': (3, 5)}
    """
    if heads is None:
        heads = next(h for h in (8, 4, 2, 1) if channels % h == 0 and (channels >= 4 * h or h == 1))
    found = heads

    def draw(graph: Graph, key: jax.Array) -> RelationalAttentionLayer:
        return RelationalAttentionLayer(
            graph, channels, key=key, heads=found, depth=layers, activation=activation, dtype=dtype
        )

    return GraphTrunk(spec, channels, layers, draw, key=key, dtype=dtype, **options)
