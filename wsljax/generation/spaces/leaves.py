"""Networks a space is fitted on, and the leaves it is about: what all spaces share.

Floating arrays are generated; keys, counters, switches and leaves that are no arrays are carried along as
the first training network has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import key_path_str
from ...symmetry import Spec
from ...zoo.chunks import is_stacked, take_models
from ...zoo.population import Population
from .space import split_floating, wide

Dtypes = tuple[tuple[str, str], ...]


def split(params: Any) -> tuple[Any, Any]:
    """The floating arrays of a network, and everything else, as ``split_floating``.

    Raises:
        TypeError: an array of complex numbers, or no floating array at all.

    Example:
        >>> floating, others = split({"w": jnp.ones(2), "steps": jnp.asarray(3)})
        >>> floating["steps"], others["w"]
        (None, None)
    """
    for path, x in jax.tree_util.tree_flatten_with_path(params)[0]:
        if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.complexfloating):
            raise TypeError(
                f"{key_path_str(path)!r} holds complex numbers, which no space is made for; store "
                "their real and imaginary parts as two arrays"
            )
    floating, others = split_floating(params)
    if not jax.tree.leaves(floating):
        raise TypeError(
            "the network has no array of floating numbers: there is nothing to generate"
        )
    return floating, others


def join(floating: Any, others: Any) -> Any:
    """The network again: the inverse of :func:`split`."""
    return eqx.combine(floating, others)


def unpack(networks: Any, spec: Spec | None = None) -> tuple[Any, Any, Spec | None]:
    """The stacked weights of training networks, the first of them, and the spec of one.

    Args:
        networks: a ``Population``, or a tree of arrays ``(models, ...)``.
        spec: by default that of the population.

    Raises:
        ValueError: no network, or arrays without one leading axis of models; names them.
    """
    if isinstance(networks, Population):
        spec = networks.spec if spec is None else spec
        networks = networks.params
    counts = {
        key_path_str(path): np.shape(x)[:1]
        for path, x in jax.tree_util.tree_flatten_with_path(networks)[0]
        if is_stacked(x)
    }
    if len(set(counts.values())) != 1 or () in counts.values():
        raise ValueError(
            f"training networks need one leading axis of models; they begin with {counts}"
        )
    if (0,) in counts.values():
        raise ValueError("there is no network to fit a space on: the axis of models has length 0")
    return networks, take_models(networks, np.asarray(0)), spec


def dtypes_of(floating: Any) -> Dtypes:
    """Path and dtype of each leaf, static."""
    flat = jax.tree_util.tree_flatten_with_path(floating)[0]
    return tuple((key_path_str(path), str(jnp.dtype(x.dtype))) for path, x in flat)


def with_dtypes(floating: Any, dtypes: Dtypes) -> Any:
    """The leaves in these dtypes.

    Raises:
        ValueError: other leaves than those whose dtypes are given.
    """
    flat = jax.tree_util.tree_flatten_with_path(floating)[0]
    seen = [key_path_str(path) for path, _ in flat]
    known = [path for path, _ in dtypes]
    if seen != known:
        missing, unknown = sorted({*known} - {*seen}), sorted({*seen} - {*known})
        raise ValueError(
            f"the tree does not fit this space: missing {missing[:5]}, unknown {unknown[:5]}; "
            "fit a space on networks of its architecture"
        )
    leaves = [x.astype(dtype) for (_, x), (_, dtype) in zip(flat, dtypes, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(floating), leaves)


def widened(floating: Any) -> Any:
    """The leaves in float32, or in their own dtype where that is wider."""
    return jax.tree.map(lambda x: jnp.asarray(x).astype(wide(x.dtype)), floating)


def shapes(tree: Any) -> Any:
    """The tree as ``jax.ShapeDtypeStruct``."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def map_paths(fn: Callable[[str, Any], Any], tree: Any) -> Any:
    """``fn(path, leaf)`` for each leaf."""
    return jax.tree_util.tree_map_with_path(lambda path, x: fn(key_path_str(path), x), tree)


def flatten(tree: Any) -> jax.Array:
    """All leaves as one vector, in the dtype that holds them all; traceable.

    >>> flatten({"a": jnp.ones((2, 1)), "b": jnp.zeros(1)}).tolist()
    [1.0, 1.0, 0.0]
    """
    leaves = jax.tree.leaves(tree)
    dtype = leaves[0].dtype
    for x in leaves:
        dtype = jnp.promote_types(dtype, x.dtype)
    return jnp.concatenate([x.reshape(-1).astype(dtype) for x in leaves])


def unflatten(vector: jax.Array, like: Any) -> Any:
    """The tree of shapes and dtypes ``like`` again.

    Raises:
        ValueError: a vector of another length.
    """
    leaves, treedef = jax.tree.flatten(like)
    size = sum(int(np.prod(x.shape)) for x in leaves)
    if vector.shape != (size,):
        raise ValueError(
            f"a vector of shape {vector.shape} where ({size},) is expected; for many networks use "
            "`decode_all`, or jax.vmap"
        )
    out, at = [], 0
    for x in leaves:
        length = int(np.prod(x.shape))
        out.append(vector[at : at + length].reshape(x.shape).astype(x.dtype))
        at += length
    return jax.tree.unflatten(treedef, out)
