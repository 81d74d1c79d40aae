"""Maps of channels alone: up and down projections, gates, plain nonlinearities, residual connections.

All act at every index tuple alike, so they are equivariant whatever the group permutes.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import structure
from ..blocks.product import times_stacked
from ..universal.initial import normals
from .by_kind import along, count, for_groups


class ChannelLinear(eqx.Module):
    """A linear map of the channels at every index tuple: from ``c_in`` to ``c_out`` of them.

    Equivariant, and the only equivariant linear map that moves nothing between coordinates. It goes
    up and down in channels around costlier layers.

    Attributes:
        weights: ``{stack: (members, c_in, c_out)}``, see :mod:`.by_kind`.
        bias: ``{stack: (members, c_out)}``, or None.
        per: what has weights of its own: ``"block"``, ``"kind"`` or ``"all"``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"b": jnp.zeros(5)}, {"b": "h"})
        >>> x = Features.of(structure(spec), {"b": jnp.ones((5, 4))})
        >>> ChannelLinear(spec, 4, 16, key=jax.random.key(0))(x)["b"].shape
        (5, 16)
    """

    weights: dict[str, jax.Array]
    bias: dict[str, jax.Array] | None
    per: str = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array,
        per: str = "kind",
        use_bias: bool = True,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a map whose outputs are as large as its inputs.

        Raises:
            ValueError: no channels, or ``per`` is not among those above.
        """
        if c_in < 1 or c_out < 1:
            raise ValueError(f"`c_in` and `c_out` must be positive; got {c_in} and {c_out}")
        self.per = per
        members = count(structure(spec), per)
        shapes = tuple((n, c_in, c_out) for n in members.values())
        draws = normals(key, shapes, dtype)
        self.weights = {
            name: w / jnp.asarray(c_in**0.5, dtype) for name, w in zip(members, draws, strict=True)
        }
        zeros = {name: jnp.zeros((n, c_out), dtype) for name, n in members.items()}
        self.bias = zeros if use_bias else None

    def __call__(self, x: Features) -> Features:
        """Features with ``c_out`` channels, in their dtype."""
        arrays = []
        for a, w in zip(x.arrays, for_groups(self.weights, x, self.per), strict=True):
            if a.shape[-1] != w.shape[1]:
                raise ValueError(
                    f"features have {a.shape[-1]} channels, the map takes {w.shape[1]}"
                )
            rows = a.reshape(a.shape[0], -1, a.shape[-1])
            y = times_stacked(rows, w)
            arrays.append(y.reshape(*a.shape[:-1], w.shape[-1]))
        if self.bias is not None:
            biases = for_groups(self.bias, x, self.per)
            arrays = [a + along(b, a) for a, b in zip(arrays, biases, strict=True)]
        return Features(tuple(arrays), x.structure, x.groups)


class Pointwise(eqx.Module):
    """A function of single numbers at every entry of the features.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"b": jnp.zeros(2)}, {"b": "h"})
        >>> x = Features.of(structure(spec), {"b": jnp.array([[1.0], [-1.0]])})
        >>> Pointwise(jax.nn.relu)(x)["b"].tolist()
        [[1.0], [0.0]]
    """

    function: Callable[[jax.Array], jax.Array] = eqx.field(static=True, default=jax.nn.gelu)

    def __call__(self, x: Features) -> Features:
        return jax.tree.map(self.function, x)


class Gated(eqx.Module):
    """Channels times the activation of other channels: ``(x V) * activation(x W)``.

    Equivariant; the product is what plain nonlinearities of few layers are slow to learn. Shazeer,
    *GLU Variants Improve Transformer*, 2020.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"b": jnp.zeros(5)}, {"b": "h"})
        >>> x = Features.of(structure(spec), {"b": jnp.ones((5, 4))})
        >>> Gated(spec, 4, 8, key=jax.random.key(0))(x)["b"].shape
        (5, 8)
    """

    both: ChannelLinear
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.silu,
        per: str = "kind",
        dtype: jnp.dtype | type = jnp.float32,
    ):
        self.both = ChannelLinear(spec, c_in, 2 * c_out, key=key, per=per, dtype=dtype)
        self.activation = activation

    def __call__(self, x: Features) -> Features:
        """Features with ``c_out`` channels."""
        both = self.both(x)
        half = both.channels // 2
        return jax.tree.map(lambda a: a[..., :half] * self.activation(a[..., half:]), both)


class Residual(eqx.Module):
    """``x + scale * layer(x)``: a layer that starts near the identity, so that stacks can be deep.

    Attributes:
        layer: from features to features of the same channels.
        scale: a learned number for each channel, or None for 1. Touvron et al., *Going deeper with
            Image Transformers*, 2021 (LayerScale); 0 is ReZero (Bachlechner et al., 2020).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"b": jnp.zeros(2)}, {"b": "h"})
        >>> x = Features.of(structure(spec), {"b": jnp.ones((2, 3))})
        >>> layer = ChannelLinear(spec, 3, 3, key=jax.random.key(0))
        >>> Residual(layer, 3, scale=0.0)(x)["b"].tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    layer: Callable[[Features], Features]
    scale: jax.Array | None

    def __init__(
        self,
        layer: Callable[[Features], Features],
        channels: int,
        *,
        scale: float | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        self.layer = layer
        self.scale = None if scale is None else jnp.full((channels,), scale, dtype)

    def __call__(self, x: Features) -> Features:
        """Features of the same shapes; whatever the groups in which the layer returns them."""
        y = self.layer(x)
        if y.groups != x.groups:
            y = Features.of(x.structure, y.blocks())
            x = Features.of(x.structure, x.blocks())
        scale = self.scale
        if scale is not None:
            y = jax.tree.map(lambda a: a * scale.astype(a.dtype), y)
        return jax.tree.map(jnp.add, x, y)
