"""Weights to features on the graph: edges are embedded weights, nodes are where they are.

With ``positions="learned"`` every edge set and every node set has an embedding of its own, and the maps
of edge sets differ: one network structure, any widths. With ``positions="depth"`` maps are shared by all
edge sets that look alike (ends, features and last word of the path), and what tells layers apart are
sinusoids of their depth and order: such a trunk reads networks of other depths too. The coordinates of
fixed ends always have learned identities; steps of a scan have position codes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.incoming import block_of, check_scales, floating
from ..blocks.stacks import Cell, assemble
from ..parts.folding import CODES, position_codes
from ..universal.initial import normals
from .derive import EdgeSet, Graph, NodeSet, as_edges, graph_of, widths_of
from .features import GraphFeatures, edge_groups, node_groups, node_structure
from .looks import Positions, flags_of, look, matched, members_of

RATES = 6
"""Frequencies of the sinusoids of a depth."""


def depth_codes(node: NodeSet | EdgeSet, graph: Graph) -> np.ndarray:
    """Sinusoids of the depth of a node set, or of a block's deepest end and of its place by name."""
    if isinstance(node, NodeSet):
        places = [node.depth]
    else:
        places = [max(graph.nodes[end.nodes].depth for end in node.ends), graph.edges.index(node)]
    rates = 0.5 ** np.arange(RATES)
    angles = np.array([p * r for p in places for r in rates])
    return np.concatenate([np.sin(angles), np.cos(angles)])


class GraphEmbed(eqx.Module):
    """Weights to :class:`.GraphFeatures`.

    Attributes:
        weights: ``{look of edge sets: (members, features * c_in + flags, channels)}``; a single member
            if positions are depths.
        places: ``(edge sets, channels)``, or for depths ``{look: (1, codes, channels)}``.
        nodes: ``(node sets, channels)``, or ``(codes, channels)``.
        identities: of every fixed end, ``(coordinates, channels)``.
        steps: of the position codes of named fixed axes, ``(codes, channels)``; None where there are none.
    """

    weights: dict[str, jax.Array]
    places: jax.Array
    nodes: jax.Array
    identities: dict[str, jax.Array]
    steps: jax.Array | None
    graph: Graph = eqx.field(static=True)
    spec: Spec = eqx.field(static=True)
    positions: Positions = eqx.field(static=True)
    c_in: int | None = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        positions: Positions = "learned",
        c_in: int | None = None,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an embedding; arguments as of :class:`~..parts.embed.Embed`, and ``positions``.

        Raises:
            ValueError: for other positions than "learned" and "depth", or scales of unknown blocks.
        """
        if positions not in ("learned", "depth"):
            raise ValueError(f'`positions` must be "learned" or "depth"; got {positions!r}')
        self.spec, self.graph = spec, graph_of(spec)
        self.positions, self.c_in = positions, c_in
        check_scales(scales, (edge.name for edge in self.graph.edges))
        members = members_of(self.graph, positions)
        learned = positions == "learned"
        shapes = []
        for found in members.values():
            edge = self.graph.edges[found[0]]
            inputs = edge.features * (c_in or 1) + len(flags_of(edge))
            shapes.append((len(found) if learned else 1, inputs, channels))
        ends = [node for node in self.graph.nodes if node.fixed is not None]
        shapes += [(node.fixed, channels) for node in ends]
        shapes.append((len(self.graph.edges) if learned else 4 * RATES, channels))
        shapes.append((len(self.graph.nodes) if learned else 2 * RATES, channels))
        stepped = not learned or any(
            _is_step(node, a) for node in self.graph.nodes for a in node.labels
        )
        shapes += [(CODES, channels)] if stepped else []
        draws = iter(normals(key, tuple(shapes), dtype))
        self.weights = {}
        for name, found in members.items():
            w = next(draws)
            divide = np.ones((w.shape[0], w.shape[1], 1))
            for n in range(w.shape[0]):
                size = [(scales or {}).get(self.graph.edges[b].name, 1.0) for b in found]
                edge = self.graph.edges[found[n]]
                divide[n, : edge.features * (c_in or 1)] = size[n] if learned else np.mean(size)
            self.weights[name] = w / jnp.asarray(divide * (2 * w.shape[1]) ** 0.5, dtype)
        half = jnp.asarray(0.5**0.5, dtype)
        self.identities = {node.name: next(draws) * half for node in ends}
        norm = [1.0, 1.0] if learned else [(2 * RATES) ** -0.5, RATES**-0.5]
        self.places = next(draws) * half * jnp.asarray(norm[0], dtype)
        self.nodes = next(draws) * half * jnp.asarray(norm[1], dtype)
        self.steps = next(draws) * jnp.asarray((CODES / 2) ** -0.5, dtype) if stepped else None

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> GraphFeatures:
        """Embed ``spec.blocks(params)``.

        Raises:
            ValueError: if a block has another shape, or the spec is one that this cannot read.
        """
        own = self.spec if spec is None else spec
        graph = self.graph if own == self.spec else matched(self.graph, own, self.positions)
        dtype = floating(blocks)
        widths = widths_of(graph, own)
        edges = self._edges(blocks, own, graph, widths, dtype)
        return GraphFeatures(self._nodes(graph, widths, dtype), edges, graph)

    def _edges(self, blocks, spec: Spec, graph: Graph, widths, dtype) -> Features:
        shapes = {block.name: block.shape for block in spec.layout}
        seat = {
            b: n
            for found in members_of(graph, self.positions).values()
            for n, b in enumerate(found)
        }
        groups = edge_groups(graph, widths)
        parts, arrays = [], []
        for members in groups:
            found = defaultdict(list)
            for b in members:
                found[look(graph.edges[b], self.positions)].append(b)
            parts.append(dict(found))
        learned = self.positions == "learned"
        cells = [
            [Cell(name, seat[b]) for b in found] if learned else [Cell(name, 0)]
            for looks in parts
            for name, found in looks.items()
        ]
        stacks: dict[Hashable, jax.Array] = {**self.weights}
        weights = assemble(stacks, cells) if learned else [stacks[c[0].stack] for c in cells]
        maps = iter(weights)
        for looks in parts:
            done = {}
            for found in looks.values():
                x = jnp.stack([self._flat(blocks, shapes, graph.edges[b], dtype) for b in found])
                w = next(maps).astype(dtype)
                y = jnp.matmul(x.reshape(x.shape[0], -1, x.shape[-1]), w)
                y = y + self._place(graph, found, dtype)[:, None]
                y = y.reshape(*x.shape[:-1], -1)
                done |= (
                    {b: y[n : n + 1] for n, b in enumerate(found)} if len(looks) > 1 else {-1: y}
                )
            arrays.append(
                done[-1] if len(looks) == 1 else jnp.concatenate([done[b] for b in sorted(done)])
            )
        return Features(tuple(arrays), graph.structure, groups)

    def _place(self, graph: Graph, found: list[int], dtype) -> jax.Array:
        if self.positions == "learned":
            return _rows(self.places, found).astype(dtype)
        codes = np.stack([depth_codes(graph.edges[b], graph) for b in found])
        return jnp.asarray(codes, dtype) @ self.places.astype(dtype)

    def _flat(self, blocks, shapes, edge: EdgeSet, dtype) -> jax.Array:
        x = block_of(blocks, edge.name, shapes[edge.name], self.c_in)
        x = as_edges(edge, x.astype(dtype), len(shapes[edge.name]))
        for i, j in flags_of(edge):
            eye = np.eye(x.shape[i])
            flag = np.broadcast_to(
                np.expand_dims(eye, [k for k in range(x.ndim) if k not in (i, j)]),
                (*x.shape[:-1], 1),
            )
            x = jnp.concatenate([x, jnp.asarray(flag, dtype)], axis=-1)
        return x

    def _nodes(self, graph: Graph, widths, dtype) -> Features:
        groups = node_groups(graph, widths)
        arrays = []
        for members in groups:
            nodes = [graph.nodes[n] for n in members]
            if self.positions == "learned":
                at = _rows(self.nodes, members).astype(dtype)
            else:
                codes = np.stack([depth_codes(node, graph) for node in nodes])
                at = jnp.asarray(codes, dtype) @ self.nodes.astype(dtype)
            shape = tuple(widths[label] for label in nodes[0].labels)
            x = at.reshape(len(nodes), *(1 for _ in shape), -1)
            x = jnp.broadcast_to(x, (len(nodes), *shape, x.shape[-1]))
            if any(node.fixed is not None for node in nodes):
                zero = jnp.zeros(x.shape[1:], dtype)
                extra = [
                    zero if node.fixed is None else self.identities[node.name].astype(dtype)
                    for node in nodes
                ]
                x = x + jnp.stack(extra)
            x = x + self._codes(nodes, shape, dtype)
            arrays.append(x)
        return Features(tuple(arrays), node_structure(graph), groups)

    def _codes(self, nodes: list[NodeSet], shape: tuple[int, ...], dtype) -> jax.Array:
        """Position codes along named fixed axes, of every node set."""
        total = jnp.zeros((), dtype)
        for k, size in enumerate(shape):
            named = [_is_step(node, node.labels[k]) for node in nodes]
            if any(named):
                assert self.steps is not None
                codes = position_codes(size, dtype) @ self.steps.astype(dtype)
                lead = [1] * len(shape)
                lead[k] = size
                on = jnp.asarray(np.array(named, float), dtype).reshape(-1, *(1 for _ in shape), 1)
                total = total + on * codes.reshape(1, *lead, -1)
        return total


def _rows(table: jax.Array, rows: Sequence[int]) -> jax.Array:
    """Some rows of a table, each used once, in runs and without a gather."""
    cells = [Cell("table", row) for row in rows]
    return assemble({"table": table}, [cells])[0]


def _is_step(node: NodeSet, label: str) -> bool:
    """Whether a label of a node set is a named fixed axis, as the steps of a scan are."""
    return label.startswith("_") and node.fixed is None
