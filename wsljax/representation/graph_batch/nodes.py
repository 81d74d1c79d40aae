"""The nodes of a parameter graph: every coordinate of every node set, and what says what they are."""

from __future__ import annotations

from math import prod

import numpy as np

from ..graph.derive import Graph
from .describe import CODES, NODE_ROLES, codes, one_hot


class Nodes:
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


def add_node_sets(
    graph: Graph, shapes: list[tuple[int, ...]], used: set[int], nodes: Nodes
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
        rows = np.concatenate([repeat_row(one_hot(role, NODE_ROLES), own), place], -1)
        rows = np.concatenate([rows, repeat_row(codes(np.array(node.depth), depth), own)], -1)
        starts[n] = nodes.add(prod(shapes[n]), rows, pooled=n > 0)
    return starts


def repeat_row(row: np.ndarray, number: int) -> np.ndarray:
    return np.broadcast_to(row, (number, len(row)))
