"""Which edge sets look alike, so as to share what is drawn for them, and which graphs a network can read."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import Literal

from ...symmetry.spec import Spec
from .derive import EdgeSet, Graph, graph_of

Positions = Literal["learned", "depth"]
"""How sets are told apart: each by what is learned for it, or all by how deep they are."""


def flags_of(edge: EdgeSet) -> list[tuple[int, int]]:
    """Pairs of axes with equal labels: where they agree, edges are told that they are on a diagonal."""
    labels = edge.indices.labels
    return [(i, j) for i, j in combinations(range(len(labels)), 2) if labels[i] == labels[j]]


def look(edge: EdgeSet, positions: Positions) -> str:
    """What edge sets must agree in to share the shapes (or, by depth, the values) of their maps."""
    words = f"{' '.join(edge.roles)}: {edge.indices.kind or '1'}: {edge.features}"
    return words if positions == "learned" else f"{words}: {edge.part}"


def members_of(graph: Graph, positions: Positions) -> dict[str, list[int]]:
    """The edge sets of each look."""
    found: dict[str, list[int]] = defaultdict(list)
    for b, edge in enumerate(graph.edges):
        found[look(edge, positions)].append(b)
    return dict(found)


def matched(own: Graph, spec: Spec, positions: Positions) -> Graph:
    """The graph of ``spec``, if what was drawn for the graph ``own`` can read it.

    Raises:
        ValueError: naming the block or the end for which there are no parameters.
    """
    graph = graph_of(spec)
    if graph == own:
        return graph
    if positions == "learned":
        for a, b in zip(own.edges, graph.edges, strict=False):
            if a != b:
                raise ValueError(
                    f"block {b.name!r} ({b.indices.labels}, {b.features} features) stands where this "
                    f"network has {a.name!r} ({a.indices.labels}, {a.features} features); only widths "
                    'of units may differ, unless it is drawn with `positions="depth"`'
                )
        raise ValueError(
            f"the spec has {len(graph.edges)} blocks and {len(graph.nodes)} node sets, this network "
            f"{len(own.edges)} and {len(own.nodes)}; only widths of units may differ, unless it is "
            'drawn with `positions="depth"`'
        )
    known = members_of(own, positions)
    for edge in graph.edges:
        if look(edge, positions) not in known:
            raise ValueError(
                f"block {edge.name!r} looks like none that this network was drawn for "
                f"({look(edge, positions)}); there are {sorted(known)[:10]}"
            )
    ends = {node.name for node in own.nodes if node.fixed is not None}
    for node in graph.nodes:
        if node.fixed is not None and node.name not in ends:
            raise ValueError(
                f"the spec has the fixed end {node.name!r}, this network {sorted(ends)}: fixed "
                "coordinates have learned identities, so their number must be the same"
            )
    return graph
