"""Means and variances of values inside a function, unit by unit, over data that need not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .producers import Place, Producers, Stored


class Moments(NamedTuple):
    """Statistics of one value.

    Attributes:
        mean, variance: ``(*steps, units)``; the variance is that of the population (divided by n).
    """

    mean: jax.Array
    variance: jax.Array

    @property
    def deviation(self) -> jax.Array:
        return jnp.sqrt(self.variance)


def moments(
    found: Producers,
    places: Sequence[Place | Stored],
    params: Any,
    *inputs: Any,
    chunk: int | None = None,
) -> list[Moments]:
    """Mean and variance of the values at ``places`` over all examples, exact.

    Args:
        found: of the function, traced at ``chunk`` examples (at all of them without ``chunk``).
        places: some of its places.
        params: the weights.
        *inputs: trees of arrays with one leading axis of examples.
        chunk: how many examples go through the function at once; it must divide their number.
    """
    watch = {p.where: _watcher(p) for p in places}

    def one(batch):
        seen = found.run(params, batch, watch)
        return [_pooled(Moments(*seen[p.where]), p) for p in places]

    parts = in_chunks(inputs, chunk)
    if parts is None:
        return one(inputs)
    each = jax.lax.map(one, parts)
    return [_together(m, (0,)) for m in each]


def in_chunks(inputs: tuple, chunk: int | None) -> Any:
    """The examples as ``(chunks, chunk, ...)``, or None if all are one chunk.

    Raises:
        ValueError: if they cannot be cut into equal chunks.
    """
    count = examples(inputs)
    if chunk is None or chunk >= count:
        return None
    if chunk < 1 or count % chunk:
        best = max(k for k in range(1, min(max(chunk, 1), count) + 1) if count % k == 0)
        raise ValueError(
            f"`chunk` is {chunk}, which does not divide the {count} examples; take {best}, or fewer examples"
        )
    return jax.tree.map(lambda x: x.reshape(count // chunk, chunk, *x.shape[1:]), inputs)


def examples(inputs: Any) -> int:
    """How many examples there are.

    Raises:
        ValueError: if the arrays do not agree.
    """
    sizes = {np.shape(x)[0] if np.ndim(x) else 0 for x in jax.tree.leaves(inputs)}
    if len(sizes) != 1 or 0 in sizes:
        shapes = [np.shape(x) for x in jax.tree.leaves(inputs)]
        raise ValueError(f"the inputs need one leading axis of examples; their shapes are {shapes}")
    return sizes.pop()


def _watcher(place: Place | Stored) -> Callable:
    """Mean and variance by unit of a value without the steps around it."""
    units = place.units

    def watch(x):
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        axes = tuple(k for k, size in enumerate(units.shape) if size == 1)
        mean = jnp.mean(x, axes, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), axes)
        ids = units.reshape([size for size in units.shape if size != 1])
        mean = mean.reshape(ids.shape)
        if ids.size == place.count:
            order = np.argsort(ids.ravel())
            return mean.ravel()[order], variance.ravel()[order]
        each = np.bincount(ids.ravel(), minlength=place.count)

        def pooled(y):
            return jnp.zeros(place.count, y.dtype).at[ids.ravel()].add(y.ravel()) / each

        total = pooled(mean)
        return total, pooled(variance + jnp.square(mean - total[ids]))

    return watch


def _pooled(m: Moments, place: Place | Stored) -> Moments:
    """Steps of which the weights are the same are taken together."""
    axes = tuple(k for k, size in enumerate(place.lead) if size == 1 and m.mean.shape[k] != 1)
    return _together(m, axes, keep=True) if axes else m


def _together(m: Moments, axes: tuple[int, ...], keep: bool = False) -> Moments:
    mean = jnp.mean(m.mean, axes, keepdims=True)
    variance = jnp.mean(m.variance + jnp.square(m.mean - mean), axes, keepdims=keep)
    return Moments(mean if keep else jnp.squeeze(mean, axes), variance)
