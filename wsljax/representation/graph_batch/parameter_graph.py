"""The weights of a network on the edges of its graph, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.incoming import block_of, floating
from .lay import plan_of
from .plan import DEFAULT_SIZES, Plan, Sizes
from .topology import Topology


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "chunks", "topology"],
    meta_fields=[],
)
@dataclass(frozen=True)
class ParameterGraph:
    """Values on edges; of one network, or of several packed side by side (:func:`.batch_graphs`).

    Attributes:
        values: one a weight, ``(E, c)``; zero on edges that carry none.
        chunks: the weights of tables, ``(E_chunks, chunk, c)``, zero where a chunk is not full. Their
            edges come after the others.
        topology: where the edges run.
    """

    values: jax.Array
    chunks: jax.Array
    topology: Topology


def parameter_graph(spec: Spec, params: Any, sizes: Sizes = DEFAULT_SIZES) -> ParameterGraph:
    """The parameter graph of one network; ``jax.vmap`` it over a population of one architecture.

    Nodes and edges come from the spec, in numpy, once; only the values are traced.

    Args:
        spec: the annotation.
        params: the tree of weights.
        sizes: see :class:`.Sizes`.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((2, 8)), "b": jnp.zeros(8)}
        >>> graph = parameter_graph(symmetry.parse(params, {"w": "_ h", "b": "h"}), params)
        >>> graph.values.shape, graph.topology.senders.shape
        ((24, 1), (24,))
    """
    return put(plan_of(spec, sizes), spec.blocks(params))


def weights_of(
    graph: ParameterGraph, spec: Spec, like: Any = None, sizes: Sizes = DEFAULT_SIZES
) -> Any:
    """The tree of weights whose graph is ``graph``: the inverse of :func:`parameter_graph`.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((2, 8)), "b": jnp.zeros(8)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> back = weights_of(parameter_graph(spec, params), spec)
        >>> jax.tree.map(lambda x, y: bool((x == y).all()), params, back)
        {'b': True, 'w': True}
    """
    blocks = take(plan_of(spec, sizes), graph.values[..., 0], graph.chunks[..., 0])
    return spec.unblocks(blocks, like=like)


def put(plan: Plan, blocks: Mapping[str, jax.Array], c_in: int | None = None) -> ParameterGraph:
    """Blocks on the edges of their plan.

    Args:
        plan: of the spec whose blocks these are.
        blocks: ``{block: array}``, with a last axis of ``c_in`` channels if that is given.
        c_in: how many channels they have; None if they have no such axis.

    Raises:
        ValueError: a block has another shape, or is no array of numbers; names it.
    """
    dtype = floating(blocks)
    channels = 1 if c_in is None else c_in
    values: list[jax.Array] = []
    chunks: list[jax.Array] = []
    for piece in plan.pieces:
        x = block_of(blocks, piece.name, piece.shape, c_in)
        order = piece.order + (() if c_in is None else (len(piece.shape),))
        x = x.astype(dtype).transpose(order).reshape(piece.places, piece.positions, channels)
        if piece.chunked:
            rows = (piece.stop - piece.start) // max(piece.places, 1)
            fill = rows * plan.sizes.chunk - piece.positions
            x = jnp.pad(x, [(0, 0), (0, fill), (0, 0)])
            chunks.append(x.reshape(-1, plan.sizes.chunk, channels))
        else:
            values.append(x.reshape(-1, channels))
    without = plan.scalars - sum(len(x) for x in values)
    values.append(jnp.zeros((without, channels), dtype))
    chunks.append(jnp.zeros((0, plan.sizes.chunk, channels), dtype))
    return ParameterGraph(jnp.concatenate(values), jnp.concatenate(chunks), plan.topology)


def take(plan: Plan, values: jax.Array, chunks: jax.Array) -> dict[str, jax.Array]:
    """New values of edges as blocks.

    Args:
        plan: of the graph.
        values: ``(E, ...)``; what edges without a weight have is left out.
        chunks: ``(E_chunks, chunk, ...)``; likewise what only fills up chunks.
    """
    out = {}
    for piece in plan.pieces:
        x = (chunks if piece.chunked else values)[piece.start : piece.stop]
        last = x.shape[2:] if piece.chunked else x.shape[1:]
        rows = len(x) // max(piece.places, 1) * (plan.sizes.chunk if piece.chunked else 1)
        x = x.reshape(piece.places, rows, *last)[:, : piece.positions]
        x = x.reshape((*(piece.shape[k] for k in piece.order), *last))
        rank = len(piece.shape)
        back = sorted(range(rank), key=lambda k, order=piece.order: order[k])
        out[piece.name] = x.transpose((*back, *range(rank, x.ndim)))
    return out
