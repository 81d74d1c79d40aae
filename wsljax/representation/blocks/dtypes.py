"""In which dtype things are computed: that of the weights that come in, but sums in float32 at least."""

from __future__ import annotations

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def wide(x: jax.Array) -> jax.Array:
    """The same numbers in float32 at least: sums over many in half precision would lose too much.

    Example:
        >>> wide(jnp.ones(2, jnp.bfloat16)).dtype
        dtype('float32')
    """
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def cast(tree: Tree, dtype: jnp.dtype | type) -> Tree:
    """A module, or any tree, with its floating arrays in another dtype.

    Example:
        >>> cast({"w": jnp.ones(2), "step": jnp.arange(2)}, jnp.bfloat16)["w"].dtype
        dtype(bfloat16)
    """
    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)
