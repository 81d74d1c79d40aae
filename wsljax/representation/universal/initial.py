"""Initial weights under which a universal layer keeps the size of its signal, however deep the stack.

With means as reads, drawing every basis map at ``1 / sqrt(fan-in)`` lets each layer shrink what varies
between units and grow what does not: after a few layers only constants are left. Instead each draw is
spent on one *component* of the features: the part of a read that varies over all its indices (means
over each index taken out), written to the coordinates that are tied in just this way and no other.
Components do not mix: each is handed from layer to layer at the average size it has among the blocks
that carry it.

Components are the orthogonal basis of :mod:`.components`, which turns the draws into weights.
"""

from __future__ import annotations

from functools import partial
from math import prod, sqrt

import jax
import jax.numpy as jnp
import numpy as np

from .basis import Basis
from .components import as_matrices, independent, mixed


@partial(jax.jit, static_argnames=("found", "c_in", "c_out", "components", "ones", "dtype"))
def initial_weights(
    found: Basis,
    c_in: int,
    c_out: int,
    *,
    key: jax.Array,
    components: bool = False,
    ones: tuple[str, ...] = (),
    dtype: jnp.dtype | type = jnp.float32,
) -> dict[str, jax.Array]:
    """One stack of matrices a role, ``{role name: (members, reads * c_in, writes * c_out)}``.

    Args:
        found: the factored basis.
        c_in, c_out: channels.
        key: of the draw.
        components: give weights in the orthogonal basis rather than in that of partitions.
        ones: labels of width one; maps that they make superfluous get zero.
        dtype: of the weights.
    """
    std = []
    for role in found.roles:
        keeps = np.ones((len(role.members), role.reads, role.writes), bool)
        keeps = independent(found, ones)[role.name] if ones else keeps
        for t, keep in zip(role.members, keeps, strict=True):
            reads = max(1, int(keep.any(1).sum()))
            std += (keep / sqrt(reads * found.types[t].symmetries * c_in)).reshape(-1).tolist()
    (draws,) = normals(key, ((len(std), c_in, c_out),), dtype)
    draws = draws * jnp.asarray(std, dtype)[:, None, None]
    return as_matrices(found, draws if components else mixed(found, draws, ones))


@partial(jax.jit, static_argnames=("shapes", "dtype"))
def normals(
    key: jax.Array, shapes: tuple[tuple[int, ...], ...], dtype: jnp.dtype | type
) -> list[jax.Array]:
    """Independent standard normal arrays, out of one flat draw: many draws would compile for long."""
    stops = np.cumsum([prod(shape) for shape in shapes])
    flat = jax.random.normal(key, (int(stops[-1]),), dtype)
    pieces = jnp.split(flat, stops[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
