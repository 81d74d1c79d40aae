"""Neural graphs, message passing: NG-GNN of Kofinas et al., *Graph Neural Networks for Learning
Equivariant Representations of Neural Networks*, 2024 (section 3 and appendix C).

The network is read as its graph of neurons (:mod:`~..graph.derive`). Edges modulate what nodes say
(FiLM: Perez et al., 2018), every node hears the mean, the extremes and the spread of its neighbours
(PNA: Corso et al., 2020), and edges hear their ends. What differs from the published layer: messages go
both ways with weights of their own, kernels of any rank and nested units take part, biases and gains
stay edge sets with one end, and nodes hear the network as a whole and the units that they are nested in.
Everything is dense: products on whole arrays of edges and reductions, no index of any edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.product import times
from ..graph.derive import Graph
from ..graph.features import (
    Collected,
    GraphFeatures,
    Sets,
    aside,
    ends_of,
    in_order,
    incidences,
    spread,
)
from ..graph.layers import columns, counts_of, maps, nested, rms, roles_of, statistics
from ..graph.trunk import GraphTrunk
from .registry import register_method


class NeuralGraphLayer(eqx.Module):
    """Messages along all edges, then an update of nodes and edges.

    Attributes:
        says: ``(C, (2 * roles + 2) * C)``, what nodes say to edges, at each role and to nested sets.
        meets: ``{number of ends: (C, C)}``, of what edges bring along.
        modulates: ``{number of ends: (C, 3 * C)}``, scale and shift of messages, update of edges.
        hears: ``{role: (4 * C, C)}``, of the statistics of messages; ``(C, C)`` at a single end.
        below, above: see :func:`~..graph.layers.nested`.
        inner, outer: the node update.
        gains: of the normalisation of nodes and of edges, ``(2, C)``.
    """

    says: jax.Array
    meets: dict[str, jax.Array]
    modulates: dict[str, jax.Array]
    hears: dict[str, jax.Array]
    below: jax.Array
    above: jax.Array
    inner: jax.Array
    outer: jax.Array
    gains: jax.Array
    roles: tuple[str, ...] = eqx.field(static=True)
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        graph: Graph,
        channels: int,
        *,
        key: jax.Array,
        depth: int = 1,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer that is one of ``depth`` in a stack: what it adds is that much smaller."""
        c, self.roles, counts = channels, roles_of(graph), counts_of(graph)
        heard = [(role, c if role == "self" else 4 * c) for role in self.roles]
        shapes = [(c, (2 * len(self.roles) + 2) * c)]
        shapes += [(c, c) for _ in counts] + [(c, 3 * c) for _ in counts]
        shapes += [(size, c) for _, size in heard]
        draws = iter(maps(key, [*shapes, (c, c), (4 * c, c), (c, c), (c, c)], dtype))
        small = jnp.asarray((2 * depth) ** -0.5, dtype)
        self.says = next(draws)
        self.meets = {str(k): next(draws) for k in counts}
        last = jnp.concatenate([jnp.ones(2 * c, dtype), jnp.full(c, small, dtype)])
        self.modulates = {str(k): next(draws) * last for k in counts}
        self.hears = {role: next(draws) for role, _ in heard}
        self.below, self.above, self.inner = next(draws), next(draws), next(draws)
        self.outer = next(draws) * small
        self.gains = jnp.ones((2, c), dtype)
        self.activation = activation

    def __call__(self, x: GraphFeatures) -> GraphFeatures:
        """Features of the same shapes and dtype."""
        nodes = [rms(a, self.gains[0]) for a in x.nodes.arrays]
        said = columns([times(a, self.says) for a in nodes], 2 * len(self.roles) + 2)
        sets = [Sets(part, x.nodes.groups) for part in said[:-2]]
        speaks = {role: (sets[2 * n], sets[2 * n + 1]) for n, role in enumerate(self.roles)}
        degree = incidences(x.graph)
        heard = Collected(x.nodes.groups)
        nested(x, said[-2], said[-1], self.below, self.above, heard)
        edges = []
        for members, a in zip(x.edges.groups, x.edges.arrays, strict=True):
            edges.append(a + self._along(x.graph, members, a, speaks, degree, heard))
        out = []
        for a, n, h in zip(
            x.nodes.arrays, nodes, heard.sums(x.nodes.arrays, x.nodes.channels), strict=True
        ):
            out.append(a + times(self.activation(times(n, self.inner) + h), self.outer))
        return x.put(out, edges)

    def _along(self, graph, members, a, speaks, degree, heard: Collected) -> jax.Array:
        """The update of one stack of edge sets; what its ends hear is handed to ``heard``."""
        rank, ends = a.ndim - 2, ends_of(graph, members)
        count = str(len(ends))
        u = times(rms(a, self.gains[1]), self.meets[count])
        for end, sets in ends:
            u = u + spread(speaks[end.role][0].take(sets), end.at, rank)
        scale, shift, update = jnp.split(
            times(self.activation(u / len(ends) ** 0.5), self.modulates[count]), 3, axis=-1
        )
        values = [spread(speaks[end.role][1].take(sets), end.at, rank) for end, sets in ends]
        for n, (end, sets) in enumerate(ends):
            others = [v for m, v in enumerate(values) if m != n]
            message = shift + (1 + scale) * sum(others) if others else shift
            axes = aside(end.at, rank)
            hears = self.hears[end.role]
            if end.role != "self":
                # an end may also have all axes (a set and what it is nested in): nothing to pool
                message = (
                    statistics(message, axes)
                    if axes
                    else jnp.concatenate([message] * 3 + [jnp.zeros_like(message)], axis=-1)
                )
            message = in_order(times(message, hears), end.at)
            weight = jnp.asarray([degree[s] ** -0.5 for s in sets], message.dtype)
            heard.add(sets, message * weight.reshape(-1, *(1 for _ in message.shape[1:])))
        return update


@register_method("neural_graph")
def neural_graph(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> GraphTrunk:
    """The trunk of NG-GNN.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`~..graph.trunk.GraphTrunk`; among the
            options are ``positions`` and ``probes``.
        activation: a function of single numbers.

    Example:
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Metanetwork
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5), "v": jnp.ones((5, 2))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h", "v": "h _"})
        >>> key = jax.random.key(0)
        >>> net = Metanetwork(spec, channels=8, layers=2, out=1, key=key, method="neural_graph")
        >>> net(params).shape
        (1,)
    """

    def draw(graph: Graph, key: jax.Array) -> NeuralGraphLayer:
        return NeuralGraphLayer(
            graph, channels, key=key, depth=layers, activation=activation, dtype=dtype
        )

    return GraphTrunk(spec, channels, layers, draw, key=key, dtype=dtype, **options)
