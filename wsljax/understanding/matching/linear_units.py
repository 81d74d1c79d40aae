"""Linear bottlenecks: the matrices that make both sides of one equally long, in closed form.

Queries and keys, values and outputs of a head, low-rank adapters: weights ``X`` going in and ``Y`` coming out,
of which only ``X Y^T`` matters to the function, so that ``X A``, ``Y A^-T`` will do for any invertible ``A``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Linear

from ..canonical.progress import rows

Blocks = Mapping[str, Any]


def both_sides(gen: Linear, blocks: Blocks) -> tuple[jax.Array, jax.Array] | None:
    """All weights that the matrices multiply, and all that their inverses do: ``(*over, entries, n)``."""
    sides: tuple[list, list] = ([], [])
    for t in gen.terms:
        sides[t.exponent < 0].append(rows(gen, t, blocks))
    if not (sides[0] and sides[1]):
        return None
    return jnp.concatenate(sides[0], -2), jnp.concatenate(sides[1], -2)


def balanced_matrices(gen: Linear, blocks: Blocks) -> jax.Array | None:
    """The matrices, ``(*over, n, n)``, that bring ``X, Y`` to ``U sqrt(S), V sqrt(S)``.

    Here ``X Y^T = U S V^T``, found from the triangles ``R`` of QR decompositions of ``X`` and ``Y``, at a cost of
    ``O(entries n^2)``. Where the product has a lower rank than the sides there are no shortest weights, and
    they are left as they are. ``None`` where that holds for all of this shape.
    """
    sides = both_sides(gen, blocks)
    if sides is None:
        return None
    x, y = sides
    n = gen.size
    r1, r2 = jnp.linalg.qr(x, mode="r"), jnp.linalg.qr(y, mode="r")
    rank = min(r1.shape[-2], r2.shape[-2])
    if rank < n and r1.shape[-2] != r2.shape[-2]:
        return None
    core = jnp.matmul(r1, jnp.swapaxes(r2, -1, -2), precision="highest")
    _, s, vt = jnp.linalg.svd(core)
    largest = s[..., :1]
    tiny = jnp.asarray(jnp.finfo(s.dtype).tiny, s.dtype)
    safe = jnp.maximum(s, tiny)[..., None, :]
    into = jnp.matmul(jnp.swapaxes(r2, -1, -2), jnp.swapaxes(vt, -1, -2), precision="highest")
    into = into / jnp.sqrt(safe)
    if rank < n:  # directions in which there are no weights
        null = jnp.linalg.svd(r1, full_matrices=True)[2][..., rank:, :]
        into = jnp.concatenate([into, jnp.swapaxes(null, -1, -2)], -1)
    # float32 knows a product to some seven digits
    ranked = s[..., -1:] > 30 * jnp.finfo(s.dtype).eps * largest
    fine = ranked & jnp.all(jnp.isfinite(into), (-2, -1))[..., None]
    return jnp.where(fine[..., None], into, jnp.eye(n, dtype=into.dtype))


def balanced_planes(gen: Linear, blocks: Blocks) -> jax.Array | None:
    """As :func:`balanced_matrices`, where planes are only turned and scaled: the scalings."""
    sides = both_sides(gen, blocks)
    if sides is None:
        return None
    first, second = (list(c) for c in zip(*gen.pairs, strict=True))
    lengths = [(z**2).sum(-2) for z in sides]
    x, y = (z[..., jnp.asarray(first)] + z[..., jnp.asarray(second)] for z in lengths)
    alive = (x > 0) & (y > 0)
    log = jnp.where(alive, jnp.log(jnp.where(alive, y, 1) / jnp.where(alive, x, 1)) / 4, 0)
    return gen.exp(jnp.stack([log, jnp.zeros_like(log)], -1))
