"""Graph metanetworks: message passing on the parameter graph of whatever network comes in.

After Lim et al., *Graph Metanetworks for Processing Diverse Neural Architectures*, 2024. No weight of the
metanetwork belongs to a block, a width or a depth, so one of them reads MLPs, CNNs, recurrent networks
and transformers, with the spec of each as the second argument, or in one batch::

    net = Metanetwork(spec, channels=32, layers=4, out=1, key=key, method="graph_metanetwork")
    net(params)                                     # a network of this spec
    net(other, other_spec)                          # a network of any
    batch = batch_graphs([parameter_graph(s, p) for s, p in networks])
    eqx.filter_jit(answer_batch)(net, batch)        # (networks, 1), one program for all

:mod:`..graph_batch.lay` says what the graph of a spec is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.dtypes import cast
from ..graph_batch.describe import EDGE_FEATURES, NODE_FEATURES
from ..graph_batch.heads import GraphPool, GraphReadout
from ..graph_batch.lay import plan_of
from ..graph_batch.message_passing import GraphFeatures, LayerNorm, MessagePassing
from ..graph_batch.parameter_graph import ParameterGraph, put
from ..graph_batch.plan import DEFAULT_SIZES, Plan, Sizes
from ..graph_batch.topology import SPREAD
from ..parts.layers import draw_layers, run_layers
from ..universal.initial import normals
from .registry import register_method
from .trunk import Trunk

Three = tuple[jax.Array, jax.Array, jax.Array]


class Description(eqx.Module):
    """Tables of features to tables of channels, by an MLP of one hidden layer."""

    first: jax.Array
    second: jax.Array
    bias: jax.Array

    def __init__(self, features: int, channels: int, *, key: jax.Array, dtype: jnp.dtype | type):
        self.first, self.second = normals(key, ((features, channels), (channels, channels)), dtype)
        self.first, self.second = self.first / features**0.5, self.second / channels**0.5
        self.bias = jnp.zeros((2, channels), dtype)

    def __call__(self, rows: jax.Array, dtype: jnp.dtype) -> jax.Array:
        bias = self.bias.astype(dtype)
        x = jax.nn.gelu(jnp.asarray(rows, dtype) @ self.first.astype(dtype) + bias[0])
        return x @ self.second.astype(dtype) + bias[1]


class GraphMetanetwork(Trunk):
    """Weights of any networks to features of the nodes, edges and graphs that they are.

    Attributes:
        value: from a weight's channels.
        chunk: from the channels of a chunk of weights.
        edge, node: from what edges and nodes say of themselves.
        graph: what graphs start from.
        layers: all layers in one, run by ``lax.scan``.
        norms: of the features of nodes, edges and graphs that come out.
        spec: the annotation that is meant where a call names none.
        scales: typical sizes of the weights of that spec, by block.
    """

    without_gradient: ClassVar = (".chunk",)
    """Arrays that specs without large tables do not use."""

    value: jax.Array
    chunk: jax.Array
    edge: Description
    node: Description
    graph: jax.Array
    layers: MessagePassing
    norms: tuple[LayerNorm, LayerNorm, LayerNorm]
    spec: Spec = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)
    sizes: Sizes = eqx.field(static=True)
    c_in: int | None = eqx.field(static=True)
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        c_in: int | None = None,
        scales: Mapping[str, float] | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        aggregate: str = "mean",
        sizes: Sizes = DEFAULT_SIZES,
        unroll: int = 1,
        remat: bool = False,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a trunk.

        Args:
            spec: annotation of the networks that are meant where a call names none.
            channels: of the features.
            layers: how many layers.
            key: of the initial weights.
            c_in: channels of the blocks that come in, on a last axis; None if they have none.
            scales: typical sizes of the weights of the blocks of ``spec``; blocks that it does not name,
                and all other specs, have ``1 / sqrt(fan-in)`` for kernels and 1 for all else.
            activation: a function of single numbers.
            aggregate: see :class:`.MessagePassing`.
            sizes: when fixed axes are laid out in chunks; see :class:`.Sizes`.
            unroll, remat: see :class:`.LayeredTrunk`.
            dtype: of the weights.
        """
        keys = jax.random.split(key, 4)
        count = c_in or 1
        shapes = ((count, channels), (sizes.chunk * count, channels), (channels,))
        value, chunk, self.graph = normals(keys[0], shapes, dtype)
        self.value, self.chunk = value / count**0.5, chunk / (sizes.chunk * count) ** 0.5
        self.edge = Description(EDGE_FEATURES, channels, key=keys[1], dtype=dtype)
        self.node = Description(NODE_FEATURES, channels, key=keys[2], dtype=dtype)

        def draw(key: jax.Array) -> MessagePassing:
            return MessagePassing(
                channels, key=key, activation=activation, aggregate=aggregate, dtype=dtype
            )

        self.layers = draw_layers(draw, layers, keys[3])
        self.norms = (
            LayerNorm(channels, dtype),
            LayerNorm(channels, dtype),
            LayerNorm(channels, dtype),
        )
        self.scales = tuple(sorted((scales or {}).items()))
        self.spec, self.sizes, self.c_in = spec, sizes, c_in
        self.unroll, self.remat = unroll, remat
        plan_of(spec, sizes, dict(self.scales))  # names what does not fit, now rather than later

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> GraphFeatures:
        """``spec.blocks(params)`` of one network to the features of its graph.

        Args:
            blocks: ``{block: array}``, with a last axis of ``c_in`` channels if the trunk was drawn so.
            spec: their annotation, where it is another one; any will do.
        """
        return self.read(put(self.plan(spec), blocks, self.c_in))

    def plan(self, spec: Spec | None = None) -> Plan:
        """The graph that networks of ``spec`` are read as."""
        own = spec is None or spec == self.spec
        return plan_of(
            self.spec if spec is None else spec, self.sizes, dict(self.scales) if own else None
        )

    def read(self, graph: ParameterGraph) -> GraphFeatures:
        """The features of one graph, or of a batch.

        Raises:
            ValueError: the graph has other channels or other chunks than this trunk was drawn for.
        """
        found = graph.values.shape[-1], graph.chunks.shape[-2]
        expected = self.c_in or 1, self.sizes.chunk
        if graph.values.ndim != 2 or found != expected:
            raise ValueError(
                f"the graph has values {graph.values.shape} and chunks {graph.chunks.shape}; expected "
                f"(edges, {expected[0]}) and (edges, {expected[1]}, {expected[0]})"
            )
        t, dtype = graph.topology, graph.values.dtype
        size = jnp.asarray(t.edge_shares)[:, SPREAD]
        size = jnp.where(size > 0, size, 1)[t.edge_type].astype(dtype)[:, None]
        values = jnp.concatenate(
            [
                graph.values @ self.value.astype(dtype),
                graph.chunks.reshape(len(graph.chunks), len(self.chunk)) @ self.chunk.astype(dtype),
            ]
        )
        edges = values / size + self.edge(t.edge_rows, dtype)[t.edge_type]
        nodes = self.node(t.node_rows, dtype)[t.node_type]
        graphs = jnp.broadcast_to(self.graph.astype(dtype), (t.graphs, len(self.graph)))

        def call(layer: MessagePassing, x: Three) -> Three:
            y = layer(GraphFeatures(*x, t, len(graph.values)))
            return y.nodes, y.edges, y.graphs

        x = run_layers(self.layers, (nodes, edges, graphs), self.unroll, self.remat, call)
        nodes, edges, graphs = (norm(a) for norm, a in zip(self.norms, x, strict=True))
        return GraphFeatures(nodes, edges, graphs, t, len(graph.values))

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> GraphPool:
        return GraphPool(**options)

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> GraphReadout:
        return GraphReadout(self.spec, self.sizes, channels, key=key, scales=scales, dtype=dtype)


@register_method("graph_metanetwork")
def graph_metanetwork(spec: Spec, channels: int, layers: int, **options: Any) -> GraphMetanetwork:
    """The trunk of a graph metanetwork; see :class:`GraphMetanetwork`."""
    return GraphMetanetwork(spec, channels, layers, **options)


def answer_batch(net: Any, graph: ParameterGraph) -> jax.Array:
    """What a metanetwork says of all networks of a batch, ``(networks, out)``.

    Args:
        net: a :class:`~..metanetwork.Metanetwork` whose trunk is a :class:`GraphMetanetwork`.
        graph: of :func:`.batch_graphs`, or of one network.

    Example:
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Metanetwork
        >>> from wsljax.representation.graph_batch.batch import batch_graphs
        >>> from wsljax.representation.graph_batch.parameter_graph import parameter_graph
        >>> small, deep = ({"w": jnp.ones((2, 5))}, {"w": jnp.ones((2, 4)), "v": jnp.ones((4, 4))})
        >>> a = symmetry.parse(small, {"w": "_ h"})
        >>> b = symmetry.parse(deep, {"w": "_ h", "v": "h g"})
        >>> net = Metanetwork(a, 8, 2, 1, key=jax.random.key(0), method="graph_metanetwork")
        >>> both = batch_graphs([parameter_graph(a, small), parameter_graph(b, deep)])
        >>> jax.jit(lambda graph: answer_batch(net, graph))(both).shape
        (2, 1)
    """
    pooled = net.pool.each(net.trunk.read(graph))
    return jax.vmap(cast(net.head, pooled.dtype))(pooled)


def edit_batch(editor: Any, graph: ParameterGraph) -> ParameterGraph:
    """What an editor makes of all networks of a batch: the same edges with other values.

    Args:
        editor: a :class:`~..metanetwork.Editor` whose trunk is a :class:`GraphMetanetwork`.
        graph: of :func:`.batch_graphs`; :func:`.split_batch` and :func:`.weights_of` give the weights of
            each network of what comes out.
    """
    values, chunks = editor.readout.values(editor.trunk.read(graph))
    return ParameterGraph(values[..., None], chunks[..., None], graph.topology)
