"""The graph of a spec: which arrays are nodes, which are edges, and which axis of which belongs to whom.

Everything is an array over whole sets of nodes, so messages are einsums and reductions:

- every set of units is a *node set*, of shape ``(*sizes of what it is nested over, size)``; heads, their
  dims, and what a scan stacks (``_L``) are node sets of one, two and more axes;
- a fixed axis that plays the role of neurons (input pixels, logits: what stands opposite to units in a
  kernel) is a node set as well, each coordinate with an identity of its own;
- every block is an *edge set*: one array over the axes of its *ends*. A kernel has two ends (dense
  edges); a bias or a gain has one (a feature of its nodes); a scalar belongs to the network itself,
  node set 0; three or more ends are hyperedges. ``h h`` has both of its ends in one node set. All
  remaining fixed axes (kernel positions, packed gates) are features of the edges. Nothing is left out:
  blocks and edge arrays are rearrangements of each other.

An axis is no end of its own where another axis of the block is nested over it: ``d head q[head]`` joins
the nodes ``d`` and the nodes ``(head, q)``. A residual stream is one set of units in all blocks that read
or write it, so its layers share nodes, which says more than edges of weight one between copies of it.

After Kofinas et al., *Graph Neural Networks for Learning Equivariant Representations of Neural Networks*,
2024, and Lim et al., *Graph Metanetworks for Processing Diverse Neural Architectures*, 2024.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import jax

from ...symmetry.layout import Block
from ...symmetry.spec import Spec
from ..blocks.indices import Indices, Structure
from .ends import Face, faces, first_is_source


@dataclass(frozen=True)
class End:
    """Where a set of nodes stands among the axes of an array.

    Attributes:
        nodes: which node set, by its position in :attr:`Graph.nodes`.
        at: for each axis of the node set its position among the axes of the array.
        role: ``"source"`` and ``"target"`` (along the direction in which the network computes) where
            an edge set has two ends, ``"self"`` where it has one, else ``"0 of 3"`` and so on.
    """

    nodes: int
    at: tuple[int, ...]
    role: str = "self"


@dataclass(frozen=True)
class NodeSet:
    """Nodes of one kind.

    Attributes:
        name: the units', ``"_inputs2"`` or ``"_outputs10"`` of a fixed end, ``""`` of the network itself.
        labels: what each axis of the node set runs over; the last one is its own.
        above: the node sets that it is nested over, and where their axes are among its own; the
            network itself for sets that are nested over nothing.
        fixed: how many coordinates there are, where each stands for itself (fixed ends); else None.
        depth: how many blocks lie between it and the inputs; 0 where that is unknown.
    """

    name: str
    labels: tuple[str, ...]
    above: tuple[End, ...] = ()
    fixed: int | None = None
    depth: int = 0


@dataclass(frozen=True)
class EdgeSet:
    """One block as an array over nodes.

    Attributes:
        indices: name of the block, labels and parents of the array's axes, in the block's order.
        axes: the position of each among the block's axes; the block's other axes are features.
        features: how many coordinates those have together.
        ends: the node sets it joins; between them they have all axes of the array.
        part: the last word of the leaf's path, as in ``kernel`` or ``bias``.
    """

    indices: Indices
    axes: tuple[int, ...]
    features: int
    ends: tuple[End, ...]
    part: str

    @property
    def name(self) -> str:
        return self.indices.name

    @property
    def roles(self) -> tuple[str, ...]:
        """How each end is met by messages: edge sets of the same roles share their weights."""
        return tuple(end.role for end in self.ends)


@dataclass(frozen=True)
class Graph:
    """Node sets and edge sets; knows no widths of units. ``nodes[0]`` is the network itself.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.zeros((2, 8)), "b": jnp.zeros(8), "v": jnp.zeros((8, 3))}
        >>> graph = graph_of(symmetry.parse(params, {"w": "_ h", "b": "h", "v": "h _"}))
        >>> [(n.name, n.fixed, n.depth) for n in graph.nodes]
        [('', None, 0), ('h', None, 1), ('_outputs3', 3, 2), ('_inputs2', 2, 0)]
        >>> for e in graph.edges:
        ...     print(e.name, e.indices.labels, [graph.nodes[end.nodes].name for end in e.ends])
        b ('h',) ['h']
        v ('h', '_outputs3') ['h', '_outputs3']
        w ('_inputs2', 'h') ['_inputs2', 'h']
    """

    nodes: tuple[NodeSet, ...]
    edges: tuple[EdgeSet, ...]

    @property
    def structure(self) -> Structure:
        """The edge sets' indices, for whatever works on :class:`~..blocks.features.Features`."""
        return tuple(edge.indices for edge in self.edges)


@lru_cache(maxsize=256)
def graph_of(spec: Spec) -> Graph:
    """The graph of the networks that ``spec`` annotates.

    Returns:
        A graph whose edge sets are the blocks of the spec, by name (numbers in names count as numbers).
    """
    found = faces(spec)
    over = {u.name: u.over for u in spec.units}
    labelled = [
        (block, *_labels(block, found[block.name], over))
        for block in sorted(spec.layout, key=lambda block: natural_order(block.name))
    ]
    fixed = {f.label: f.size for ends in found.values() for f in ends.values()}
    seen = dict.fromkeys(label for _, indices, _ in labelled for label in indices.labels)
    names = ["", *(a for a in seen if a not in fixed), *(a for a in seen if a in fixed)]
    place = {name: n for n, name in enumerate(names)}
    forward, edges = first_is_source(spec), []
    for block, indices, axes in labelled:
        features = prod(n for k, n in enumerate(block.shape) if k not in axes)
        part = block.path.rsplit("/", 1)[-1]
        ends = _ends(indices, place, forward)
        edges.append(EdgeSet(indices, axes, features, ends, part))
    depth = _depths(names, edges, {f.label for e in found.values() for f in e.values() if f.input})
    nodes = [NodeSet("", ())]
    for n, name in enumerate(names[1:], 1):
        labels = (*over.get(name, ()), name)
        above = _above(labels[:-1], over, place)
        nodes.append(NodeSet(name, labels, above, fixed.get(name), depth[n]))
    return Graph(tuple(nodes), tuple(edges))


def widths_of(graph: Graph, spec: Spec) -> dict[str, int]:
    """The size of every label of the graph of ``spec``."""
    layout = {block.name: block for block in spec.layout}
    widths = {n.name: n.fixed for n in graph.nodes if n.fixed is not None}
    for edge in graph.edges:
        shape = layout[edge.name].shape
        widths |= {a: shape[k] for a, k in zip(edge.indices.labels, edge.axes, strict=True)}
    for node in graph.nodes:
        widths |= {label: spec.size_of(label) for label in node.labels if label not in widths}
    return widths


def as_edges(edge: EdgeSet, block: jax.Array, rank: int) -> jax.Array:
    """A block of ``rank`` axes, with any number of channel axes after them, as ``(*indices, features)``."""
    rest = tuple(k for k in range(block.ndim) if k not in edge.axes)
    x = block.transpose(*edge.axes, *rest)
    features = edge.features * prod(block.shape[rank:])
    return x.reshape(*x.shape[: len(edge.axes)], features)


def as_block(edge: EdgeSet, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The block of which :func:`as_edges` made ``x``; ``shape`` is the block's."""
    order = (*edge.axes, *(k for k in range(len(shape)) if k not in edge.axes))
    back = sorted(range(len(shape)), key=lambda k: order[k])
    return x.reshape([shape[k] for k in order]).transpose(back)


def natural_order(name: str) -> list[tuple[int, str]]:
    """A sorting key by which ``layer_10`` follows ``layer_9``."""
    return [(int(w), "") if w.isdigit() else (-1, w) for w in re.split(r"(\d+)", name)]


def _labels(
    block: Block, ends: dict[int, Face], over: dict[str, tuple[str, ...]]
) -> tuple[Indices, tuple[int, ...]]:
    """The indices of a block's array of edges, and their positions among the block's axes."""
    nested = {o for above in over.values() for o in above}
    axes = tuple(
        k for k, a in enumerate(block.axes) if not a.startswith("_") or a in nested or k in ends
    )
    labels = tuple(ends[k].label if k in ends else block.axes[k] for k in axes)
    parents = tuple(
        tuple(axes.index(p) for p in (block.parents[k] if block.parents and k not in ends else ()))
        for k in axes
    )
    return Indices(block.name, labels, parents), axes


def _ends(indices: Indices, place: dict[str, int], forward: bool) -> tuple[End, ...]:
    parents = {p for above in indices.parents for p in above}
    own = [n for n in range(len(indices.labels)) if n not in parents]
    if not own:
        return (End(0, ()),)
    if len(own) == 1:
        roles = ["self"]
    elif len(own) == 2:
        roles = ["source", "target"] if forward else ["target", "source"]
    else:
        roles = [f"{n} of {len(own)}" for n in range(len(own))]
    return tuple(
        End(place[indices.labels[n]], (*indices.parents[n], n), role)
        for n, role in zip(own, roles, strict=True)
    )


def _above(
    over: tuple[str, ...], overs: dict[str, tuple[str, ...]], place: dict[str, int]
) -> tuple[End, ...]:
    """The nearest node sets that a set nested over ``over`` is nested in."""
    if not over:
        return (End(0, ()),)
    far = {o for name in over for o in overs.get(name, ())}
    out = []
    for n, name in enumerate(over):
        if name not in far:
            out.append(End(place[name], (*(over.index(o) for o in overs.get(name, ())), n)))
    return tuple(out)


def _depths(names: list[str], edges: list[EdgeSet], inputs: set[str]) -> list[int]:
    """Distance of every node set from the inputs, along edges from source to target."""
    after: dict[int, set[int]] = {}
    into: set[int] = set()
    for edge in edges:
        ends = {end.role: end.nodes for end in edge.ends}
        if "source" in ends and ends["source"] != ends["target"]:
            after.setdefault(ends["source"], set()).add(ends["target"])
            into.add(ends["target"])
    starts = [n for n, name in enumerate(names) if name in inputs]
    starts = starts or [n for n in after if n not in into]
    depth = dict.fromkeys(starts, 0)
    queue = deque(starts)
    while queue:
        n = queue.popleft()
        for m in sorted(after.get(n, ())):
            if m not in depth:
                depth[m] = depth[n] + 1
                queue.append(m)
    return [depth.get(n, 0) for n in range(len(names))]
