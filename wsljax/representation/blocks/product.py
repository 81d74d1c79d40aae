"""Matrix products over channels whose gradients are cheap over a batch of networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def times(x: jax.Array, w: jax.Array) -> jax.Array:
    """``x @ w`` over the channels, in the dtype of ``x``.

    Args:
        x: ``(..., c_in)``, features of one network.
        w: ``(c_in, c_out)``.

    Example:
        >>> times(jnp.ones((2, 3, 4)), jnp.ones((4, 5))).shape
        (2, 3, 5)
    """
    rows = x.reshape(-1, x.shape[-1])
    return _times(rows, w.astype(x.dtype)).reshape(*x.shape[:-1], w.shape[-1])


def times_stacked(x: jax.Array, w: jax.Array) -> jax.Array:
    """``(members, rows, c_in)`` times ``(members, c_in, c_out)``, each member with its own matrix."""
    w = w.astype(x.dtype)
    return _times(x[0], w[0])[None] if x.shape[0] == 1 else _times(x, w)


def _times(x: jax.Array, w: jax.Array) -> jax.Array:
    return _tall(x, w) if x.shape[-2] >= w.shape[-1] else jnp.matmul(x, w)


@jax.custom_jvp
def _tall(x: jax.Array, w: jax.Array) -> jax.Array:
    """A matrix product with at least as many rows as columns.

    Over a batch of networks the gradient in ``w`` contracts two axes, networks and rows, for which
    XLA:CPU writes a transposed copy of all features. One product a network and a sum over networks is
    the same and needs none; what it holds is no larger than the features. The tangent of ``w`` is made
    to depend on the network (by a factor that is always 1), and reverse mode follows.
    """
    return jnp.matmul(x, w)


@_tall.defjvp
def _tall_jvp(primals, tangents):
    (x, w), (dx, dw) = primals, tangents
    one = jnp.where(x[(0,) * x.ndim] > 0, 1, 1).astype(w.dtype)
    return _tall(x, w), jnp.matmul(dx, w) + jnp.matmul(x, dw * one)
