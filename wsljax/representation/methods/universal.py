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
from ..blocks.indices import structure
from ..parts.folding import feature_structure, feature_widths
from ..parts.norm import BlockNorm
from ..universal.coupling import COUPLINGS, LowRankLinear
from ..universal.kept import UP_TO
from ..universal.kronecker import KroneckerLinear
from ..universal.linear import UniversalLinear
from ..universal.sharing import AttentionCoupling, SharedLinear
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
    fixed: str = "fold",
    up_to: int | None = UP_TO,
    coupling: str = "dense",
    basis: str = "partition",
    drop_dependent: bool = True,
    rank: int | None = None,
    heads: int = 4,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> LayeredTrunk:
    """The trunk of a universal neural functional.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        norm: normalise after every linear layer; see :class:`.BlockNorm`.
        fixed: what becomes of fixed axes (kernel positions, input pixels, logits): ``"fold"``,
            ``"kronecker"``, ``"positions"`` or ``"dense"``; see :mod:`~..parts.folding`. By default the
            embedding folds them into ``channels`` once, so hidden layers have neither coordinates nor
            weights for them (the published layers widen every layer by them). Where layers keep the
            coordinates they compute on every one: a step takes twice as long on a 2-32-32-1 network,
            14 to 19 times on three 3x3 convolutions.
        up_to: for ``"kronecker"`` and ``"positions"``, blocks with more fixed coordinates are folded.
        coupling: how blocks see each other: ``"dense"``, every linear map, whose weights grow with the
            square of the depth where layers share units; ``"low_rank"``, ``"shared"`` or ``"attention"``,
            whose weights grow with the depth or not at all; see :mod:`~..universal.coupling`.
        basis: of dense coupling, ``"partition"`` or ``"orthogonal"``; see :mod:`~..universal.components`.
        drop_dependent: leave out maps that coincide where units are only one (dense coupling).
        rank: of low-rank coupling; by default ``channels``.
        heads: of attention between blocks.
        activation: a function of single numbers.

    Example:
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Metanetwork
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5), "v": jnp.ones((5, 2))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h", "v": "h _"})
        >>> for coupling in ("dense", "shared"):
        ...     net = Metanetwork(spec, 8, 2, 1, key=jax.random.key(0), coupling=coupling)
        ...     print(net(params).shape)
        (1,)
        (1,)
    """
    if coupling not in COUPLINGS:
        raise ValueError(f"`coupling` must be one of {COUPLINGS}; got {coupling!r}")
    up_to = None if fixed == "dense" else up_to
    outer = feature_structure(spec, fixed, up_to)
    inner = structure(spec) if fixed == "kronecker" else outer
    widths = feature_widths(spec, fixed, up_to)

    def between_blocks(key: jax.Array) -> Callable[[Features], Features]:
        if coupling == "low_rank":
            return LowRankLinear(inner, channels, key=key, rank=rank, dtype=dtype)
        if coupling == "shared":
            return SharedLinear(inner, channels, key=key, dtype=dtype)
        if coupling == "attention":
            return AttentionCoupling(inner, channels, key=key, heads=heads, dtype=dtype)
        return UniversalLinear(
            inner,
            channels,
            channels,
            key=key,
            basis=basis,
            drop_dependent=drop_dependent,
            widths=widths,
            dtype=dtype,
        )

    def draw(key: jax.Array) -> EquivariantLayer:
        key, key_own = jax.random.split(key)
        linear = between_blocks(key)
        if fixed == "kronecker":
            linear = KroneckerLinear(spec, channels, linear, key=key_own, up_to=up_to, dtype=dtype)
        own_norm = BlockNorm(outer, channels, dtype=dtype) if norm else None  # pyright: ignore[reportArgumentType]
        return EquivariantLayer(linear, own_norm, activation)

    return LayeredTrunk(
        spec, channels, layers, draw, key=key, fixed=fixed, up_to=up_to, dtype=dtype, **options
    )
