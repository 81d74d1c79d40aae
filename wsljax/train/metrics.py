"""How good predictions of a scalar property are: R2, Kendall's tau, bootstrap intervals.

Both metrics take integer sample weights, so resampling with replacement is a vector of counts and
a bootstrap is one vectorised call: no pair of samples is compared twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

_ROWS_AT_ONCE = 64


def r2(
    prediction: jax.Array,
    target: jax.Array,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Coefficient of determination, `1 - sum (y - p)^2 / sum (y - mean y)^2`.

    Args:
        prediction, target: one value a sample.
        weights: how often each sample counts (default: once).

    Returns:
        1 for perfect predictions, 0 for the mean of the target, negative for worse; NaN for a
        constant target.

    Example:
        >>> float(r2(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 2.0, 3.0])))
        1.0
    """
    prediction, target, weights = _columns(prediction, target, weights)
    mean = jnp.sum(weights * target) / jnp.sum(weights)
    total = jnp.sum(weights * (target - mean) ** 2)
    missed = jnp.sum(weights * (target - prediction) ** 2)
    return 1 - missed / total


def kendall_tau(
    prediction: jax.Array,
    target: jax.Array,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Kendall's rank correlation tau-b (ties counted on either side).

    Over all ordered pairs `sum sign(p_i - p_j) sign(y_i - y_j)`, divided by the square root of the
    number of pairs untied in `p` times that untied in `y`. O(n^2) time in O(n) memory.

    Args:
        prediction, target: one value a sample.
        weights: how often each sample counts (default: once).

    Returns:
        1 for the same order, -1 for the reverse; NaN if either side is constant.

    Reference:
        M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).

    Example:
        >>> float(kendall_tau(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, 0.3, 0.2])))
        0.333333...
    """
    prediction, target, weights = _columns(prediction, target, weights)

    def row(sample):
        p, y, weight = sample
        p_sign, y_sign = jnp.sign(p - prediction), jnp.sign(y - target)
        terms = jnp.stack([p_sign * y_sign, jnp.abs(p_sign), jnp.abs(y_sign)])
        return weight * (terms @ weights)

    rows = jax.lax.map(row, (prediction, target, weights), batch_size=_ROWS_AT_ONCE)
    agreement, p_pairs, y_pairs = jnp.sum(rows, axis=0)
    return agreement / jnp.sqrt(p_pairs * y_pairs)


class Interval(NamedTuple):
    """A value with its bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    metric: Callable[..., jax.Array],
    *columns: jax.Array,
    key: jax.Array,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a metric over samples.

    The same `key` and number of samples give the same resamples, so that intervals of several
    predictors are comparable; for the interval of a difference pass a metric that takes both,
    `bootstrap(lambda a, b, y, w: r2(a, y, w) - r2(b, y, w), a, b, y, key=key)`.

    Args:
        metric: called as `metric(*columns, weights)` with integer counts as weights.
        *columns: one value a sample each, all of one length.
        key: a typed key.
        resamples: how many times the samples are drawn with replacement.
        level: the mass between the two ends.

    Returns:
        The metric on all samples, and the two quantiles over resamples.

    Raises:
        ValueError: columns of different lengths, no samples, or a level outside (0, 1).

    Reference:
        B. Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7 (1979).

    Example:
        >>> y = jnp.linspace(0.0, 1.0, 50)
        >>> bootstrap(r2, y, y, key=jax.random.key(0), resamples=10)
        Interval(value=1.0, low=1.0, high=1.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` is {level}; it is the mass of the interval, between 0 and 1.")
    columns = tuple(jnp.asarray(column) for column in columns)
    shapes = [column.shape for column in columns]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1 or shapes[0][0] == 0:
        raise ValueError(f"`columns` must be vectors of one length; their shapes are {shapes}.")
    n = shapes[0][0]

    def resample(key):
        drawn = jax.random.randint(key, (n,), 0, n)
        counts = jnp.zeros(n, columns[0].dtype).at[drawn].add(1)
        return metric(*columns, counts)

    run = jax.jit(lambda keys: jax.lax.map(resample, keys))
    values = run(jax.random.split(key, resamples))
    tail = (1 - level) / 2
    low, high = jnp.nanquantile(values, jnp.array([tail, 1 - tail], values.dtype))
    value = metric(*columns, jnp.ones(n, columns[0].dtype))
    return Interval(float(value), float(low), float(high))


def _columns(prediction, target, weights):
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    dtype = jnp.result_type(prediction, target, jnp.float32)
    weights = jnp.ones(target.shape) if weights is None else jnp.asarray(weights)
    if not prediction.shape == target.shape == weights.shape or target.ndim != 1:
        raise ValueError(
            "`prediction`, `target` and `weights` must be vectors of one length; their shapes are "
            f"{prediction.shape}, {target.shape} and {weights.shape}."
        )
    return prediction.astype(dtype), target.astype(dtype), weights.astype(dtype)
