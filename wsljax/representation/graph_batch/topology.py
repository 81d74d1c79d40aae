"""Nodes and edges of one parameter graph, or of many side by side, as arrays of fixed sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

TO_RECEIVER, TO_SENDER, TO_POOL, SPREAD = 0, 1, 2, 3
"""Columns of ``edge_shares``; the first three of ``node_shares`` are used alike."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "senders",
        "receivers",
        "edge_type",
        "node_type",
        "node_graph",
        "edge_rows",
        "edge_shares",
        "node_rows",
        "node_shares",
    ],
    meta_fields=["graphs"],
)
@dataclass(frozen=True)
class Topology:
    """A pytree of arrays, numpy where one spec gave them.

    Edges and nodes that only fill up the arrays hang together: their edges run from the last node to
    itself, and that node belongs to graph number ``graphs``, which no result has.

    Attributes:
        senders, receivers: node of each end of each edge, ``(E,)``.
        edge_type: the row of each edge in the tables of edges, ``(E,)``.
        node_type: the row of each node in the tables of nodes, ``(N,)``.
        node_graph: which graph each node is in, ``(N,)``.
        edge_rows: what edges of each type say of themselves, ``(R, EDGE_FEATURES)``.
        edge_shares: how much an edge of each type counts at its receiver, at its sender and in the pool
            of its graph, and the typical size of its value, ``(R, 4)``.
        node_rows: what nodes of each type say of themselves, ``(S, NODE_FEATURES)``.
        node_shares: factors of what nodes of each type receive and what their senders tell, and how
            much they count in the pool, ``(S, 3)``.
        graphs: how many graphs there are.
    """

    senders: Any
    receivers: Any
    edge_type: Any
    node_type: Any
    node_graph: Any
    edge_rows: Any
    edge_shares: Any
    node_rows: Any
    node_shares: Any
    graphs: int

    @property
    def edge_graph(self) -> Any:
        """Which graph each edge is in, ``(E,)``."""
        return self.node_graph[self.senders]

    @property
    def node_mask(self) -> Any:
        """Whether a node is one of a network, ``(N,)``."""
        return self.node_graph < self.graphs

    @property
    def edge_mask(self) -> Any:
        """Whether an edge is one of a network, ``(E,)``."""
        return self.edge_graph < self.graphs
