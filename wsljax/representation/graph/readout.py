"""Out of a graph: a vector that no exchange of units changes, or arrays of the weights' shapes.

Every block is read out of its own edges (a bias is an edge set with one end), so nothing has to be
sorted out by index arithmetic, and what comes out moves exactly as the weights do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.stacks import Cell, assemble, unstack
from ..parts.pool import InvariantPool
from ..universal.initial import normals
from .derive import Graph, as_block, graph_of
from .features import GraphFeatures, node_structure
from .looks import Positions, matched, members_of


class GraphPool(eqx.Module):
    """Means over the node sets and the edge sets of a graph.

    Attributes:
        nodes, edges: an :class:`.InvariantPool` of each; None where it is left out.
        each: whether every node set and edge set has numbers of its own; else one mean is taken over
            them all, and graphs with any number of sets can be pooled.
    """

    nodes: InvariantPool | None
    edges: InvariantPool | None
    each: bool = eqx.field(static=True)
    statistics: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        graph: Graph,
        *,
        each: bool = True,
        over: tuple[str, ...] = ("nodes", "edges"),
        statistics: tuple[str, ...] = ("mean",),
    ):
        if not over or not set(over) <= {"nodes", "edges"}:
            raise ValueError(f'`over` must be among ("nodes", "edges"); got {over}')
        self.each, self.statistics = each, tuple(statistics)
        pools: Any = {"nodes": node_structure(graph), "edges": graph.structure}
        self.nodes, self.edges = (
            InvariantPool(pools[what], statistics=self.statistics) if what in over else None
            for what in ("nodes", "edges")
        )

    def size(self, channels: int) -> int:
        """How many numbers come out."""
        pools = [p for p in (self.nodes, self.edges) if p is not None]
        if self.each:
            return sum(p.size(channels) for p in pools)
        return len(pools) * len(self.statistics) * channels

    def __call__(self, x: GraphFeatures) -> jax.Array:
        """Features to one vector of :meth:`size` numbers."""
        pools = [(self.nodes, x.nodes), (self.edges, x.edges)]
        pools = [(pool, features) for pool, features in pools if pool is not None]
        if self.each:
            return jnp.concatenate([pool(features) for pool, features in pools])
        out = []
        for _, features in pools:
            own = InvariantPool(features.structure, statistics=self.statistics)  # pyright: ignore
            found = own(features).reshape(-1, features.channels, len(self.statistics))
            out.append(jnp.mean(found, axis=0).reshape(-1))
        return jnp.concatenate(out)


class GraphReadout(eqx.Module):
    """Features on a graph to arrays of the weights' own shapes.

    Attributes:
        weights: ``{look of edge sets: (members, channels, features)}``; a single member where positions
            are depths.
        bias: ``{look: (members, features)}``.
    """

    weights: dict[str, jax.Array]
    bias: dict[str, jax.Array]
    graph: Graph = eqx.field(static=True)
    spec: Spec = eqx.field(static=True)
    positions: Positions = eqx.field(static=True)
    prefix: str = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        positions: Positions = "learned",
        prefix: str = "",
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a readout.

        Args:
            spec, channels, key, positions, dtype: as for :class:`.GraphEmbed`.
            prefix: what stands before the names of blocks in features of a larger graph.
            scales: what the initial output of each block is multiplied with, by default 1.
        """
        self.spec, self.graph = spec, graph_of(spec)
        self.positions, self.prefix = positions, prefix
        members = members_of(self.graph, positions)
        one = positions == "depth"
        edges = self.graph.edges
        shapes = tuple(
            (1 if one else len(found), channels, edges[found[0]].features)
            for found in members.values()
        )
        self.weights, self.bias = {}, {}
        for (name, found), w in zip(members.items(), normals(key, shapes, dtype), strict=True):
            sizes = np.array([(scales or {}).get(edges[b].name, 1.0) for b in found])
            sizes = np.array([np.mean(sizes)]) if one else sizes
            times = sizes[:, None, None] / channels**0.5
            self.weights[name] = w * jnp.asarray(times, dtype)
            self.bias[name] = jnp.zeros((w.shape[0], w.shape[2]), dtype)

    def __call__(self, x: GraphFeatures, spec: Spec | None = None) -> dict[str, jax.Array]:
        """``{block: array of the block's shape}``, for the blocks of the spec it was drawn for.

        Nothing is read of what further edge sets the features have (activations, see
        :mod:`~..parts.probes`).
        """
        own = self.spec if spec is None else spec
        graph = self.graph if own == self.spec else matched(self.graph, own, self.positions)
        shapes = {block.name: block.shape for block in own.layout}
        place = {
            x.edges.structure[b].name.removeprefix(self.prefix): (g, n)
            for g, members in enumerate(x.edges.groups)
            for n, b in enumerate(members)
            if x.edges.structure[b].name.startswith(self.prefix)
        }
        stacks: dict[tuple[str, int], list[int]] = {}
        for name, found in members_of(graph, self.positions).items():
            for b in found:
                stacks.setdefault((name, place[graph.edges[b].name][0]), []).append(b)
        seat = {
            b: n
            for found in members_of(graph, self.positions).values()
            for n, b in enumerate(found)
        }
        arrays = assemble(
            dict(enumerate(x.edges.arrays)),
            [[Cell(*place[graph.edges[b].name]) for b in found] for found in stacks.values()],
        )
        maps, biases = self._maps(stacks, seat)
        out = {}
        for found, a, w, bias in zip(stacks.values(), arrays, maps, biases, strict=True):
            y = jnp.matmul(a.reshape(a.shape[0], -1, a.shape[-1]), w.astype(a.dtype))
            y = y + bias.astype(a.dtype)[:, None]
            for b, block in zip(found, unstack(y), strict=True):
                edge = graph.edges[b]
                out[edge.name] = as_block(edge, block, shapes[edge.name])
        return out

    def _maps(self, stacks, seat) -> tuple[list[jax.Array], list[jax.Array]]:
        if self.positions == "depth":
            names = [name for name, _ in stacks]
            return [self.weights[n] for n in names], [self.bias[n] for n in names]
        cells = [[Cell(name, seat[b]) for b in found] for (name, _), found in stacks.items()]
        return assemble({**self.weights}, cells), assemble({**self.bias}, cells)
