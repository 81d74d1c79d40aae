"""Universal neural functionals: every equivariant linear map, then a normalisation and an activation.

The layers are universal, so their stack with pointwise activations is as expressive as the equivariant
linear maps allow; see Zhou et al., *Permutation Equivariant Neural Functionals*, 2023, and *Universal
Neural Functionals*, 2024, for the construction on plain permutation groups.
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
from ..universal.linear import UniversalLinear
from .registry import register_method
from .trunk import LayeredTrunk


class EquivariantLayer(eqx.Module):
    """An equivariant linear layer, normalisation, activation."""

    linear: Callable[[Features], Features]
    norm: BlockNorm | None
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __call__(self, x: Features) -> Features:
        x = self.linear(x)
        x = x if self.norm is None else self.norm(x)
        return jax.tree.map(self.activation, x)


@register_method("universal")
def universal_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    norm: bool = True,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> LayeredTrunk:
    """The trunk of a universal neural functional.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        norm: normalise after every linear layer; see :class:`.BlockNorm`.
        activation: a function of single numbers.
    """

    def draw(key: jax.Array) -> EquivariantLayer:
        linear = UniversalLinear(spec, channels, channels, key=key, dtype=dtype)
        return EquivariantLayer(
            linear, BlockNorm(spec, channels, dtype=dtype) if norm else None, activation
        )

    return LayeredTrunk(spec, channels, layers, draw, key=key, dtype=dtype, **options)
