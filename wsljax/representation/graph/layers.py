"""What the layers of graph networks share: maps over stacks, joined by spreading and collecting.

A layer has one set of weights for all node sets and one for all edge sets of as many ends, whatever
their number and widths; which end a message comes from is told by the end's role.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ..blocks.product import times
from ..parts.norm import standardise
from ..universal.initial import normals
from .derive import Graph
from .features import Collected, GraphFeatures, Sets, aside, in_order, spread

EPSILON = 1e-6


def roles_of(graph: Graph) -> tuple[str, ...]:
    """The roles of ends."""
    return tuple(sorted({role for edge in graph.edges for role in edge.roles}))


def counts_of(graph: Graph) -> tuple[int, ...]:
    """The numbers of ends of edge sets."""
    return tuple(sorted({len(edge.ends) for edge in graph.edges}))


def maps(
    key: jax.Array, shapes: Sequence[tuple[int, int]], dtype: jnp.dtype | type, scale: float = 1.0
) -> list[jax.Array]:
    """Matrices that keep the size of what they are multiplied with."""
    draws = normals(key, tuple(shapes), dtype)
    return [w * jnp.asarray(scale * w.shape[0] ** -0.5, dtype) for w in draws]


def rms(x: jax.Array, gain: jax.Array) -> jax.Array:
    """Each node or edge divided by the root mean square of its channels, times a gain.

    Pointwise, hence equivariant; after Zhang and Sennrich, *Root Mean Square Layer Normalization*, 2019.
    """
    return standardise(x, centre=False) * gain.astype(x.dtype)


def statistics(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Mean, largest, smallest and standard deviation over axes, side by side on the last.

    After Corso et al., *Principal Neighbourhood Aggregation for Graph Nets*, 2020.

    Example:
        >>> statistics(jnp.array([[1.0], [3.0]]), (0,)).round(2).tolist()
        [2.0, 3.0, 1.0, 1.0]
    """
    mean = jnp.mean(x, axis=axes, keepdims=True)
    spread = jnp.sqrt(jnp.mean(jnp.square(x - mean), axis=axes) + EPSILON)
    found = [jnp.squeeze(mean, axes), jnp.max(x, axis=axes), jnp.min(x, axis=axes), spread]
    return jnp.concatenate(found, axis=-1)


def columns(arrays: Sequence[jax.Array], parts: int) -> list[list[jax.Array]]:
    """Every array cut into so many equal parts of its channels; ``[part][stack]``."""
    cut = [jnp.split(a, parts, axis=-1) for a in arrays]
    return [[pieces[p] for pieces in cut] for p in range(parts)]


def nested(
    x: GraphFeatures,
    down: Sequence[jax.Array],
    up: Sequence[jax.Array],
    to_below: jax.Array,
    to_above: jax.Array,
    messages: Collected,
) -> None:
    """Messages between node sets and what they are nested in, added to ``messages``.

    Args:
        x: the features.
        down: what nodes say to those that are nested in them, one array a stack.
        up: what nodes say to those that they are nested in.
        to_below: ``(C, C)``, of what comes from above.
        to_above: ``(4 * C, C)``, of the statistics of what comes from below.
        messages: where they go.
    """
    groups, graph = x.nodes.groups, x.graph
    below = [0] * len(graph.nodes)
    for end in (end for node in graph.nodes for end in node.above):
        below[end.nodes] += 1
    heard = Sets([times(a, to_below) for a in down], groups)
    for members, a in zip(groups, up, strict=True):
        first = graph.nodes[members[0]]
        rank = len(first.labels)
        for k, at in enumerate(end.at for end in first.above):
            above = [graph.nodes[n].above[k].nodes for n in members]
            told = spread(heard.take(above), at, rank)
            messages.add(members, jnp.broadcast_to(told, (*a.shape[:-1], told.shape[-1])))
            said = in_order(times(statistics(a, aside(at, rank)), to_above), at)
            weight = jnp.asarray([below[n] ** -0.5 for n in above], a.dtype)
            messages.add(above, said * weight.reshape(-1, *(1 for _ in said.shape[1:])))
