"""Conditions that are graphs: the architecture a network should have, or any graph with features.

Message passing, then a mean over the nodes. :func:`architecture_graph` makes a graph of a spec: its blocks
are nodes, and two blocks are joined by the units that they share, as operations are in the graphs of
Zhang, Ren, Urtasun, *Graph HyperNetworks for Neural Architecture Search*, 2019, here for any architecture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...representation.blocks.dtypes import wide
from ...representation.parts.layers import draw_layers, run_layers
from ...representation.parts.norm import standardise
from ...symmetry.spec import Spec
from ..denoisers.levels import Linear, as_floating
from .condition import Condition, Told

AXES = 4
"""Axes of a block that are described one by one."""

ARCHITECTURE_FEATURES = 2 * AXES + 3


class Graph(NamedTuple):
    """A graph with features, padded to any number of nodes.

    Attributes:
        nodes: ``(nodes, features)``.
        adjacency: ``(nodes, nodes)``: the weight of the edge to a node (row) from a node (column).
        mask: ``(nodes,)``, true for those that are there; None for all.
    """

    nodes: Any
    adjacency: Any
    mask: Any = None


def architecture_graph(spec: Spec, nodes: int | None = None) -> Graph:
    """The architecture that a spec is of: one node a block, and edges by the units they share.

    A node says how large the block is, how many axes it has, which of the first four are units, their
    sizes, and where the block stands among all. Only sizes enter, no names.

    Args:
        spec: of one network.
        nodes: pad to so many, to stack graphs of several architectures.

    Raises:
        ValueError: there are more blocks than ``nodes``.

    Example:
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> graph = architecture_graph(spec, 4)
        >>> graph.nodes.shape, graph.adjacency.astype(int).tolist(), graph.mask.tolist()
        ((4, 11), [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [True, True, False, False])
    """
    layout = spec.layout
    count = len(layout) if nodes is None else nodes
    if count < len(layout):
        raise ValueError(f"the spec has {len(layout)} blocks; `nodes` is {nodes}")
    units = {u.name for u in spec.units}
    features = np.zeros((count, ARCHITECTURE_FEATURES), np.float32)
    adjacency = np.zeros((count, count), np.float32)
    for n, block in enumerate(layout):
        own = {name for name in block.axes if name in units}
        for k, (name, size) in enumerate(zip(block.axes[:AXES], block.shape[:AXES], strict=True)):
            features[n, 2 * k : 2 * k + 2] = np.log1p(size), name in units
        features[n, -3:] = (
            len(block.shape),
            np.log1p(float(np.prod(block.shape))),
            n / max(len(layout) - 1, 1),
        )
        for m, other in enumerate(layout[:n]):
            adjacency[n, m] = adjacency[m, n] = len(own & set(other.axes))
    return Graph(jnp.asarray(features), jnp.asarray(adjacency), jnp.arange(count) < len(layout))


class GraphLayer(eqx.Module):
    """Nodes hear the weighted means of those before them and behind them; residual."""

    own: Linear
    forward: Linear
    backward: Linear
    out: Linear

    def __init__(self, channels: int, *, key: jax.Array, dtype: jnp.dtype | type):
        draws = (Linear(channels, channels, key=k, dtype=dtype) for k in jax.random.split(key, 4))
        self.own, self.forward, self.backward, self.out = draws

    def __call__(self, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, adjacency = state
        y = standardise(x)
        heard = self.own(y)
        for edges, said in ((adjacency, self.forward(y)), (adjacency.T, self.backward(y))):
            degree = jnp.sum(jnp.abs(edges), axis=1, keepdims=True)
            heard = heard + (edges @ said) / jnp.where(degree > 0, degree, 1)
        return x + self.out(jax.nn.gelu(heard)), adjacency


class GraphCondition(Condition):
    """A graph to a vector, the same for all orders of its nodes.

    Example:
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"w": jnp.ones((3, 5))}, {"w": "_ h"})
        >>> condition = GraphCondition(ARCHITECTURE_FEATURES, 16, key=jax.random.key(0))
        >>> condition(architecture_graph(spec)).vector.shape
        (16,)
    """

    embed: Linear
    layers: GraphLayer
    out: Linear
    size: int | None = eqx.field(static=True)
    beside: int = eqx.field(static=True, default=0)

    def __init__(
        self,
        features: int,
        size: int,
        *,
        key: jax.Array,
        channels: int = 64,
        layers: int = 3,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw one.

        Args:
            features: of a node (:data:`ARCHITECTURE_FEATURES` of an architecture).
            size: of the vector.
            key: of the initial weights.
            channels, layers: of the message passing.
            dtype: of the weights.
        """
        keys = jax.random.split(key, 3)
        self.embed = Linear(features, channels, key=keys[0], dtype=dtype)
        self.layers = draw_layers(
            lambda key: GraphLayer(channels, key=key, dtype=dtype), layers, keys[1]
        )
        self.out = Linear(2 * channels, size, key=keys[2], dtype=dtype)
        self.size, self.beside = size, 0

    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        """A :class:`Graph`."""
        del key
        graph = Graph(*raw)
        nodes = wide(as_floating(graph.nodes))
        edges = jnp.asarray(graph.adjacency, nodes.dtype)
        features = self.embed.weight.shape[0]
        if nodes.ndim != 2 or nodes.shape[1] != features or edges.shape != (len(nodes),) * 2:
            raise ValueError(
                f"the graph has nodes {nodes.shape} and adjacency {edges.shape}; expected "
                f"(nodes, {features}) and (nodes, nodes)"
            )
        mask = jnp.ones(len(nodes), bool) if graph.mask is None else jnp.asarray(graph.mask, bool)
        nodes = jnp.where(mask[:, None], nodes, 0)
        edges = jnp.where(mask[:, None] & mask[None], edges, 0)
        x, _ = run_layers(self.layers, (self.embed(nodes), edges))
        x = jnp.where(mask[:, None], standardise(x), 0)
        count = jnp.maximum(jnp.sum(mask, dtype=x.dtype), 1)
        mean = jnp.sum(x, axis=0) / count
        return Told(self.out(jnp.concatenate([mean, jnp.log1p(count) * mean])))
