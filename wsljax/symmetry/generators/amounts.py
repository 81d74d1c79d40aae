"""The amount of a shift, and what it is on the whole of the block that is shifted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..layout import spread
from .kinds import Shift, part_slices


def expand(gen: Shift, t: jax.Array, like: jax.Array) -> jax.Array:
    """The amount of a shift, with the axes of its target."""
    left_out = {*gen.constant, *(k for k, _ in gen.part)}
    kept = [k for k in range(like.ndim) if k not in left_out]
    if gen.basis:
        vectors = jnp.asarray(gen.basis, t.dtype)
        x = jnp.tensordot(t, vectors, ((0,), (0,)), precision="highest")
        x = x.reshape([like.shape[k] for k in (*kept, *gen.constant)])
        return x.transpose([(*kept, *gen.constant).index(k) for k in range(like.ndim)])
    x = spread(t, kept, like.ndim)
    if not gen.part:
        return jnp.broadcast_to(x, like.shape)
    where = part_slices(gen.part, like.ndim)
    zero = jnp.zeros(like.shape, t.dtype)
    return zero.at[where].set(jnp.broadcast_to(x, zero[where].shape))


def shrink(gen: Shift, x: jax.Array) -> jax.Array:
    """The amount of which :func:`expand` makes ``x``."""
    if gen.basis:
        kept = [k for k in range(x.ndim) if k not in gen.constant]
        rows = x.transpose([*gen.constant, *kept]).reshape(-1, *(x.shape[k] for k in kept))
        inverse = jnp.asarray(np.linalg.pinv(np.asarray(gen.basis)), x.dtype)
        return jnp.tensordot(inverse, rows, ((0,), (0,)), precision="highest")
    x = x[part_slices(gen.part, x.ndim)]
    for k in sorted({*gen.constant, *(k for k, _ in gen.part)}, reverse=True):
        x = x.mean(k)
    return x
