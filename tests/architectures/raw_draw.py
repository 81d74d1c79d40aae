"""Random parameters and inputs for the networks written in plain JAX."""

from typing import Any

import jax
import jax.numpy as jnp


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def stack(shapes: Any, n: int) -> Any:
    """The same tree of shapes, each with a leading axis of ``n``."""
    return jax.tree.map(lambda s: (n, *s), shapes, is_leaf=_is_shape)


def draw(key: jax.Array, shapes: Any, scale: float = 0.6) -> Any:
    """A tree of independent normal float32 arrays; ``shapes`` has a tuple of ints for each leaf."""
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=_is_shape)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    arrays = [scale * jax.random.normal(k, s, jnp.float32) for k, s in zip(keys, leaves)]
    return jax.tree.unflatten(treedef, arrays)


def data(key: jax.Array, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Independent standard normal float32 inputs."""
    keys = jax.random.split(jax.random.fold_in(key, 2), len(shapes))
    return tuple(jax.random.normal(k, s, jnp.float32) for k, s in zip(keys, shapes))


def affine(p: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """``x @ w + b`` for ``p = (w, b)``."""
    w, b = p
    return x @ w + b
