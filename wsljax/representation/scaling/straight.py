"""Coordinates in which scales and signs only multiply.

A sign about a centre (``sigmoid(-x) = 1 - sigmoid(x)``) also moves the next bias, and a variance that is
used as ``v + eps`` scales with its epsilon. The bias seen from the centre, and ``v + eps``, only flip and
scale. So blocks are taken to these coordinates before anything else, and edits are taken back.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ...symmetry.generators import Sign
from ...symmetry.spec import Spec
from .pieces import Pieces

Blocks = dict[str, jax.Array]


def straighten(own: Pieces, blocks: Mapping[str, jax.Array]) -> Blocks:
    """Blocks to pieces on which every scale and sign is a multiplication.

    Args:
        own: the pieces of the spec.
        blocks: arrays of the shapes of the layout.
    """
    found = own.cut(_centred(own.source, blocks, 1.0))
    return {
        p.name: found[p.name] + jnp.asarray(p.offset, found[p.name].dtype)
        if p.offset
        else found[p.name]
        for p in own.members
    }


def bend(own: Pieces, found: Mapping[str, jax.Array]) -> Blocks:
    """Pieces to blocks: the inverse of :func:`straighten`."""
    found = {
        p.name: found[p.name] - jnp.asarray(p.offset, found[p.name].dtype)
        if p.offset
        else found[p.name]
        for p in own.members
    }
    return _centred(own.source, own.join(found), -1.0)


def _centred(spec: Spec, blocks: Mapping[str, jax.Array], direction: float) -> Blocks:
    """Biases moved to (or from) the centres of the signs that carry into them."""
    out = dict(blocks)
    for gen in spec.generators:
        if not isinstance(gen, Sign):
            continue
        for c in gen.carries:
            bias = blocks[c.bias]
            operands = [jnp.ones(gen.shape, bias.dtype)]
            operands += [blocks[c.weight]] if c.weight else []
            for h in c.gains:
                x = blocks[h.block]
                operands.append((x + jnp.asarray(h.offset, x.dtype)) ** h.power)
            moved = jnp.einsum(c.equation, *operands, precision="highest")
            for k in c.centre:
                moved = moved - moved.mean(k, keepdims=True)
            factor = jnp.asarray(direction * c.factor, bias.dtype)
            out[c.bias] = out[c.bias] + factor * moved
    return out
