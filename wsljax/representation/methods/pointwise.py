"""Deep Sets of weights: every weight by itself, told the means of its block and of the whole network.

The baseline of learned optimisers (Metz et al., 2022; Zhou et al., *Universal Neural Functionals*, 2024,
call it Deep Set; after Zaheer et al., *Deep Sets*, 2017). Its group is larger than it should be: any
two coordinates of a block may be exchanged, so it cannot see which units a weight belongs to. What a
method on weights gains over this one, it gains by knowing rows from columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import structure
from ..parts.by_kind import along, count, for_groups
from ..parts.norm import BlockNorm
from ..universal.initial import normals
from .registry import register_method
from .trunk import LayeredTrunk

CONTEXTS = ("none", "block", "network")
"""How much of the network a weight is told about."""


class PointwiseLayer(eqx.Module):
    """One map of channels for all weights, one for what they average to, and a constant for each block.

    Attributes:
        own: ``(channels, channels)``, of what a weight differs by from the mean of its block.
        means: ``(means told, channels, channels)``: of the block's mean, and of the network's.
        codes: ``{kind: (blocks of the kind, channels)}``, by which blocks are told apart.
    """

    own: jax.Array
    means: jax.Array
    codes: dict[str, jax.Array]
    norm: BlockNorm | None
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __call__(self, x: Features) -> Features:
        sums, blocks = jnp.zeros(x.channels, x.arrays[0].dtype), 0
        centres = [jnp.mean(a, axis=tuple(range(1, a.ndim - 1))) for a in x.arrays]
        for m in centres:
            sums, blocks = sums + jnp.sum(m, axis=0), blocks + m.shape[0]
        network = sums / blocks
        arrays = []
        for a, m, code in zip(x.arrays, centres, for_groups(self.codes, x, "block"), strict=True):
            own, means = self.own.astype(a.dtype), self.means.astype(a.dtype)
            if means.shape[0] == 0:
                y = jnp.matmul(a, own) + along(code, a)
            else:
                told = jnp.matmul(m, means[0]) + code.astype(a.dtype)
                told = told if means.shape[0] == 1 else told + jnp.matmul(network, means[1])
                y = jnp.matmul(a - along(m, a), own) + along(told, a)
            arrays.append(y)
        y = Features(tuple(arrays), x.structure, x.groups)
        y = y if self.norm is None else self.norm(y)
        return jax.tree.map(self.activation, y)


class PointwiseTrunk(LayeredTrunk):
    """See the module. Not ``joint``: where units are exchanged in one array alone it sees no change.

    (But for arrays in which the same units stand twice, whose diagonals the pool knows.)
    """

    joint: ClassVar[bool] = False


@register_method("pointwise")
def pointwise_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    context: str = "network",
    norm: bool = True,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> PointwiseTrunk:
    """The trunk of the pointwise baseline.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        context: what each weight is told: ``"none"``, the mean of its ``"block"``, or that and the mean
            of the ``"network"`` (of its blocks' means).
        norm: normalise after every layer; see :class:`.BlockNorm`.
        activation: a function of single numbers.

    Raises:
        ValueError: no such context.
    """
    if context not in CONTEXTS:
        raise ValueError(f"`context` must be one of {CONTEXTS}; got {context!r}")
    members = count(structure(spec), "block")
    square = (channels, channels)
    shapes = (
        square,
        (CONTEXTS.index(context), *square),
        *((n, channels) for n in members.values()),
    )

    def draw(key: jax.Array) -> PointwiseLayer:
        own, means, *codes = normals(key, shapes, dtype)
        root = jnp.asarray(channels**0.5, dtype)
        small = jnp.asarray(0.1, dtype)
        return PointwiseLayer(
            own / root,
            means / root,
            {kind: small * code for kind, code in zip(members, codes, strict=True)},
            BlockNorm(spec, channels, dtype=dtype) if norm else None,
            activation,
        )

    return PointwiseTrunk(spec, channels, layers, draw, key=key, dtype=dtype, **options)  # pyright: ignore[reportCallIssue]
