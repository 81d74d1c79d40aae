"""Squared lengths of the tangent vectors in which single coordinates of the Lie algebra move weights.

Only to bring conjugate gradients to columns of similar length: what terms do through other blocks, and
what carries take along, is left aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Linear, Orthogonal, Shift, Spec

from .scaling import gather, part_mask


def lengths(spec: Spec, params: Any, metric: Any, zero: Mapping[str, jax.Array]) -> dict[str, Any]:
    """One positive number for each coordinate of the algebra ``zero`` (approximate; see the module)."""
    blocks = spec.blocks(params)
    weights = spec.blocks(metric)
    return {
        gen.name: _of(gen, blocks, weights, zero[gen.name])
        for gen in spec.generators
        if gen.name in zero
    }


def _of(gen, blocks, weights, zero: jax.Array) -> jax.Array:
    if isinstance(gen, Shift):
        m = weights[gen.target]
        if gen.basis:
            kept = [k for k in range(m.ndim) if k not in gen.constant]
            rows = m.transpose([*gen.constant, *kept]).reshape(len(gen.basis[0]), -1)
            squares = jnp.asarray(gen.basis, zero.dtype) ** 2
            return (squares @ rows.astype(zero.dtype)).reshape(zero.shape)
        left_out = {*gen.constant, *(k for k, _ in gen.part)}
        kept = tuple(k for k in range(m.ndim) if k not in left_out)
        return gather(m, kept).astype(zero.dtype).reshape(zero.shape)
    total: Any = jnp.zeros_like(zero)
    for term in gen.terms:
        x = blocks[term.block] + jnp.asarray(term.offset, blocks[term.block].dtype)
        mask = part_mask(term, x.shape, x.dtype)
        square = gather(weights[term.block] * x**2 * mask, term.where).astype(zero.dtype)
        if isinstance(gen, Linear) and gen.pairs:
            first, second = (jnp.asarray(c) for c in zip(*gen.pairs, strict=True))
            both = square[..., first] + square[..., second]
            total = total + jnp.stack([both, both], -1)
        elif isinstance(gen, Linear):  # E_ab moves x_a into b, or, on the other side, x_b into a
            total = total + (square[..., :, None] if term.exponent > 0 else square[..., None, :])
        elif isinstance(gen, Orthogonal):
            if gen.centred:  # in a frame of its own
                mean = square.mean(-1, keepdims=True)
                square = jnp.broadcast_to(mean, (*mean.shape[:-1], gen.turned))
            rows, columns = jnp.triu_indices(gen.turned, 1)
            total = total + square[..., rows] + square[..., columns]
        else:
            total = total + jnp.asarray(term.exponent**2, zero.dtype) * square
    return total
