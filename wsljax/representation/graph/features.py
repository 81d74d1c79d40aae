"""Features on a graph, and the two ways between nodes and edges: spreading out and collecting.

Node sets and edge sets that look alike are stacked (see :class:`~..blocks.features.Features`), so
programs grow with the number of different shapes, and only by slices with the number of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp

from ..blocks.features import Features, Groups, group
from ..blocks.indices import Indices, Structure
from ..blocks.stacks import split
from .derive import EdgeSet, End, Graph


@partial(jax.tree_util.register_dataclass, data_fields=["nodes", "edges"], meta_fields=["graph"])
@dataclass(frozen=True)
class GraphFeatures:
    """Channels at every node and every edge. A pytree.

    Attributes:
        nodes: of every node set, ``(*axes of the set, C)``; ``nodes["h"]``.
        edges: of every block, ``(*indices, C)``; ``edges["w"]``.
        graph: what they are of.
    """

    nodes: Features
    edges: Features
    graph: Graph

    def put(self, nodes: Sequence[jax.Array], edges: Sequence[jax.Array]) -> GraphFeatures:
        """The same stacks of nodes and of edges with other numbers."""
        return GraphFeatures(
            Features(tuple(nodes), self.nodes.structure, self.nodes.groups),
            Features(tuple(edges), self.edges.structure, self.edges.groups),
            self.graph,
        )


@lru_cache(maxsize=256)
def node_structure(graph: Graph) -> Structure:
    """The indices of every node set, in the order of the graph."""
    return tuple(
        Indices(
            node.name,
            node.labels,
            tuple(end.at[:-1] for end in _own_ends(graph, n)),
        )
        for n, node in enumerate(graph.nodes)
    )


def _own_ends(graph: Graph, n: int) -> list[End]:
    """For each axis of a node set, where the axes of the set it belongs to are."""
    node = graph.nodes[n]
    places = {m.name: m for m in graph.nodes}
    out = []
    for k, label in enumerate(node.labels):
        above = places[label].labels[:-1]
        taken: dict[str, int] = {}
        at = []
        for o in above:
            seats = [i for i, name in enumerate(node.labels) if name == o]
            at.append(seats[min(taken.get(o, 0), len(seats) - 1)])
            taken[o] = taken.get(o, 0) + 1
        out.append(End(n, (*at, k)))
    return out


def node_groups(graph: Graph, widths: Mapping[str, int]) -> Groups:
    """Which node sets are stacked: those of one shape that are nested in the same way."""
    apart = [(*(end.at for end in node.above), node.fixed) for node in graph.nodes]
    return group(node_structure(graph), widths, apart)


def edge_groups(graph: Graph, widths: Mapping[str, int]) -> Groups:
    """Which edge sets are stacked: those of one shape whose ends have the same roles."""
    return group(graph.structure, widths, [edge.roles for edge in graph.edges])


class Sets:
    """Arrays over all node sets, from which any of them are taken."""

    def __init__(self, arrays: Sequence[jax.Array], groups: Groups):
        self.arrays, self.place = arrays, _places(groups)
        self._members: dict[int, list[jax.Array]] = {}

    def take(self, sets: Sequence[int]) -> jax.Array:
        """The given sets, ``(members, *axes, C)``; a single member where all are the same set."""
        if len(set(sets)) == 1:
            g, n = self.place[sets[0]]
            return self._of(g)[n][None]
        run = _run(sets, self.place)
        if run is not None:
            g, start, stop = run
            return jax.lax.slice_in_dim(self.arrays[g], start, stop)
        return jnp.stack([self._of(g)[n] for g, n in (self.place[s] for s in sets)])

    def _of(self, g: int) -> list[jax.Array]:
        if g not in self._members:
            a = self.arrays[g]
            self._members[g] = [piece[0] for piece in split(a, range(1, a.shape[0]), 0)]
        return self._members[g]


class Collected:
    """Sums over everything that is handed to each node set."""

    def __init__(self, groups: Groups):
        self.groups, self.place = groups, _places(groups)
        self.whole: dict[int, jax.Array] = {}
        self.single: dict[tuple[int, int], jax.Array] = {}

    def add(self, sets: Sequence[int], x: jax.Array) -> None:
        """``x`` has one member for each of the sets (which may repeat)."""
        if len(set(sets)) == 1:
            self._add_one(self.place[sets[0]], jnp.sum(x, axis=0))
            return
        run = _run(sets, self.place)
        if run is None:
            for s, piece in zip(sets, split(x, range(1, x.shape[0]), 0), strict=True):
                self._add_one(self.place[s], piece[0])
            return
        g, start, stop = run
        pads = [(start, len(self.groups[g]) - stop, 0), *((0, 0, 0) for _ in x.shape[1:])]
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), pads)
        self.whole[g] = self.whole[g] + x if g in self.whole else x

    def _add_one(self, place: tuple[int, int], x: jax.Array) -> None:
        self.single[place] = self.single[place] + x if place in self.single else x

    def sums(self, like: Sequence[jax.Array], channels: int) -> list[jax.Array]:
        """One array for each stack of node sets, zero where nothing has come."""
        out = []
        for g, a in enumerate(like):
            total = self.whole.get(g)
            found = {n: x for (h, n), x in self.single.items() if h == g}
            dtype = next(iter([*found.values(), *self.whole.values(), a])).dtype
            zero = jnp.zeros((*a.shape[1:-1], channels), dtype)
            if found:
                single = jnp.stack([found.get(n, zero) for n in range(a.shape[0])])
                total = single if total is None else total + single
            out.append(jnp.zeros((a.shape[0], *zero.shape), dtype) if total is None else total)
        return out


def spread(x: jax.Array, at: Sequence[int], rank: int) -> jax.Array:
    """Arrays of nodes ``(members, *axes, C)`` as arrays over edges of ``rank`` axes, to be broadcast.

    Example:
        >>> spread(jnp.zeros((1, 3, 8)), (1,), 2).shape
        (1, 1, 3, 8)
    """
    order = sorted(range(len(at)), key=lambda i: at[i])
    x = x.transpose(0, *(1 + i for i in order), x.ndim - 1)
    shape = [1] * rank
    for size, i in zip(x.shape[1:-1], order, strict=True):
        shape[at[i]] = size
    return x.reshape(x.shape[0], *shape, x.shape[-1])


def aside(at: Sequence[int], rank: int) -> tuple[int, ...]:
    """The axes of stacked edge arrays over which messages to an end are aggregated."""
    return tuple(1 + k for k in range(rank) if k not in at)


def in_order(x: jax.Array, at: Sequence[int]) -> jax.Array:
    """Aggregated messages ``(members, *axes of the end as on the edges, C)`` in the end's own order."""
    kept = sorted(at)
    return x.transpose(0, *(1 + kept.index(k) for k in at), x.ndim - 1)


def ends_of(graph: Graph, members: Sequence[int]) -> list[tuple[End, list[int]]]:
    """The ends of stacked edge sets, each with the node set of every member."""
    edges: list[EdgeSet] = [graph.edges[b] for b in members]
    return [(end, [edge.ends[n].nodes for edge in edges]) for n, end in enumerate(edges[0].ends)]


def incidences(graph: Graph) -> list[int]:
    """How many ends lie on each node set (at least 1)."""
    counts = [0] * len(graph.nodes)
    for edge in graph.edges:
        for end in edge.ends:
            counts[end.nodes] += 1
    return [max(count, 1) for count in counts]


def _places(groups: Groups) -> dict[int, tuple[int, int]]:
    return {s: (g, n) for g, members in enumerate(groups) for n, s in enumerate(members)}


def _run(sets: Sequence[int], place: Mapping[int, tuple[int, int]]) -> tuple[int, int, int] | None:
    """``(stack, start, stop)`` if the sets are neighbours in one stack, in order."""
    g, start = place[sets[0]]
    if all(place[s] == (g, start + n) for n, s in enumerate(sets)):
        return g, start, start + len(sets)
    return None
