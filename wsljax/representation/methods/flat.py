"""A dense residual network on all weights side by side: the baseline that knows nothing of symmetry.

Not invariant: exchanging units of the network changes the answer, and networks of other widths cannot
be read. Trained on moved copies, or with :func:`~..invariance_loss.logit_invariance` beside the loss,
it learns some of both (Navon et al., *Equivariant Architectures for Learning in Deep Weight Spaces*,
2023, and Zhou et al., 2023, compare with it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.incoming import block_of, check_scales, floating
from ..parts.norm import standardise
from ..universal.initial import normals
from .registry import register_method
from .trunk import Trunk


class Dense(eqx.Module):
    """A linear map of vectors."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.matmul(x, self.weight.astype(x.dtype)) + self.bias.astype(x.dtype)


class FlatPool(eqx.Module):
    """The features are a vector already."""

    width: int = eqx.field(static=True)

    def size(self, channels: int) -> int:
        del channels
        return self.width

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


class FlatReadout(eqx.Module):
    """A vector to all weights by one linear map."""

    dense: Dense
    spec: Spec = eqx.field(static=True)

    def __call__(self, x: jax.Array, spec: Spec | None = None) -> dict[str, jax.Array]:
        _same(self.spec, spec)
        blocks, stops = self.spec.layout, _stops(self.spec, 1)
        pieces = jnp.split(self.dense(x), stops[:-1])
        return {b.name: p.reshape(b.shape) for b, p in zip(blocks, pieces, strict=True)}


class FlatTrunk(Trunk):
    """All weights side by side through a dense network; see the module.

    Attributes:
        first: the layer from all weights to ``width`` features.
        layers: the others (residual, normalised), every array with a leading axis of layers.
    """

    equivariant: ClassVar[bool] = False
    any_width: ClassVar[bool] = False

    first: Dense
    layers: Dense
    spec: Spec = eqx.field(static=True)
    c_in: int | None = eqx.field(static=True)
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> jax.Array:
        _same(self.spec, spec)
        dtype = floating(blocks)
        arrays = [block_of(blocks, b.name, b.shape, self.c_in) for b in self.spec.layout]
        flat = jnp.concatenate([x.astype(dtype).reshape(-1) for x in arrays])

        def step(x: jax.Array, layer: Dense) -> tuple[jax.Array, None]:
            return x + layer(self.activation(standardise(x))), None

        return standardise(jax.lax.scan(step, self.first(flat), self.layers)[0])

    @property
    def width(self) -> int:
        return self.first.bias.shape[0]

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> FlatPool:
        del spec, channels, key
        if options:
            raise ValueError(f"method 'flat' pools nothing; it has no option {sorted(options)}")
        return FlatPool(self.width)

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> FlatReadout:
        del channels
        out = int(_stops(spec, 1)[-1])
        (w,) = normals(key, ((self.width, out),), dtype)
        times = _per_weight(spec, scales, 1) / self.width**0.5
        return FlatReadout(Dense(w * jnp.asarray(times, dtype), jnp.zeros(out, dtype)), spec)


@register_method("flat")
def flat_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    width: int | None = None,
    c_in: int | None = None,
    scales: Mapping[str, float] | None = None,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
) -> FlatTrunk:
    """The trunk of the baseline on flattened weights.

    Args:
        spec, key, dtype: see :class:`.LayeredTrunk`.
        channels: of the features of other methods; here it only sets the default width.
        layers: how many dense layers, of which the first reads the weights.
        width: how many features every layer has, by default ``16 * channels``.
        c_in, scales: see :class:`.Embed`.
        activation: a function of single numbers.

    Raises:
        ValueError: no layer.
    """
    if layers < 1:
        raise ValueError(f"`layers` must be positive; got {layers}")
    width = 16 * channels if width is None else width
    inputs = int(_stops(spec, c_in or 1)[-1])
    first, rest, bias = normals(
        key, ((inputs, width), (layers - 1, width, width), (layers, width)), dtype
    )
    divide = _per_weight(spec, scales, c_in or 1)[:, None] * (2 * inputs) ** 0.5
    rest, bias = (x / jnp.asarray((2 * n) ** 0.5, dtype) for x, n in ((rest, width), (bias, 1)))
    return FlatTrunk(
        Dense(first / jnp.asarray(divide, dtype), bias[0]),
        Dense(rest, bias[1:]),
        spec,
        c_in,
        activation,
    )


def _stops(spec: Spec, channels: int) -> np.ndarray:
    """Where each block ends among all numbers."""
    return np.cumsum([prod(block.shape) * channels for block in spec.layout])


def _per_weight(spec: Spec, scales: Mapping[str, float] | None, channels: int) -> np.ndarray:
    """The scale of the block of every number."""
    names = [block.name for block in spec.layout]
    check_scales(scales, names)
    sizes = [prod(block.shape) * channels for block in spec.layout]
    return np.repeat([(scales or {}).get(name, 1.0) for name in names], sizes)


def _same(own: Spec, spec: Spec | None) -> None:
    if spec is not None and [b.shape for b in spec.layout] != [b.shape for b in own.layout]:
        raise ValueError(
            "method 'flat' reads weights of the widths that it was drawn for, and no others; "
            "choose another method, or draw one for each spec"
        )
