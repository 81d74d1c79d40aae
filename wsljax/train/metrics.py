"""How good predictions of a scalar property are: R2, rank correlations, bootstrap intervals.

All metrics take integer sample weights, so resampling with replacement is a vector of counts and a
bootstrap is one vectorised call: samples are sorted once for many resamples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

_RESAMPLES_AT_ONCE = 64
_NUMBERS_AT_ONCE = 2**22


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
    number of pairs untied in `p` times that untied in `y`. O(n log n), in O(n) memory: two samples
    are compared at the highest bit in which their ranks in `p` differ, and for each bit one sort by
    `y` and one cumulative sum count all pairs.

    Args:
        prediction, target: one value a sample.
        weights: how often each sample counts (default: once).

    Returns:
        1 for the same order, -1 for the reverse; NaN if either side is constant or has a NaN.

    Reference:
        M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).
        W. R. Knight, "A computer method for calculating Kendall's tau with ungrouped data", JASA 61
        (1966), for O(n log n) by merging.

    Example:
        >>> float(kendall_tau(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, 0.3, 0.2])))
        0.333333...
    """
    return _kendall(*_columns(prediction, target, weights))


@jax.jit
def _kendall(prediction: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
    n = len(target)
    p, y = _dense_rank(prediction), _dense_rank(target)

    def level(agreement, bit):
        group, right = p >> (bit + 1), (p >> bit) & 1
        order = jnp.lexsort((y, group))
        group, value, right, w = group[order], y[order], right[order], weights[order]
        left = jnp.concatenate([jnp.zeros(1, w.dtype), jnp.cumsum(w * (1 - right))])
        new_group = jnp.concatenate([jnp.ones(1, bool), group[1:] != group[:-1]])
        new_value = jnp.concatenate([jnp.ones(1, bool), value[1:] != value[:-1]]) | new_group
        below = left[_start(new_value)] - left[_start(new_group)]
        above = left[_stop(new_group)] - left[_stop(new_value)]
        return agreement + jnp.sum(w * right * (below - above)), None

    bits = jnp.arange(max(1, (n - 1).bit_length()))
    agreement, _ = jax.lax.scan(level, jnp.zeros((), weights.dtype), bits)
    p_pairs, y_pairs = _untied(p, weights), _untied(y, weights)
    tau = 2 * agreement / jnp.sqrt(p_pairs * y_pairs)
    return jnp.where(jnp.isnan(prediction + target).any(), jnp.nan, tau)


def spearman(
    prediction: jax.Array,
    target: jax.Array,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Spearman's rank correlation: the correlation of the ranks, those of ties averaged.

    Args:
        prediction, target: one value a sample.
        weights: how often each sample counts (default: once).

    Returns:
        1 for the same order, -1 for the reverse; NaN if either side is constant or has a NaN.

    Reference:
        C. Spearman, "The proof and measurement of association between two things", Am. J. Psychology
        15 (1904).

    Example:
        >>> round(float(spearman(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, 0.3, 0.2]))), 3)
        0.5
    """
    return _spearman(*_columns(prediction, target, weights))


@jax.jit
def _spearman(prediction: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
    total = jnp.sum(weights)
    p, y = (_average_rank(column, weights) for column in (prediction, target))
    p, y = (r - jnp.sum(weights * r) / total for r in (p, y))
    spread = jnp.sqrt(jnp.sum(weights * p * p)) * jnp.sqrt(jnp.sum(weights * y * y))
    found = jnp.sum(weights * p * y) / spread
    return jnp.where(jnp.isnan(prediction + target).any(), jnp.nan, found)


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

    together = min(_RESAMPLES_AT_ONCE, max(1, _NUMBERS_AT_ONCE // n))
    values = _resampled(metric, together, jax.random.split(key, resamples), columns)
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


def _dense_rank(x: jax.Array) -> jax.Array:
    """0 for the smallest value, 1 for the next larger one; equal values share a rank."""
    order = jnp.argsort(x)
    new = jnp.concatenate(
        [jnp.zeros(1, jnp.int32), (x[order][1:] != x[order][:-1]).astype(jnp.int32)]
    )
    return jnp.zeros(len(x), jnp.int32).at[order].set(jnp.cumsum(new, dtype=jnp.int32))


def _start(new: jax.Array) -> jax.Array:
    """Where the run of equal values begins that each place is in; `new` marks first places."""
    return jax.lax.cummax(jnp.where(new, jnp.arange(len(new)), 0))


def _stop(new: jax.Array) -> jax.Array:
    """Where that run ends, exclusive."""
    n = len(new)
    last = jnp.concatenate([new[1:], jnp.ones(1, bool)])
    return jax.lax.cummin(jnp.where(last, jnp.arange(1, n + 1), n), reverse=True)


def _untied(rank: jax.Array, weights: jax.Array) -> jax.Array:
    """Ordered pairs of different ranks."""
    tied = jnp.zeros(len(rank), weights.dtype).at[rank].add(weights)
    below = jnp.cumsum(tied) - tied
    return 2 * jnp.sum(tied * below)


def _average_rank(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The mean place of each sample among all its copies and ties, each weight being its copies."""
    rank = _dense_rank(x)
    tied = jnp.zeros(len(x), weights.dtype).at[rank].add(weights)
    return (jnp.cumsum(tied) - tied + (tied + 1) / 2)[rank]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _resampled(metric: Callable, together: int, keys: jax.Array, columns: tuple) -> jax.Array:
    """The metric on each resample; compiled once for each metric and number of samples."""
    n = len(columns[0])

    def one(key):
        drawn = jax.random.randint(key, (n,), 0, n)
        counts = jnp.zeros(n, columns[0].dtype).at[drawn].add(1)
        return metric(*columns, counts)

    return jax.lax.map(one, keys, batch_size=together)
