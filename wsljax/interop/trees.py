"""Nested dicts of arrays: the floating-point leaves apart from the rest, and together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


class _Missing:
    """Stands where a leaf was taken out."""

    def __repr__(self) -> str:
        return "<moved to params>"


MISSING = _Missing()


def nested(tree: Any) -> Any:
    """Mappings of any kind as plain dicts."""
    if isinstance(tree, Mapping):
        return {key: nested(value) for key, value in tree.items()}
    return tree


def is_float(leaf: Any) -> bool:
    """Whether a leaf is an array of floating-point or complex numbers with entries: a parameter."""
    return (
        hasattr(leaf, "dtype")
        and hasattr(leaf, "shape")
        and jnp.issubdtype(leaf.dtype, jnp.inexact)
        and 0 not in leaf.shape
    )


def split_floats(tree: Any) -> tuple[Any, Any]:
    """Nested dicts with the floating-point leaves alone, and with all others.

    Example:
        >>> import jax.numpy as jnp
        >>> split_floats({"w": jnp.ones(1), "n": {"count": 3}})
        ({'w': Array([1.], dtype=float32)}, {'w': <moved to params>, 'n': {'count': 3}})
    """
    if isinstance(tree, Mapping):
        floats, rest = {}, {}
        for key, value in tree.items():
            a, b = split_floats(value)
            if a is not MISSING and not (isinstance(a, dict) and not a):
                floats[key] = a
            rest[key] = b
        return floats, rest
    return (jnp.asarray(tree), MISSING) if is_float(tree) else (MISSING, tree)


def merge_leaves(rest: Any, params: Any, like: Any = None, path: str = "") -> Any:
    """The inverse of `split_floats`; with ``like`` shapes are held against it.

    Raises:
        ValueError: a leaf is missing, left over, or of another shape. Names its path.
    """
    if rest is MISSING:
        if params is None or isinstance(params, Mapping):
            raise ValueError(
                f"params lack the array {path!r}; give the tree that was read, with new values"
            )
        if like is not None and jnp.shape(params) != jnp.shape(like):
            raise ValueError(
                f"params {path!r} has shape {jnp.shape(params)}, not {jnp.shape(like)}"
            )
        return params
    if isinstance(rest, Mapping):
        given = params if isinstance(params, Mapping) else {}
        left = [key for key in given if key not in rest]
        if left:
            raise ValueError(f"params have {_join(path, left[0])!r}, which is not in the network")
        return {
            key: merge_leaves(
                value, given.get(key), None if like is None else like[key], _join(path, key)
            )
            for key, value in rest.items()
        }
    if params is not None:
        raise ValueError(f"params have {path!r}, which is no parameter of the network")
    return rest


def by_paths(tree: Any, is_leaf: Any = None) -> tuple[dict, list[tuple[str, ...]]]:
    """Any pytree as nested dicts under the parts of its leaves' paths, and those paths in order.

    Example:
        >>> by_paths([{"w": 1.0}, 2.0])
        ({'0': {'w': 1.0}, '1': 2.0}, [('0', 'w'), ('1',)])
    """
    out: dict = {}
    paths = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf):
        parts = tuple(jax.tree_util.keystr((part,), simple=True) for part in path) or ("value",)
        node = out
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = leaf
        paths.append(parts)
    return out, paths


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)
