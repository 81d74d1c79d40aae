"""The weights and the networks beside them: checked, as one vector, and constant tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import key_path_str


def inputs_of(x: Any, beside: Sequence[Any] | None, expected: int) -> tuple[Any, ...]:
    """``x`` and the trees beside it, which must be as many as were announced, and like it.

    Raises:
        ValueError: another number of trees, or one of another structure or other shapes; names it.
    """
    beside = tuple(beside or ())
    if len(beside) != expected:
        raise ValueError(
            f"there are {len(beside)} trees beside the weights; the denoiser was drawn for {expected} "
            "(`beside=`)"
        )
    known = jax.tree_util.tree_flatten_with_path(x)
    for n, tree in enumerate(beside):
        found = jax.tree_util.tree_flatten_with_path(tree)
        if found[1] != known[1]:
            raise ValueError(f"`beside[{n}]` has another structure than the weights")
        for (path, a), (_, b) in zip(known[0], found[0], strict=True):
            if jnp.shape(a) != jnp.shape(b):
                raise ValueError(
                    f"`beside[{n}]`: {key_path_str(path)!r} has shape {jnp.shape(b)}, in the weights "
                    f"{jnp.shape(a)}"
                )
    return (x, *beside)


def dtype_of(x: Any) -> jnp.dtype:
    """The dtype in which a tree is worked on: one that holds all its leaves."""
    return jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves(x)))


def ravel(x: Any, dtype: jnp.dtype | type) -> jax.Array:
    """All leaves side by side.

    Example:
        >>> ravel({"b": jnp.ones(2), "w": jnp.zeros((1, 2))}, jnp.float32).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    return jnp.concatenate([leaf.astype(dtype).reshape(-1) for leaf in jax.tree.leaves(x)])


def unravel(flat: jax.Array, like: Any) -> Any:
    """A vector as a tree like another one, in its dtypes: the inverse of :func:`ravel`."""
    leaves, treedef = jax.tree.flatten(like)
    out, at = [], 0
    for leaf in leaves:
        stop = at + prod(leaf.shape)
        out.append(flat[at:stop].reshape(leaf.shape).astype(leaf.dtype))
        at = stop
    return jax.tree.unflatten(treedef, out)


def size_of(like: Any) -> int:
    """How many numbers a tree of arrays, or of their shapes, holds.

    Raises:
        ValueError: it holds none.
    """
    size = sum(prod(leaf.shape) for leaf in jax.tree.leaves(like))
    if size < 1:
        raise ValueError("there are no arrays in `like`; give `space.like` or one encoded network")
    return size


@dataclass(frozen=True)
class Table:
    """A constant array that is part of a program: it hashes, and is quick to compare.

    Example:
        >>> Table.of([[1, 2], [3, 4]]) == Table.of([[1, 2], [3, 4]])
        True
    """

    shape: tuple[int, ...]
    dtype: str
    data: bytes

    @staticmethod
    def of(array: Any) -> Table:
        found = np.ascontiguousarray(array)
        return Table(found.shape, str(found.dtype), found.tobytes())

    @property
    def array(self) -> np.ndarray:
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)
