"""The edges of a parameter graph: those of each block, and those from what is nested to what it is in."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from ...symmetry.layout import Block
from ...symmetry.spec import Spec
from ..graph.derive import EdgeSet, End, Graph
from . import describe
from .describe import CODES, EDGE_KINDS, NODE_ROLES, codes, one_hot
from .nodes import Nodes, repeat_row
from .plan import Piece, Sizes


class Edges(NamedTuple):
    senders: np.ndarray
    receivers: np.ndarray
    type: np.ndarray
    rows: np.ndarray
    spread: float
    has_values: bool


def ranks_of(
    graph: Graph, kept: Mapping[str, tuple[End, ...]], spec: Spec
) -> dict[str, np.ndarray]:
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


class BlockEdges(NamedTuple):
    """Lays out blocks, one after the other."""

    graph: Graph
    shapes: list[tuple[int, ...]]
    starts: dict[int, int]
    nodes: Nodes
    depth: int
    sizes: Sizes

    def block(
        self, edge: EdgeSet, ends: tuple[End, ...], block: Block, ranks: np.ndarray
    ) -> tuple[Piece, list[Edges]]:
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
        extra: list[Edges] = []
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
                extra.append(bare_edges(sources, receivers, row))
        is_fixed = {end.role: self.graph.nodes[end.nodes].fixed is not None for end in ends}
        begins, ends_there = is_fixed.get("source", False), is_fixed.get("target", False)
        flags = np.array([chunked, False, begins, ends_there], np.float32)
        row = edge_row(kind, flags=flags, depth=depth, ranks=ranks)
        told = describe.position_features([block.shape[k] for k in rest], group)
        rows = np.concatenate([repeat_row(row, len(told)), told], -1)
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
        return piece, [Edges(senders, receivers, each, rows, spread, True), *extra]

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


def member_edges(
    graph: Graph, shapes: list[tuple[int, ...]], starts: dict[int, int], depth: int, used: set[int]
) -> list[Edges]:
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
            out.append(bare_edges(own, above, row))
    return out


def bare_edges(senders: np.ndarray, receivers: np.ndarray, row: np.ndarray) -> Edges:
    row = np.concatenate([row, np.zeros(describe.POSITION_AXES * CODES, np.float32)])
    return Edges(senders, receivers, np.zeros(len(senders), int), row[None], 1.0, False)
