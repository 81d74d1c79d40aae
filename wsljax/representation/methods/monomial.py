"""Monomial-NFN: linear maps that commute with permutations and scales or signs, in layers.

Tran, Vo, Tran Huu, Nguyen The, Nguyen, *Monomial Matrix Group Equivariant Neural Functional Networks*,
2024. The groups are read off the scales and signs of the spec, so that one network may have both, and
units with neither. Features are kept in canonical coordinates (:mod:`..scaling.frame`): there every
activation commutes with scales, and averages are the normalising pools of the paper. Where signs act the
activation is odd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..parts.norm import BlockNorm
from ..scaling.embed import by_parity
from ..scaling.linear import MonomialLinear
from ..scaling.pieces import pieces
from ..scaling.trunk import PieceTrunk
from .registry import register_method


class MonomialLayer(eqx.Module):
    """An equivariant map, normalisation, activation.

    Attributes:
        linear: from features to features of as many channels.
        norm: by statistics that nothing moves.
        activation: of the pieces that no sign flips.
        odd: of those that signs flip; must be odd.
    """

    linear: Callable[[Features], Features]
    norm: BlockNorm | None
    spec: Spec = eqx.field(static=True)
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)
    odd: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __call__(self, x: Features) -> Features:
        x = self.linear(x)
        x = x if self.norm is None else self.norm(x)
        even = jax.tree.map(self.activation, x)
        if not any(p.flips for p in pieces(self.spec).members):
            return even
        return by_parity(self.spec, x, jax.tree.map(self.odd, x), even)


@register_method("monomial")
def monomial_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    norm: bool = True,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    odd: Callable[[jax.Array], jax.Array] = jnp.tanh,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> PieceTrunk:
    """The trunk of a Monomial-NFN.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        norm: normalise after every linear layer.
        activation: of the pieces that no sign flips.
        odd: of those that signs flip; an odd function, or the network is not equivariant.
    """

    def draw(key: jax.Array) -> MonomialLayer:
        linear = MonomialLinear(spec, channels, channels, key=key, dtype=dtype)
        own = pieces(spec).spec
        return MonomialLayer(
            linear, BlockNorm(own, channels, dtype=dtype) if norm else None, spec, activation, odd
        )

    return PieceTrunk(spec, channels, layers, draw, key=key, dtype=dtype, **options)
