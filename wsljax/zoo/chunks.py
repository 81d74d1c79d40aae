"""Working through a population in pieces that fit in memory, each split over the devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from wsljax.train.mesh import ZOO_AXIS, replicate, shard


def chunk_size(
    bytes_per_model: int, count: int, *, memory: int = 2**31, mesh: Mesh | None = None
) -> int:
    """How many networks to work on at once.

    Args:
        bytes_per_model: what one network costs while it is worked on.
        count: how many there are.
        memory: bytes that may be used on each device.
        mesh: the devices; the size is a multiple of its axis `"zoo"`.

    Returns:
        At least one network a device, at most enough for all in one chunk.

    Example:
        >>> chunk_size(2**20, 10_000)
        2048
    """
    devices = 1 if mesh is None else mesh.shape[ZOO_AXIS]
    per_device = max(1, memory // max(1, bytes_per_model))
    return devices * min(per_device, -(-count // devices))


def round_up(chunk: int, mesh: Mesh | None) -> int:
    """The next multiple of the number of devices."""
    devices = 1 if mesh is None else mesh.shape[ZOO_AXIS]
    return -(-chunk // devices) * devices


def pad_models(tree: Any, count: int) -> Any:
    """Repeat the first model until there are `count`, so that every chunk has one shape.

    Shapes: leaves `(models, ...)` become `(count, ...)`.

    Example:
        >>> pad_models(jnp.array([5, 6]), 4).tolist()
        [5, 6, 5, 5]
    """

    def pad(leaf):
        missing = count - leaf.shape[0]
        if missing <= 0:
            return leaf
        return jnp.concatenate([leaf, jnp.repeat(leaf[:1], missing, axis=0)])

    return jax.tree.map(lambda leaf: pad(leaf) if is_stacked(leaf) else leaf, tree)


def map_chunks(
    fn: Callable[..., Any],
    models: Any,
    *shared: Any,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Any:
    """Apply a batched function to a stack of models, a chunk at a time.

    Args:
        fn: `fn(models, *shared)`, with models `(chunk, ...)` in and `(chunk, ...)` out; it is
            jitted here, compiled once.
        models: a pytree of arrays `(models, ...)`; other leaves are shared.
        *shared: given to every call, replicated over the mesh.
        chunk: models a call (default: all at once).
        mesh: split each chunk over its axis `"zoo"`.

    Returns:
        What `fn` returns, for all models, as arrays on the default device.

    Raises:
        ValueError: `chunk` is not positive, or there is no model.

    Example:
        >>> map_chunks(lambda x, y: x.sum(1) + y, jnp.ones((5, 3)), 1.0, chunk=2).tolist()
        [4.0, 4.0, 4.0, 4.0, 4.0]
    """
    count = _count(models)
    if count == 0:
        raise ValueError("there is no model to work on.")
    chunk = count if chunk is None else chunk
    if chunk < 1:
        raise ValueError(f"`chunk` is {chunk}; it is a number of models, 1 or more.")
    chunk = round_up(min(chunk, count), mesh)
    run = eqx.filter_jit(fn)
    shared = replicate(shared, mesh)
    outputs = []
    for index in chunk_indices(np.arange(count), chunk):
        part = pad_models(take_models(models, index), chunk)
        output = run(shard(part, mesh), *shared)
        outputs.append(
            take_models(jax.tree.map(lambda leaf: np.asarray(leaf), output), slice(len(index)))
        )
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *outputs)


def chunk_indices(order: np.ndarray, chunk: int) -> Iterator[np.ndarray]:
    """`order` cut into pieces of `chunk`, the last one shorter."""
    for start in range(0, len(order), chunk):
        yield order[start : start + chunk]


def take_models(tree: Any, index: np.ndarray | slice | int) -> Any:
    """The models at `index`, in a tree where some leaves may be shared."""
    return jax.tree.map(lambda leaf: leaf[index] if is_stacked(leaf) else leaf, tree)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays (or ShapeDtypeStructs) of a tree."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
    return sum(int(np.prod(leaf.shape)) * jnp.dtype(leaf.dtype).itemsize for leaf in leaves)


def is_stacked(leaf: Any) -> bool:
    """Whether a leaf has a model axis, as arrays do; other leaves are shared by all models."""
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray)


def _count(models: Any) -> int:
    leaves = [leaf for leaf in jax.tree.leaves(models) if is_stacked(leaf)]
    if not leaves or any(leaf.ndim == 0 or len(leaf) != len(leaves[0]) for leaf in leaves):
        shapes = [leaf.shape for leaf in leaves]
        raise ValueError(f"the models need one leading axis of one length; shapes are {shapes}.")
    return len(leaves[0])
