"""Random parameters and inputs for the networks written in plain JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def stack(shapes: Any, n: int) -> Any:
    """The same tree of shapes, each with a leading axis of ``n``."""
    return jax.tree.map(lambda s: (n, *s), shapes, is_leaf=_is_shape)


def draw(key: jax.Array, shapes: Any, scale: float = 0.6) -> Any:
    """A tree of independent normal float32 arrays; ``shapes`` has a tuple of ints for each leaf."""
    random = _generator(key, 1)
    return jax.tree.map(lambda s: _normal(random, s, scale), shapes, is_leaf=_is_shape)


def data(key: jax.Array, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Independent standard normal float32 inputs."""
    random = _generator(key, 2)
    return tuple(_normal(random, s, 1.0) for s in shapes)


def _generator(key: jax.Array, stream: int) -> np.random.Generator:
    """numpy's generator, since a hundred small shapes would take jax a minute to compile."""
    return np.random.default_rng([stream, *np.asarray(jax.random.key_data(key)).ravel().tolist()])


def _normal(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> jax.Array:
    return jnp.asarray((scale * random.standard_normal(shape)).astype(np.float32))


def affine(p: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """``x @ w + b`` for ``p = (w, b)``."""
    w, b = p
    return x @ w + b
