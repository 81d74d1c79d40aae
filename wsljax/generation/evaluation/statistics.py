"""Numbers with intervals: weighted means and medians that can be resampled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ...train.metrics import Interval, bootstrap


def mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """The mean, each value counted as often as its weight says."""
    return jnp.sum(weights * values) / jnp.sum(weights)


def median(values: jax.Array, weights: jax.Array) -> jax.Array:
    """The median, likewise; between two values, their mean.

    Example:
        >>> float(median(jnp.array([1.0, 3.0, 2.0, 10.0]), jnp.ones(4)))
        2.5
    """
    order = jnp.argsort(values)
    values, below = values[order], jnp.cumsum(weights[order])
    half = below[-1] / 2
    last = len(values) - 1
    low = jnp.minimum(jnp.searchsorted(below, half, side="left"), last)
    high = jnp.minimum(jnp.searchsorted(below, half, side="right"), last)
    return (values[low] + values[high]) / 2


def interval(metric, values: np.ndarray, *, key: jax.Array, resamples: int = 1000) -> Interval:
    """A bootstrap interval over networks; NaN where there are no values, or no key to resample."""
    values = np.asarray(values, np.float64)
    if not values.size or not np.isfinite(values).all():
        return exact(
            float(metric(jnp.asarray(values), jnp.ones(len(values)))) if values.size else np.nan
        )
    return bootstrap(metric, jnp.asarray(values, jnp.float32), key=key, resamples=resamples)


def exact(value: float) -> Interval:
    """A number without an interval."""
    return Interval(float(value), float("nan"), float("nan"))
