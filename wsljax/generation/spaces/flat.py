"""All weights as one vector."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from .leaves import (
    Dtypes,
    dtypes_of,
    flatten,
    join,
    shapes,
    split,
    unflatten,
    unpack,
    widened,
    with_dtypes,
)
from .space import Space


class FlatSpace(Space):
    """The floating arrays of a network, one after the other in the order of the tree; an isometry.

    Put it after a :class:`.WeightSpace` for normalised vectors: see :func:`.fit_spaces`.

    Example:
        >>> import jax.numpy as jnp
        >>> space = FlatSpace.fit({"w": jnp.zeros((5, 2, 2)), "b": jnp.ones((5, 2))})
        >>> x = space.encode({"w": jnp.eye(2), "b": jnp.array([3.0, 4.0])})
        >>> x.tolist(), space.decode(x)["b"].tolist()
        ([3.0, 4.0, 1.0, 0.0, 0.0, 1.0], [3.0, 4.0])
    """

    like: Any
    tree: Any
    others: Any
    dtypes: Dtypes = eqx.field(static=True)

    @staticmethod
    def fit(networks: Any) -> FlatSpace:
        """For networks like these: a ``Population`` or a tree of arrays ``(models, ...)``."""
        floating, others = split(unpack(networks)[1])
        wider = widened(floating)
        like = shapes(jax.eval_shape(flatten, wider))
        return FlatSpace(like, shapes(wider), others, dtypes_of(floating))

    def encode(self, params: Any) -> jax.Array:
        """The vector of one network, ``(size,)``."""
        return flatten(widened(split(params)[0]))

    def decode(self, x: jax.Array) -> Any:
        """One network: the exact inverse of :meth:`encode`.

        Raises:
            ValueError: a vector of another length.
        """
        return join(with_dtypes(unflatten(x, self.tree), self.dtypes), self.others)
