"""Graphs of networks of any shapes side by side, in arrays of a few fixed sizes.

One program serves all batches of the same sizes, whatever networks are in them. What only fills up the
arrays is a node and edges of its own that touch no network (see :class:`.Topology`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..._compat import is_tracer
from .parameter_graph import ParameterGraph
from .plan import Plan
from .topology import Topology


class Budget(NamedTuple):
    """How large the arrays of a batch are.

    Attributes:
        nodes, edges, chunks: rows of nodes, of edges of single weights, of edges of chunks.
        edge_types, node_types: rows of the tables.
        graphs: networks.
    """

    nodes: int
    edges: int
    chunks: int
    edge_types: int
    node_types: int
    graphs: int


def round_up(number: int) -> int:
    """The next of 0, 1, 2, 3, 4, 6, 8, 12, 16, ...: at most half more, and few different ones.

    Example:
        >>> [round_up(n) for n in (0, 1, 5, 9, 13, 1000, 1025)]
        [0, 1, 6, 12, 16, 1024, 1536]
    """
    if number <= 2:
        return number
    power = 1 << (number - 1).bit_length()
    return power * 3 // 4 if number <= power * 3 // 4 else power


def budget_of(graphs: Sequence[ParameterGraph]) -> Budget:
    """The smallest sizes into which ``graphs`` go, each rounded up by :func:`round_up`."""
    return Budget._make(map(round_up, _needs(graphs)))._replace(graphs=len(graphs))


def batch_graphs(graphs: Sequence[ParameterGraph], budget: Budget | None = None) -> ParameterGraph:
    """One graph of several networks, of one architecture or of many.

    Values may be traced, so that one may differentiate through it; nodes and edges may not.

    Args:
        graphs: of one network each, as :func:`.parameter_graph` gives them.
        budget: sizes of the arrays; by default :func:`budget_of`. Room for more networks than there
            are stays empty: what comes out for those is no number of any use.

    Raises:
        ValueError: no graphs, different channels or chunks, or a budget that is too small, with what
            would be needed.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.graph_batch.parameter_graph import parameter_graph
        >>> graphs = []
        >>> for width in (5, 8):
        ...     params = {"w": jnp.ones((2, width)), "b": jnp.zeros(width)}
        ...     spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        ...     graphs.append(parameter_graph(spec, params))
        >>> batch = batch_graphs(graphs)
        >>> batch.values.shape, batch.topology.graphs, int(batch.topology.edge_mask.sum())
        ((48, 1), 2, 39)
    """
    if not graphs:
        raise ValueError("`graphs` is empty")
    shapes = {(g.values.shape[1:], g.chunks.shape[1:]) for g in graphs}
    if len(shapes) > 1 or any(g.values.ndim != 2 for g in graphs):
        raise ValueError(
            f"graphs of one batch need the same channels and chunks, of one network each; got {shapes}"
        )
    if any(is_tracer(g.topology.senders) for g in graphs):
        raise ValueError(
            "nodes and edges of a batch cannot be traced: make the graphs inside of the traced function, "
            "or pass the whole batch to it"
        )
    room = budget_of(graphs) if budget is None else budget
    needs = _needs(graphs)
    if any(n > r for n, r in zip(needs, room, strict=True)):
        raise ValueError(f"the graphs do not fit: they need {needs}, the budget is {room}")
    values = _filled([g.values for g in graphs], room.edges)
    chunks = _filled([g.chunks for g in graphs], room.chunks)
    return ParameterGraph(values, chunks, _joined(graphs, room))


def split_batch(batch: ParameterGraph, plans: Sequence[Plan]) -> list[ParameterGraph]:
    """The graphs that :func:`batch_graphs` packed, with the values that the batch has now.

    Args:
        batch: the batch.
        plans: of the specs of its networks, in order; see :func:`.plan_of`.
    """
    out, at, at_chunk = [], 0, 0
    for plan in plans:
        chunks = plan.edges - plan.scalars
        values = batch.values[at : at + plan.scalars]
        out.append(
            ParameterGraph(values, batch.chunks[at_chunk : at_chunk + chunks], plan.topology)
        )
        at, at_chunk = at + plan.scalars, at_chunk + chunks
    return out


def _needs(graphs: Sequence[ParameterGraph]) -> Budget:
    tables = {id(g.topology.edge_rows): g.topology for g in graphs}.values()
    return Budget(
        sum(len(g.topology.node_type) for g in graphs) + 1,
        sum(len(g.values) for g in graphs),
        sum(len(g.chunks) for g in graphs),
        sum(len(t.edge_rows) for t in tables) + 1,
        sum(len(t.node_rows) for t in tables) + 1,
        len(graphs),
    )


def _joined(graphs: Sequence[ParameterGraph], room: Budget) -> Topology:
    tables: dict[int, tuple[Topology, int, int]] = {}
    edge_types = node_types = 0
    for g in graphs:
        t = g.topology
        if id(t.edge_rows) not in tables:
            tables[id(t.edge_rows)] = t, edge_types, node_types
            edge_types += len(t.edge_rows)
            node_types += len(t.node_rows)
    node = 0
    single: list[list[np.ndarray]] = [[], [], []]
    chunked: list[list[np.ndarray]] = [[], [], []]
    node_type, node_graph = [], []
    for n, g in enumerate(graphs):
        t, (_, edge_start, node_start) = g.topology, tables[id(g.topology.edge_rows)]
        cut = len(g.values)
        columns = t.senders + node, t.receivers + node, t.edge_type + edge_start
        for column, a, b in zip(columns, single, chunked, strict=True):
            a.append(np.asarray(column[:cut], np.int32))
            b.append(np.asarray(column[cut:], np.int32))
        node_type.append(np.asarray(t.node_type + node_start, np.int32))
        node_graph.append(np.full(len(t.node_type), n, np.int32))
        node += len(t.node_type)
    fill = room.nodes - 1, room.nodes - 1, room.edge_types - 1
    edges = [
        np.concatenate([_filled(a, room.edges, value), _filled(b, room.chunks, value)])
        for a, b, value in zip(single, chunked, fill, strict=True)
    ]
    found = [t for t, _, _ in tables.values()]
    return Topology(
        *edges,
        node_type=_filled(node_type, room.nodes, room.node_types - 1),
        node_graph=_filled(node_graph, room.nodes, room.graphs),
        edge_rows=_filled([t.edge_rows for t in found], room.edge_types),
        edge_shares=_filled([t.edge_shares for t in found], room.edge_types),
        node_rows=_filled([t.node_rows for t in found], room.node_types),
        node_shares=_filled([t.node_shares for t in found], room.node_types),
        graphs=room.graphs,
    )


def _filled(parts: Sequence[Any], rows: int, value: int = 0) -> Any:
    """All parts one after the other, then ``value`` up to ``rows`` rows; numpy if all of them are."""
    missing = rows - sum(len(x) for x in parts)
    fill = np.full((missing, *parts[0].shape[1:]), value, parts[0].dtype)
    on_host = all(isinstance(x, np.ndarray) for x in parts)
    return (np if on_host else jnp).concatenate([*parts, fill])
