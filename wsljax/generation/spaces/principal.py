"""Principal components of training networks: a linear space of few numbers.

With as many networks as there are here, the components span no more than the affine hull of the training
set: everything generated in this space is an affine combination of training networks.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

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


class PrincipalSpace(Space):
    """Coordinates along the principal components of training networks.

    ``decode(encode(params))`` is the orthogonal projection of the network on the components; training
    networks come back up to rounding if all components are kept.

    Attributes:
        mean: of the flat vectors, ``(size,)``.
        components: orthonormal rows, ``(count, size)``.
        scale: ``(count,)``: coordinates are divided by it.
        explained: the share of the variance that the components hold.

    Example:
        >>> stack = {"w": jnp.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]])}
        >>> space = PrincipalSpace.fit(stack)
        >>> space.components.shape, round(space.explained, 3)
        ((1, 2), 1.0)
        >>> print(space.decode(space.encode({"w": jnp.array([1.0, 2.0])}))["w"].round(3))
        [1. 2.]
    """

    like: Any
    mean: jax.Array
    components: jax.Array
    scale: jax.Array
    tree: Any
    others: Any
    dtypes: Dtypes = eqx.field(static=True)
    explained: float = eqx.field(static=True)

    @staticmethod
    def fit(
        networks: Any, *, components: int | float | None = None, whiten: bool = False
    ) -> PrincipalSpace:
        """Take the components of training networks.

        Args:
            networks: a ``Population`` or a tree of arrays ``(models, ...)``: training networks alone.
            components: how many; or, as a float below 1, the share of the variance to be held at least; by
                default all (one fewer than networks, at most).
            whiten: whether each coordinate is brought to variance one; by default all are divided by one
                number, which keeps distances.

        Raises:
            ValueError: fewer than two different networks, or more components than there are.
        """
        stack, one, _ = unpack(networks)
        floating, others = split(one)
        rows = [np.asarray(x, np.float64) for x in jax.tree.leaves(split(stack)[0])]
        flat = np.concatenate([x.reshape(len(x), -1) for x in rows], axis=1)
        if not np.isfinite(flat).all():
            bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))[:5]
            raise ValueError(
                f"training networks {bad.tolist()} hold NaN or infinity; leave them out"
            )
        mean = flat.mean(axis=0)
        basis, deviations = _components(flat - mean)
        share = np.cumsum(deviations**2) / np.sum(deviations**2)
        count = _count(components, share)
        wider = shapes(widened(floating))
        dtype = jax.eval_shape(flatten, wider).dtype
        deviations, basis = deviations[:count], basis[:count]
        scale = deviations if whiten else np.full(count, np.sqrt(np.mean(deviations**2)))
        mean, basis, scale = (jnp.asarray(x, dtype) for x in (mean, basis, scale))
        like = jax.ShapeDtypeStruct((count,), dtype)
        held = float(share[count - 1])
        return PrincipalSpace(like, mean, basis, scale, wider, others, dtypes_of(floating), held)

    def encode(self, params: Any) -> jax.Array:
        """The coordinates of one network, ``(count,)``."""
        x = flatten(widened(split(params)[0])) - self.mean
        return jnp.matmul(self.components, x, precision="highest") / self.scale

    def decode(self, x: jax.Array) -> Any:
        """The network with these coordinates."""
        vector = self.mean + jnp.matmul(x * self.scale, self.components, precision="highest")
        return join(with_dtypes(unflatten(vector, self.tree), self.dtypes), self.others)


def _components(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rows by falling variance, and the deviation along each; those of none are left out."""
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    kept = singular > 1e-7 * max(singular[0], np.finfo(float).tiny) * np.sqrt(len(centred))
    if not kept.any():
        raise ValueError("training networks are all the same: there are no principal components")
    return rows[kept], singular[kept] / np.sqrt(len(centred))


def _count(asked: int | float | None, share: np.ndarray) -> int:
    if asked is None:
        return len(share)
    if isinstance(asked, float) and 0 < asked < 1:
        return int(np.searchsorted(share, asked) + 1)
    if asked != int(asked) or not 1 <= asked <= len(share):
        raise ValueError(
            f"`components` is {asked}; these networks have {len(share)}, or give the share of the "
            "variance to hold, as 0.99"
        )
    return int(asked)
