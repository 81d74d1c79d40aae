"""Sums, noise and sizes of trees of floating arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def combine(*terms: Any) -> Any:
    """`combine(a, x, b, y, ...)` is `a x + b y + ...`, leaf by leaf, in the dtype of the leaves.

    Coefficients are scalars, or trees of scalars of the structure of `x`.

    Example:
        >>> combine(2.0, {"w": jnp.ones(2)}, -1.0, {"w": jnp.arange(2.0)})["w"].tolist()
        [2.0, 1.0]
    """
    trees = terms[1::2]
    coefficients = [spread(a, trees[0]) for a in terms[::2]]

    def one(*leaves: Any) -> jax.Array:
        scales, xs = leaves[: len(trees)], leaves[len(trees) :]
        total = jnp.asarray(scales[0], xs[0].dtype) * xs[0]
        for scale, x in zip(scales[1:], xs[1:]):
            total = total + jnp.asarray(scale, xs[0].dtype) * x.astype(xs[0].dtype)
        return total

    return jax.tree.map(one, *coefficients, *trees)


def spread(scale: Any, x: Any) -> Any:
    """A scalar as a tree of scalars like `x`; a tree of them stays what it is.

    Raises:
        ValueError: a tree of another structure.

    Example:
        >>> spread(0.5, {"w": jnp.ones(2), "b": jnp.ones(1)})
        {'b': 0.5, 'w': 0.5}
    """
    treedef = jax.tree.structure(x)
    found = jax.tree.structure(scale)
    if found == treedef and jax.tree.leaves(scale):
        return scale
    if jax.tree_util.treedef_is_leaf(found):
        return jax.tree.unflatten(treedef, [scale] * treedef.num_leaves)
    raise ValueError(f"expected a number, or a tree {treedef}; found {found}.")


def normal_like(key: jax.Array, x: Any, mask: Any = None) -> Any:
    """Independent standard normal numbers of the shapes and dtypes of `x`, float32 at least.

    Each leaf has its own key, by its place in the tree. Zero where `mask` is.

    Example:
        >>> noise = normal_like(jax.random.key(0), {"w": jnp.zeros(3, jnp.bfloat16)})
        >>> noise["w"].shape, noise["w"].dtype
        ((3,), dtype('float32'))
    """
    leaves, treedef = jax.tree.flatten(x)
    drawn = [
        jax.random.normal(
            jax.random.fold_in(key, i), leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)
        )
        for i, leaf in enumerate(leaves)
    ]
    return masked(jax.tree.unflatten(treedef, drawn), mask)


def masked(x: Any, mask: Any) -> Any:
    """`x` times a mask of 0 and 1 (None: all ones)."""
    return x if mask is None else jax.tree.map(lambda a, m: a * jnp.asarray(m, a.dtype), x, mask)


def squared_error(output: Any, goal: Any, weight: Any = 1.0, mask: Any = None) -> jax.Array:
    """The mean over all numbers of a tree of weighted squared differences; padding does not count.

    Example:
        >>> float(squared_error({"w": jnp.ones(2), "b": jnp.ones(2)}, {"w": jnp.zeros(2), "b": jnp.ones(2)}))
        0.5
    """
    error = masked(combine(1.0, output, -1.0, goal), mask)
    sums = jax.tree.map(
        lambda e, w: jnp.asarray(w, e.dtype) * jnp.sum(e * e), error, spread(weight, error)
    )
    counted = jax.tree.leaves(goal if mask is None else mask)
    count = sum(x.size for x in counted) if mask is None else sum(x.sum() for x in counted)
    total = sum(jax.tree.leaves(sums))
    return jnp.asarray(total) / jnp.asarray(count, jnp.asarray(total).dtype)


def common_dtype(x: Any) -> Any:
    """The widest dtype of the leaves, float32 at least."""
    return jnp.result_type(jnp.float32, *(leaf.dtype for leaf in jax.tree.leaves(x)))
