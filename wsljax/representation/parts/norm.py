"""Normalisation of features by statistics that no exchange of units changes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.dtypes import wide
from ..blocks.features import Features
from ..blocks.indices import structure
from .by_kind import along, draw, for_groups


class BlockNorm(eqx.Module):
    """Divide every block by its root mean square, then scale every channel by a learned gain.

    Statistics run over all indices of a block, so they are invariant and the layer is equivariant
    (never per position, as batch norm on flattened weights has them). After Zhang and Sennrich, *Root
    Mean Square Layer Normalization*, 2019.

    Attributes:
        gain: ``{kind: (blocks of the kind, channels)}``.
        per_channel: one root mean square for every channel rather than one for all channels of a
            block. Blocks with a single index tuple have one for all channels either way, since
            otherwise nothing but signs would be left of them.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.blocks.features import Features
        >>> spec = symmetry.parse({"w": jnp.zeros((3, 5))}, {"w": "_ h"})
        >>> x = Features.of(structure(spec), {"w": 3 * jnp.ones((5, 4))})
        >>> BlockNorm(spec, 4)(x)["w"][0].round(3).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    gain: dict[str, jax.Array]
    per_channel: bool = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        per_channel: bool = False,
        epsilon: float = 1e-6,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        self.per_channel, self.epsilon = per_channel, epsilon
        self.gain = draw(structure(spec), "block", lambda n: jnp.ones((n, channels), dtype))

    def __call__(self, x: Features) -> Features:
        """Features of the same shapes and dtype."""
        arrays = []
        for a, gain in zip(x.arrays, for_groups(self.gain, x, "block"), strict=True):
            several = any(n > 1 for n in a.shape[1:-1])
            axes = tuple(range(1, a.ndim - (1 if self.per_channel and several else 0)))
            y = wide(a)
            size = jnp.mean(jnp.square(y), axis=axes, keepdims=True)
            factor = jax.lax.rsqrt(size + self.epsilon) * along(gain, y)
            arrays.append((y * factor).astype(a.dtype))
        return Features(tuple(arrays), x.structure, x.groups)


class LayerNorm(eqx.Module):
    """Every index tuple by itself: mean 0 and variance 1 over its channels, then a gain and an offset.

    Equivariant, as it looks at no other coordinate. Ba, Kiros, Hinton, *Layer Normalization*, 2016.

    Attributes:
        gain, offset: ``{stack: (members, channels)}``, see :mod:`.by_kind`.
        per: what has a gain and an offset of its own: ``"block"``, ``"kind"`` or ``"all"``.
        centre: take the mean out; without it the root mean square becomes 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.blocks.features import Features
        >>> spec = symmetry.parse({"b": jnp.zeros(2)}, {"b": "h"})
        >>> x = Features.of(structure(spec), {"b": jnp.array([[1.0, 3.0], [8.0, 4.0]])})
        >>> LayerNorm(spec, 2)(x)["b"].round(3).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """

    gain: dict[str, jax.Array]
    offset: dict[str, jax.Array]
    per: str = eqx.field(static=True)
    centre: bool = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        per: str = "block",
        centre: bool = True,
        epsilon: float = 1e-6,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        self.per, self.centre, self.epsilon = per, centre, epsilon
        blocks = structure(spec)
        self.gain = draw(blocks, per, lambda n: jnp.ones((n, channels), dtype))
        self.offset = draw(blocks, per, lambda n: jnp.zeros((n, channels), dtype))

    def __call__(self, x: Features) -> Features:
        """Features of the same shapes and dtype."""
        gains, offsets = (for_groups(p, x, self.per) for p in (self.gain, self.offset))
        arrays = []
        for a, gain, offset in zip(x.arrays, gains, offsets, strict=True):
            y = standardise(wide(a), centre=self.centre, epsilon=self.epsilon)
            arrays.append((y * along(gain, y) + along(offset, y)).astype(a.dtype))
        return Features(tuple(arrays), x.structure, x.groups)


def standardise(x: jax.Array, *, centre: bool = True, epsilon: float = 1e-6) -> jax.Array:
    """``x`` with mean 0 (if ``centre``) and mean square 1 along its last axis, in its dtype.

    Example:
        >>> standardise(jnp.array([1.0, 3.0])).round(3).tolist()
        [-1.0, 1.0]
    """
    y = wide(x)
    y = y - jnp.mean(y, axis=-1, keepdims=True) if centre else y
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + epsilon)
    return y.astype(x.dtype)
