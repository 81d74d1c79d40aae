"""Message passing on index arrays that also updates edges: a residual block after Lim et al.

One layer (*Graph Metanetworks for Processing Diverse Neural Architectures*, 2024): an edge sees
itself, both of its nodes and the state of its graph; a node sees what its edges say, those that arrive
apart from those that leave; the graph sees the means of its edges and its nodes. Each is a residual branch
behind a layer norm.

The edges of one block count together as one at each node, whatever the widths, and the blocks at a node
are added up and divided by the root of their number. So one set of weights is at home in narrow and wide
networks, and a bias is heard beside a kernel of a thousand rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp

from ..blocks.dtypes import wide
from ..parts.norm import standardise
from ..universal.initial import normals
from .topology import TO_POOL, TO_RECEIVER, TO_SENDER, Topology


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["nodes", "edges", "graphs", "topology"],
    meta_fields=["scalars"],
)
@dataclass(frozen=True)
class GraphFeatures:
    """Channels at every node, every edge and every graph.

    Attributes:
        nodes: ``(N, C)``.
        edges: ``(E, C)``, those of single weights before those of chunks.
        graphs: ``(G, C)``.
        topology: where the edges run.
        scalars: how many edges there are before those of chunks.
    """

    nodes: jax.Array
    edges: jax.Array
    graphs: jax.Array
    topology: Topology
    scalars: int


class LayerNorm(eqx.Module):
    """Mean 0 and variance 1 over the channels, then a gain and a bias; computed in float32 at least."""

    gain: jax.Array
    bias: jax.Array

    def __init__(self, channels: int, dtype: jnp.dtype | type = jnp.float32):
        self.gain, self.bias = jnp.ones(channels, dtype), jnp.zeros(channels, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = standardise(wide(x), epsilon=1e-5)
        return (y * self.gain.astype(y.dtype) + self.bias.astype(y.dtype)).astype(x.dtype)


class MessagePassing(eqx.Module):
    """One layer: features of nodes, edges and graphs to as many.

    Attributes:
        edge_in, edge_out: of the edge branch, from edge, sender, receiver and graph.
        node_in, node_out: of the node branch, from node, what arrives, what leaves, and graph.
        graph_in, graph_out: of the graph branch, from graph, mean edge and mean node.
        aggregate: ``"mean"`` over the edges of each block, or ``"root"``: their sum divided by the root of
            their number.
    """

    edge_in: jax.Array
    edge_out: jax.Array
    node_in: jax.Array
    node_out: jax.Array
    graph_in: jax.Array
    graph_out: jax.Array
    biases: jax.Array
    edge_norm: LayerNorm
    node_norm: LayerNorm
    graph_norm: LayerNorm
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)
    aggregate: str = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        *,
        key: jax.Array,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        aggregate: str = "mean",
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer.

        Raises:
            ValueError: ``aggregate`` is neither of the two.
        """
        if aggregate not in ("mean", "root"):
            raise ValueError(f"`aggregate` is 'mean' or 'root'; got {aggregate!r}")
        c = channels
        shapes = ((4 * c, c), (c, c), (4 * c, c), (c, c), (3 * c, c), (c, c))
        drawn = [w / w.shape[0] ** 0.5 for w in normals(key, shapes, dtype)]
        self.edge_in, self.edge_out, self.node_in, self.node_out, self.graph_in, self.graph_out = (
            drawn
        )
        self.biases = jnp.zeros((6, c), dtype)
        self.edge_norm, self.node_norm, self.graph_norm = (LayerNorm(c, dtype) for _ in range(3))
        self.activation, self.aggregate = activation, aggregate

    def __call__(self, x: GraphFeatures) -> GraphFeatures:
        """Features of the same shapes and dtype."""
        t, dtype = x.topology, x.edges.dtype
        bias = self.biases.astype(dtype)
        nodes, edges = self.node_norm(x.nodes), self.edge_norm(x.edges)
        graphs = self.graph_norm(x.graphs)
        state = spread_graphs(graphs, x.topology)

        # what nodes and graphs add to their edges is computed once a node
        own, sent, met, told = _cut(self.edge_in, 4, dtype)
        at_sender = nodes @ sent + state @ told
        z = edges @ own + at_sender[t.senders] + (nodes @ met)[t.receivers]
        z = self.activation(z + bias[0])
        new_edges = x.edges + z @ self.edge_out.astype(dtype) + bias[1]

        arrive = self._gather(z, t, t.receivers, TO_RECEIVER)
        leave = self._gather(z, t, t.senders, TO_SENDER)
        seen = jnp.concatenate([nodes, arrive, leave, state], -1)
        seen = self.activation(seen @ self.node_in.astype(dtype) + bias[2])
        new_nodes = x.nodes + seen @ self.node_out.astype(dtype) + bias[3]

        seen = jnp.concatenate([graphs, mean_of_edges(z, t), mean_of_nodes(nodes, t)], -1)
        seen = self.activation(seen @ self.graph_in.astype(dtype) + bias[4])
        new_graphs = x.graphs + seen @ self.graph_out.astype(dtype) + bias[5]
        return GraphFeatures(new_nodes, new_edges, new_graphs, t, x.scalars)

    def _gather(self, z: jax.Array, t: Topology, at: jax.Array, share: int) -> jax.Array:
        """What the edges of each node say, ``(N, C)``."""
        shares = jnp.asarray(t.edge_shares)[:, share]
        weights = (jnp.sqrt(shares) if self.aggregate == "root" else shares)[t.edge_type]
        total = _sums(z, weights, at, len(t.node_type))
        return total * jnp.asarray(t.node_shares)[:, share][t.node_type].astype(z.dtype)[:, None]


def spread_graphs(graphs: jax.Array, t: Topology) -> jax.Array:
    """The state of its graph at every node; zero at nodes that only fill up, ``(N, C)``."""
    more = jnp.concatenate([graphs, jnp.zeros_like(graphs[:1])])
    return more[t.node_graph]


def mean_of_edges(x: jax.Array, t: Topology) -> jax.Array:
    """Every block of a graph counts the same, ``(G, C)``."""
    weights = jnp.asarray(t.edge_shares)[:, TO_POOL][t.edge_type]
    return _sums(x, weights, t.edge_graph, t.graphs + 1)[:-1]


def mean_of_nodes(x: jax.Array, t: Topology) -> jax.Array:
    """Every set of nodes of a graph counts the same, ``(G, C)``."""
    weights = jnp.asarray(t.node_shares)[:, TO_POOL][t.node_type]
    return _sums(x, weights, t.node_graph, t.graphs + 1)[:-1]


def _sums(x: jax.Array, weights: jax.Array, at: jax.Array, number: int) -> jax.Array:
    y = wide(x)
    weighted = y * weights.astype(y.dtype)[:, None]
    return jax.ops.segment_sum(weighted, jnp.asarray(at), number).astype(x.dtype)


def _cut(w: jax.Array, parts: int, dtype: jnp.dtype) -> list[jax.Array]:
    return list(w.astype(dtype).reshape(parts, -1, w.shape[-1]))
