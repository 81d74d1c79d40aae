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
Neural Architectures*, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from ...symmetry.spec import Spec
from ..blocks.incoming import check_scales
from ..graph.derive import EdgeSet, End, Graph, graph_of, widths_of
from .edges import BlockEdges, Edges, member_edges, ranks_of
from .nodes import Nodes, add_node_sets
from .plan import DEFAULT_SIZES, Piece, Plan, Sizes
from .topology import Topology


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
    check_scales(scales, (block.name for block in spec.layout))
    return _plan_of(spec, sizes, tuple(sorted((scales or {}).items())))


@lru_cache(maxsize=256)
def _plan_of(spec: Spec, sizes: Sizes, scales: tuple[tuple[str, float], ...]) -> Plan:
    if sizes.chunk < 1:
        raise ValueError(f"`chunk` must be positive; got {sizes.chunk}")
    graph, nodes = graph_of(spec), Nodes()
    widths = widths_of(graph, spec)
    shapes = [tuple(widths[label] for label in n.labels) for n in graph.nodes]
    kept = {edge.name: _kept(graph, edge, sizes) for edge in graph.edges}
    used = {end.nodes for ends in kept.values() for end in ends}
    starts = add_node_sets(graph, shapes, used, nodes)
    depth = max((n.depth for n in graph.nodes), default=0) + 1
    ranks = ranks_of(graph, kept, spec)
    layout = {block.name: block for block in spec.layout}
    found: dict[str, tuple[list[Edges], Piece]] = {}
    for edge in graph.edges:
        lay = BlockEdges(graph, shapes, starts, nodes, depth, sizes)
        piece, laid = lay.block(edge, kept[edge.name], layout[edge.name], ranks[edge.name])
        scale = dict(scales).get(edge.name)
        laid = [e if scale is None or not e.has_values else e._replace(spread=scale) for e in laid]
        found[edge.name] = laid, piece
    members = member_edges(graph, shapes, starts, depth, used)
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


def _topology(groups: list[Edges], nodes: Nodes) -> Topology:
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
