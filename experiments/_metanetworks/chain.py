"""A plain chain of layers: weights and biases in order, out of the blocks of a spec and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from wsljax.symmetry import Block, Spec

ORDERS = {"jax": (-2, -1), "torch": (1, 0)}
"""Where inputs and outputs are in a kernel: `(*kernel, in, out)` or `(out, in, *kernel)`."""


class Link(NamedTuple):
    """One layer: names of its blocks, and the axes of the first one in the order in, out, kernel."""

    weights: str
    biases: str
    axes: tuple[int, ...]


def chain_of(spec: Spec) -> tuple[Link, ...]:
    """The layers of a plain chain in order, whatever its leaves are called.

    Layers are linked by the units that one writes and the next reads; the first reads a fixed axis and
    the last writes one.

    Raises:
        ValueError: the spec is that of another kind of network.

    Example:
        >>> from wsljax import symmetry
        >>> shapes = {"a": np.zeros((5, 1)), "b": np.zeros(1), "c": np.zeros((2, 5)), "d": np.zeros(5)}
        >>> spec = symmetry.parse(shapes, {"a": "h _", "b": "_", "c": "_ h", "d": "h"})
        >>> [(link.weights, link.biases) for link in chain_of(spec)]
        [('c', 'd'), ('a', 'b')]
    """
    if not any(units.over for units in spec.units):
        for order in ORDERS.values():
            links = _links(spec.layout, order)
            if links is not None:
                return links
    raise ValueError(
        "the spec is not that of a plain chain of layers, each with a kernel `(*kernel, in, out)` or "
        f"`(out, in, *kernel)` and a bias, fixed at both ends; published code reads nothing else:\n{spec}"
    )


def _links(layout: Sequence[Block], order: tuple[int, int]) -> tuple[Link, ...] | None:
    kernels = [b for b in layout if len(b.axes) >= 2]
    vectors = {b.axes[0]: b for b in layout if len(b.axes) == 1}
    if len(kernels) + len(vectors) != len(layout) or len(kernels) != len(vectors):
        return None
    starts: dict[str, Block] = {}
    for block in kernels:
        places = [i % len(block.axes) for i in order]
        rest = [a for i, a in enumerate(block.axes) if i not in places]
        if any(not a.startswith("_") for a in rest) or block.axes[places[0]] in starts:
            return None
        starts[block.axes[places[0]]] = block
    links, at = [], "_"
    while at in starts:
        block = starts.pop(at)
        read, write = (i % len(block.axes) for i in order)
        at = block.axes[write]
        bias = vectors.pop(at, None)
        if bias is None or bias.shape[0] != block.shape[write]:
            return None
        rest = tuple(i for i in range(len(block.axes)) if i not in (read, write))
        links.append(Link(block.name, bias.name, (read, write, *rest)))
    return None if starts or vectors or at != "_" else tuple(links)


def to_chain(spec: Spec, params: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights `(networks, in, out, *kernel)` and biases `(networks, out)` of stacked networks."""
    links, blocks = chain_of(spec), jax.vmap(spec.blocks)(params)
    weights = [
        np.transpose(np.asarray(blocks[k.weights]), (0, *(i + 1 for i in k.axes))) for k in links
    ]
    return weights, [np.asarray(blocks[k.biases]) for k in links]


def from_chain(
    spec: Spec, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], *, like: Any
) -> Any:
    """The inverse of :func:`to_chain`; `like` is stacked networks of the same tree, however many."""
    blocks = {}
    for link, w, b in zip(chain_of(spec), weights, biases, strict=True):
        back = np.argsort(link.axes)
        blocks[link.weights] = np.transpose(w, (0, *(int(i) + 1 for i in back)))
        blocks[link.biases] = b
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), like)
    return jax.vmap(lambda x: spec.unblocks(x, like=one))(blocks)
