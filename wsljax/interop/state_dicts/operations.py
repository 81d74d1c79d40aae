"""What stands between modules and has no weights: flattening, pooling, picking tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import layers
from .modules import Flow

Apply = Callable[[jax.Array], jax.Array]


def flatten(flow: Flow, *, channels: int | None = None) -> Apply:
    """(batch, *places, channels) to one axis; the weights that read it are put in that order.

    Args:
        channels: of the images, where no convolution before it tells.
    """
    flow.flat = channels or flow.channels
    if flow.flat is None:
        raise ValueError(
            "`flatten` comes before any convolution, so the order of what it flattens is not known: pass "
            "('flatten', {'channels': number of channels of the images})"
        )
    return lambda x: x.reshape(x.shape[0], -1)


def max_pool(
    flow: Flow,
    *,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> Apply:
    """``nn.MaxPool``: stride is the size unless given."""

    def apply(x: jax.Array) -> jax.Array:
        lowest = jnp.asarray(-jnp.inf, x.dtype)
        return _windows(x, lowest, lax.max, size, stride, padding)

    return apply


def mean_pool(
    flow: Flow,
    *,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> Apply:
    """``nn.AvgPool``, padding counted, as is torch's default."""

    def apply(x: jax.Array) -> jax.Array:
        total = _windows(x, jnp.zeros((), x.dtype), lax.add, size, stride, padding)
        return total / math.prod(layers.each(size, x.ndim - 2))

    return apply


def adaptive_mean_pool(flow: Flow, *, size: int | Sequence[int]) -> Apply:
    """``nn.AdaptiveAvgPool``: windows from floor(i n / size) to ceil((i + 1) n / size)."""

    def apply(x: jax.Array) -> jax.Array:
        for axis, wanted in enumerate(layers.each(size, x.ndim - 2), start=1):
            means = jnp.asarray(_bins(x.shape[axis], wanted), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(means, x, (1, axis)), 0, axis)
        return x

    return apply


def _bins(length: int, wanted: int) -> np.ndarray:
    means = np.zeros((wanted, length))
    for i in range(wanted):
        first, last = i * length // wanted, -(-(i + 1) * length // wanted)
        means[i, first:last] = 1 / (last - first)
    return means


def _windows(x, start, reduce, size, stride, padding) -> jax.Array:
    places = x.ndim - 2
    size = layers.each(size, places)
    stride = size if stride is None else layers.each(stride, places)
    around = [(0, 0), *layers.pairs(padding, places), (0, 0)]
    return lax.reduce_window(x, start, reduce, (1, *size, 1), (1, *stride, 1), around)


def _plain(function: Apply) -> Callable[[Flow], Apply]:
    return lambda flow: function


def _over_places(
    reduce: Callable[[jax.Array, tuple[int, ...]], jax.Array],
) -> Callable[[Flow], Apply]:
    def build(flow: Flow) -> Apply:
        flow.channels = None  # from here on there are vectors
        return lambda x: reduce(x, tuple(range(1, x.ndim - 1)))

    return build


#: Name -> ``(flow, **settings) -> function``.
OPERATIONS: Mapping[str, Callable[..., Apply]] = {
    "adaptive_mean_pool": adaptive_mean_pool,
    "dropout": _plain(lambda x: x),
    "first_token": _plain(lambda x: x[:, 0]),
    "flatten": flatten,
    "global_max": _over_places(lambda x, axes: x.max(axes)),
    "global_mean": _over_places(lambda x, axes: x.mean(axes)),
    "last_token": _plain(lambda x: x[:, -1]),
    "max_pool": max_pool,
    "mean_pool": mean_pool,
    "mean_tokens": _plain(lambda x: x.mean(1)),
}


def settings_of(builder: Callable[..., Any]) -> dict[str, bool]:
    """Keyword-only arguments of a builder: name -> whether it must be given."""
    code: Any = builder.__code__
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return {name: name not in (builder.__kwdefaults__ or {}) for name in names}
