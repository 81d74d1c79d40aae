"""The graph of a spec, laid out as index arrays: which node every weight starts and ends at.

Built on :func:`..graph.derive.graph_of`, which says what the node sets are and which of them each block
joins. Here every coordinate of a node set becomes a node and every weight an edge:

- a kernel has an edge for each pair of its nodes, and parallel edges for its fixed positions (kernel
  height and width), told apart by position codes;
- a bias, a gain or a scalar has edges to its nodes from a node of its own, one for each such block;
- a weight of three or more nodes is a node itself, with an edge that carries its value and an incidence
  edge from each of its nodes;
- what is nested (the dims of a head, the layers of a scan) has a member edge to what it is nested in,
  so that the graph has no symmetry that the network lacks.

Fixed axes of very many coordinates (tables of features, planes of pixels) are laid out in *chunks*: one
edge carries the values of ``chunk`` neighbours and the mean of their codes. Nothing here depends on
values, so it is done once a spec, in numpy. After Lim et al., *Graph Metanetworks for Processing Diverse
Neural Architectures*, 2024, section 3 and appendix B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from ...symmetry.layout import Block
from ...symmetry.spec import Spec
from ..graph.derive import EdgeSet, End, Graph, graph_of, widths_of
from . import describe
from .describe import CODES, EDGE_KINDS, NODE_ROLES, codes, one_hot
from .topology import Topology


class Sizes(NamedTuple):
    """When a fixed axis is too large for an edge or a node a coordinate.

    Attributes:
        chunk: how many values an edge carries where blocks are laid out in chunks.
        positions: a block with more fixed positions at a pair of nodes than this is laid out in chunks.
        ends: a fixed axis of more coordinates than this is not made of nodes; it counts as positions.
    """

    chunk: int = 16
    positions: int = 128
    ends: int = 4096


DEFAULT_SIZES = Sizes()


class Piece(NamedTuple):
    """Where the weights of one block lie among the values.

    Attributes:
        name, shape: of the block.
        order: its axes, those of nodes before those of positions.
        places: how many index tuples of nodes it has.
        positions: how many fixed positions at each.
        chunked: whether it lies in ``chunks`` rather than in ``values``.
        start, stop: its rows there.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    places: int
    positions: int
    chunked: bool
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The parameter graph of a spec, but for the values.

    Attributes:
        spec: the annotation.
        sizes: how large fixed axes were treated.
        topology: nodes and edges, in numpy.
        pieces: where each block lies, in the order of the spec's layout.
        scalars: how many edges carry at most one value; the edges of chunks come after them.
    """

    spec: Spec
    sizes: Sizes
    topology: Topology
    pieces: tuple[Piece, ...]
    scalars: int

    @property
    def nodes(self) -> int:
        return len(self.topology.node_type)

    @property
    def edges(self) -> int:
        return len(self.topology.senders)


class _Edges(NamedTuple):
    senders: np.ndarray
    receivers: np.ndarray
    type: np.ndarray
    rows: np.ndarray
    spread: float
    has_values: bool


class _Nodes:
    """Nodes as they are added: index, features of the type, share of the pool."""

    def __init__(self) -> None:
        self.count = 0
        self.rows: list[np.ndarray] = []
        self.types: list[np.ndarray] = []
        self.shares: list[np.ndarray] = []
        self.sets = 0

    def add(self, number: int, rows: np.ndarray, pooled: bool) -> int:
        """``number`` nodes of the types ``rows``, in turn, the last axis being the type; the first's index."""
        start, first = self.count, sum(map(len, self.rows))
        self.rows.append(rows)
        self.types.append(first + np.arange(number) % len(rows))
        self.shares.append(np.full(len(rows), 1.0 / number if pooled else 0.0))
        self.sets += pooled
        self.count += number
        return start


def plan_of(
    spec: Spec, sizes: Sizes = DEFAULT_SIZES, scales: Mapping[str, float] | None = None
) -> Plan:
    """The parameter graph of all networks that ``spec`` annotates.

    Args:
        spec: the annotation.
        sizes: see :class:`Sizes`.
        scales: ``{block: typical size of its weights}``, by default ``1 / sqrt(fan-in)`` for kernels and
            1 for all else.

    Raises:
        ValueError: ``scales`` names a block that the spec does not have.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.zeros((2, 8)), "b": jnp.zeros(8), "v": jnp.zeros((8, 3))}
        >>> plan = plan_of(symmetry.parse(params, {"w": "_ h", "b": "h", "v": "h _"}))
        >>> plan.edges, plan.nodes  # a weight an edge; 2 + 8 + 3 neurons, the bias, the network
        (48, 15)
    """
    unknown = set(scales or ()) - {block.name for block in spec.layout}
    if unknown:
        raise ValueError(
            f"`scales` names blocks that the spec does not have: {sorted(unknown)[:5]}"
        )
    return _plan_of(spec, sizes, tuple(sorted((scales or {}).items())))


@lru_cache(maxsize=256)
def _plan_of(spec: Spec, sizes: Sizes, scales: tuple[tuple[str, float], ...]) -> Plan:
    if sizes.chunk < 1:
        raise ValueError(f"`chunk` must be positive; got {sizes.chunk}")
    graph, nodes = graph_of(spec), _Nodes()
    widths = widths_of(graph, spec)
    shapes = [tuple(widths[label] for label in n.labels) for n in graph.nodes]
    kept = {edge.name: _kept(graph, edge, sizes) for edge in graph.edges}
    used = {end.nodes for ends in kept.values() for end in ends}
    starts = _add_node_sets(graph, shapes, used, nodes)
    depth = max((n.depth for n in graph.nodes), default=0) + 1
    ranks = _ranks(graph, kept, spec)
    layout = {block.name: block for block in spec.layout}
    found: dict[str, tuple[list[_Edges], Piece]] = {}
    for edge in graph.edges:
        lay = _Lay(graph, shapes, starts, nodes, depth, sizes)
        piece, laid = lay.block(edge, kept[edge.name], layout[edge.name], ranks[edge.name])
        scale = dict(scales).get(edge.name)
        laid = [e if scale is None or not e.has_values else e._replace(spread=scale) for e in laid]
        found[edge.name] = laid, piece
    members = _members(graph, shapes, starts, depth, used)
    pieces, ordered, at = [], [], {False: 0, True: 0}
    for chunked in (False, True):
        for block in spec.layout:
            laid, piece = found[block.name]
            if piece.chunked == chunked:
                count = len(laid[0].senders)
                pieces.append(piece._replace(start=at[chunked], stop=at[chunked] + count))
                at[chunked] += count
                ordered += laid[:1]
        if not chunked:
            ordered += [e for laid, _ in found.values() for e in laid[1:]] + members
    scalars = sum(len(e.senders) for e in ordered) - at[True]
    return Plan(spec, sizes, _topology(ordered, nodes), tuple(pieces), scalars)


def _kept(graph: Graph, edge: EdgeSet, sizes: Sizes) -> tuple[End, ...]:
    """The ends of an edge set, without fixed ends that are too large for nodes of their own."""
    ends = edge.ends

    def too_large(end: End) -> bool:
        fixed = graph.nodes[end.nodes].fixed
        return fixed is not None and (fixed > sizes.ends or edge.features > sizes.positions)

    return tuple(end for end in ends if not too_large(end))


def _add_node_sets(
    graph: Graph, shapes: list[tuple[int, ...]], used: set[int], nodes: _Nodes
) -> dict[int, int]:
    """Nodes for every coordinate of every node set, but fixed ends that no edge has; where each begins."""
    depth = max((n.depth for n in graph.nodes), default=0) + 1
    starts = {}
    for n, node in enumerate(graph.nodes):
        if node.fixed is not None and n not in used:
            continue
        order = node.fixed is None and node.name.startswith("_")
        role = "order" if order else "hidden"
        if node.fixed is not None:
            role = "input" if node.name.startswith("_inputs") else "output"
        role = "network" if n == 0 else role
        own = shapes[n][-1] if order or node.fixed is not None else 1
        place = codes(np.arange(own), own) if own > 1 or order else np.zeros((1, CODES), np.float32)
        rows = np.concatenate([_same(one_hot(role, NODE_ROLES), own), place], -1)
        rows = np.concatenate([rows, _same(codes(np.array(node.depth), depth), own)], -1)
        starts[n] = nodes.add(prod(shapes[n]), rows, pooled=n > 0)
    return starts


def _ranks(graph: Graph, kept: Mapping[str, tuple[End, ...]], spec: Spec) -> dict[str, np.ndarray]:
    """Codes that tell parallel blocks apart: the place of their folder, and their place in the folder."""
    path = {block.name: block.path.rpartition("/")[0] for block in spec.layout}
    found: dict[tuple, dict[str, list[str]]] = {}
    for edge in graph.edges:
        joins = tuple((end.nodes, end.role) for end in kept[edge.name])
        found.setdefault(joins, {}).setdefault(path[edge.name], []).append(edge.name)
    out = {}
    for folders in found.values():
        for k, names in enumerate(folders.values()):
            for j, name in enumerate(names):
                place = codes(np.array(k), len(folders)), codes(np.array(j), len(names))
                out[name] = np.concatenate(place)
    return out


class _Lay(NamedTuple):
    """Lays out blocks, one after the other."""

    graph: Graph
    shapes: list[tuple[int, ...]]
    starts: dict[int, int]
    nodes: _Nodes
    depth: int
    sizes: Sizes

    def block(
        self, edge: EdgeSet, ends: tuple[End, ...], block: Block, ranks: np.ndarray
    ) -> tuple[Piece, list[_Edges]]:
        """The edges that carry a block's values, then any that only say where they belong."""
        # positions among the edge set's array axes that are nodes, then all others as positions
        own = tuple(sorted({a for end in ends for a in end.at}))
        front = tuple(edge.axes[a] for a in own)
        rest = tuple(k for k in range(len(block.shape)) if k not in front)
        widths = tuple(block.shape[k] for k in front)
        places, positions = prod(widths), prod(block.shape[k] for k in rest)
        chunked = positions > self.sizes.positions
        group = self.sizes.chunk if chunked else 1
        grid = np.indices(widths, np.int32).reshape(len(widths), places)
        at = [self._ids(end, own, grid) for end in ends]
        depth = codes(np.array(self.graph.nodes[ends[-1].nodes].depth if ends else 0), self.depth)
        extra: list[_Edges] = []
        if len(ends) == 2:
            kind = "kernel"
            source = 1 if ends[0].role == "target" else 0
            senders, receivers = at[source], at[1 - source]
        elif len(ends) < 2:
            kind = "single"
            receivers = at[0] if ends else np.full(places, self.starts[0])
            senders = np.full(places, self._node("block", 1, depth))
        else:
            kind = "hyper"
            receivers = self._node("hyper", places, depth) + np.arange(places)
            senders = np.full(places, self._node("block", 1, depth))
            for k, sources in enumerate(at):
                row = edge_row("incidence", depth=depth, ranks=ranks, place=(k, len(at)))
                extra.append(_edges(sources, receivers, row))
        fixed = [self.graph.nodes[end.nodes].fixed is not None for end in ends]
        flags = np.array([chunked, False, any(fixed[:1]), any(fixed[1:])], np.float32)
        row = edge_row(kind, flags=flags, depth=depth, ranks=ranks)
        told = describe.position_features([block.shape[k] for k in rest], group)
        rows = np.concatenate([_same(row, len(told)), told], -1)
        each = np.tile(np.arange(len(told)), places)
        senders, receivers = np.repeat(senders, len(told)), np.repeat(receivers, len(told))
        loops = senders == receivers
        if kind == "kernel" and loops.any():  # h h: the diagonal is told from the rest
            on = rows.copy()
            on[:, len(EDGE_KINDS) + 1] = 1.0
            each, rows = each + len(told) * loops, np.concatenate([rows, on])
        fan_in = max(places * positions, 1) / max(len(np.unique(receivers)), 1)
        spread = fan_in**-0.5 if kind == "kernel" else 1.0
        piece = Piece(block.name, block.shape, front + rest, places, positions, chunked, 0, 0)
        return piece, [_Edges(senders, receivers, each, rows, spread, True), *extra]

    def _ids(self, end: End, own: tuple[int, ...], grid: np.ndarray) -> np.ndarray:
        if not end.at:
            return np.full(grid.shape[1], self.starts[end.nodes])
        index = tuple(grid[own.index(a)] for a in end.at)
        return self.starts[end.nodes] + np.asarray(
            np.ravel_multi_index(index, self.shapes[end.nodes])
        )

    def _node(self, role: str, number: int, depth: np.ndarray) -> int:
        row = np.concatenate([one_hot(role, NODE_ROLES), np.zeros(CODES, np.float32), depth])
        return self.nodes.add(number, row[None], pooled=False)


def edge_row(
    kind: str,
    *,
    depth: np.ndarray,
    ranks: np.ndarray | None = None,
    flags: np.ndarray | None = None,
    place: tuple[int, int] | None = None,
) -> np.ndarray:
    """Features of a type of edges, all but the codes of its positions."""
    ranks = np.zeros(2 * CODES, np.float32) if ranks is None else ranks
    flags = np.zeros(4, np.float32) if flags is None else flags
    own = np.zeros(CODES, np.float32) if place is None else codes(np.array(place[0]), place[1])
    return np.concatenate([one_hot(kind, EDGE_KINDS), flags, depth, ranks, own])


def _members(
    graph: Graph, shapes: list[tuple[int, ...]], starts: dict[int, int], depth: int, used: set[int]
) -> list[_Edges]:
    """An edge from every nested node to each node that it is directly nested in."""
    out = []
    for n, node in enumerate(graph.nodes):
        for k, end in enumerate(node.above if n in starts else ()):
            if end.nodes == 0:
                continue
            grid = np.indices(shapes[n], np.int32).reshape(len(shapes[n]), -1)
            index = tuple(grid[a] for a in end.at)
            above = starts[end.nodes] + np.asarray(np.ravel_multi_index(index, shapes[end.nodes]))
            own = starts[n] + np.arange(len(above))
            told = codes(np.array(node.depth), depth)
            row = edge_row("member", depth=told, place=(k, len(node.above)))
            out.append(_edges(own, above, row))
    return out


def _edges(senders: np.ndarray, receivers: np.ndarray, row: np.ndarray) -> _Edges:
    row = np.concatenate([row, np.zeros(describe.POSITION_AXES * CODES, np.float32)])
    return _Edges(senders, receivers, np.zeros(len(senders), int), row[None], 1.0, False)


def _same(row: np.ndarray, number: int) -> np.ndarray:
    return np.broadcast_to(row, (number, len(row)))


def _topology(groups: list[_Edges], nodes: _Nodes) -> Topology:
    """All groups one after the other. Every block counts as one at each of its nodes, however many
    edges it has there, and every block, and every node set, as one in the pool."""
    rows, shares, into, out_of, types = [], [], np.zeros(nodes.count), np.zeros(nodes.count), []
    pools = sum(g.has_values for g in groups)
    start = 0
    for g in groups:
        arrive = len(g.receivers) / max(len(np.unique(g.receivers)), 1)
        leave = len(g.senders) / max(len(np.unique(g.senders)), 1)
        pool = 1 / (len(g.senders) * pools) if g.has_values and len(g.senders) else 0.0
        into[g.receivers] += 1
        out_of[g.senders] += 1
        types.append(start + g.type)
        start += len(g.rows)
        rows.append(g.rows)
        shares += [
            (1 / arrive if arrive else 0.0, 1 / leave if leave else 0.0, pool, g.spread)
        ] * len(g.rows)
    table = np.asarray(shares, np.float32).reshape(-1, 4)
    node_type = np.concatenate(nodes.types)
    first = np.unique(node_type, return_index=True)[1]  # a node of each type
    node_shares = np.stack(
        [
            np.maximum(into[first], 1) ** -0.5,
            np.maximum(out_of[first], 1) ** -0.5,
            np.concatenate(nodes.shares) / max(nodes.sets, 1),
        ],
        -1,
    )
    return Topology(
        senders=np.concatenate([g.senders for g in groups]).astype(np.int32),
        receivers=np.concatenate([g.receivers for g in groups]).astype(np.int32),
        edge_type=np.concatenate(types).astype(np.int32),
        node_type=node_type.astype(np.int32),
        node_graph=np.zeros(nodes.count, np.int32),
        edge_rows=np.concatenate(rows).astype(np.float32),
        edge_shares=table,
        node_rows=np.concatenate(nodes.rows).astype(np.float32),
        node_shares=node_shares.astype(np.float32),
        graphs=1,
    )
