"""Exact quantiles of many rows at once, without sorting them.

Sorting is the slow part of weight statistics on a CPU. A quantile needs two neighbours in the sorted
row only, and where to cut a row so that exactly `t` entries lie below is found in a few passes that
count: the first cut is that of a normal distribution, the next ones are Newton's and, within a
bracket, a secant's, and where those stall the bracket is halved in the bits of the floats, so that
every search ends. Most cuts need about five counts; the few that need more are gathered and finished
by themselves. Each pass is one comparison and one sum an entry.

Reference for the idea: R. W. Floyd and R. L. Rivest, "Expected time bounds for selection",
Communications of the ACM 18 (1975), who bracket by a sample where this starts from two moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

TOGETHER = 6
"""Counts that all cuts take together; the unfinished ones then go on by themselves."""

STRAGGLERS = 8
"""One in so many cuts is gathered at a time after that."""

DENSE = 16
"""Entries in the bracket below which its own density is used, not that of a normal."""

PLAIN = 14
"""Counts after which every other cut halves the bracket."""


class Moments(NamedTuple):
    """What the search starts from, one value a row, `(rows, 1)` each."""

    count: jax.Array
    mean: jax.Array
    variance: jax.Array
    low: jax.Array
    high: jax.Array

    @property
    def deviation(self) -> jax.Array:
        """The root of the variance, with gradient 0 at 0."""
        positive = self.variance > 0
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, self.variance, 1)), self.variance)


class _Cuts(NamedTuple):
    """A search each: `below(low) < target <= below(high)`; `at` is the cut to count next."""

    low_count: jax.Array
    high_count: jax.Array
    low: jax.Array
    high: jax.Array
    at: jax.Array
    slope: jax.Array
    done: jax.Array


def moments(x: jax.Array, mask: jax.Array | None = None) -> Moments:
    """Count, mean, variance (ddof 0), minimum and maximum of the rows of `x` `(rows, n)`.

    Entries outside `mask` `(rows, n)` do not count. NaN in, NaN out.
    """
    if mask is None:
        count = jnp.full((x.shape[0], 1), x.shape[1], x.dtype)
        mean = jnp.mean(x, axis=1, keepdims=True)
        square = jnp.mean((x - mean) ** 2, axis=1, keepdims=True)
        low, high = (f(x, axis=1, keepdims=True) for f in (jnp.min, jnp.max))
    else:
        count = jnp.sum(mask, axis=1, keepdims=True, dtype=x.dtype)
        mean = jnp.sum(jnp.where(mask, x, 0), axis=1, keepdims=True) / count
        square = jnp.where(mask, (x - mean) ** 2, 0)
        square = jnp.sum(square, axis=1, keepdims=True) / count
        low = jnp.min(jnp.where(mask, x, jnp.inf), axis=1, keepdims=True)
        high = jnp.max(jnp.where(mask, x, -jnp.inf), axis=1, keepdims=True)
    return Moments(count, mean, square, low, high)


def quantiles(
    x: jax.Array,
    probabilities: Sequence[float],
    mask: jax.Array | None = None,
    known: Moments | None = None,
) -> jax.Array:
    """Quantiles of every row, linearly interpolated as `numpy.quantile` does.

    Differentiable: the gradient goes to the two neighbours of each quantile.

    Args:
        x: `(rows, n)`, of any floating dtype; counts are exact for `n` below 2^24 in float32.
        probabilities: between 0 and 1.
        mask: `(rows, n)`; entries outside it are as if they were not there.
        known: `moments(x, mask)`, where they are needed anyway.

    Returns:
        `(rows, len(probabilities))`; NaN for a row that holds a NaN or has no entry.

    Raises:
        ValueError: `x` is not a matrix, or a probability is not between 0 and 1.

    Example:
        >>> quantiles(jnp.array([[4.0, 1.0, 3.0, 2.0]]), (0.0, 0.5, 0.75)).tolist()
        [[1.0, 2.5, 3.25]]
    """
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"`x` has shape {x.shape}; it is (rows, n), with one entry or more.")
    if not all(0 <= p <= 1 for p in probabilities):
        raise ValueError(f"`probabilities` is {tuple(probabilities)}; they are between 0 and 1.")
    known = moments(x, mask) if known is None else known
    inner = [p for p in probabilities if 0 < p < 1]
    found = {0: known.low[:, 0], 1: known.high[:, 0]}
    if inner:
        values = _interior(x, tuple(inner), mask, known)
        found |= {p: values[:, k] for k, p in enumerate(inner)}
    out = jnp.stack([found[p] for p in probabilities], axis=1)
    return jnp.where(jnp.isnan(known.low) | (known.count == 0), jnp.nan, out)


def _interior(x: jax.Array, probabilities: tuple[float, ...], mask, known: Moments) -> jax.Array:
    x = x if mask is None else jnp.where(mask, x, jnp.inf)
    place = jnp.asarray(probabilities, x.dtype) * (known.count - 1)
    rank = jnp.clip(jnp.floor(place), 0, jnp.maximum(known.count - 2, 0))
    weight = place - rank
    still = jax.lax.stop_gradient
    cut, tied = _search(still(x), still(rank) + 1, still(known))
    lower = jnp.max(jnp.where(x[:, None] <= cut[..., None], x[:, None], -jnp.inf), axis=-1)
    upper = jnp.min(jnp.where(x[:, None] > cut[..., None], x[:, None], jnp.inf), axis=-1)
    upper = jnp.where(tied | (weight == 0), lower, upper)
    gap = upper - lower
    near = weight < 0.5  # the two forms of numpy, each exact at its own end
    return jnp.where(near, lower + gap * weight, upper - gap * (1 - weight))


def _search(x: jax.Array, target: jax.Array, known: Moments) -> tuple[jax.Array, jax.Array]:
    """Cuts `(rows, k)` with `target` entries at or below, and whether ties make that impossible."""
    count, mean, _, low, high = known
    target = jnp.broadcast_to(target, jnp.broadcast_shapes(target.shape, count.shape))
    shape = target.shape
    normal = jax.scipy.special.ndtri(jnp.clip(target / jnp.maximum(count, 1), 1e-6, 1 - 1e-6))
    density = jnp.exp(-(normal**2) / 2) / jnp.sqrt(2 * jnp.pi).astype(x.dtype)

    def full(value):
        return jnp.broadcast_to(value, shape)

    start = jnp.clip(mean + known.deviation * normal, low, high)
    cuts = _Cuts(
        jnp.zeros(shape, x.dtype),
        full(count),
        full(_value(_bits(low) - 1)),
        full(high),
        jnp.where(jnp.isfinite(start), start, full(low)),
        count * density / known.deviation,
        full(~(low < high) | (count < 2)),
    )
    cuts = _until_done(x, target, cuts, 0, TOGETHER)
    cuts = _stragglers(x, target, cuts)
    return cuts.high, cuts.high_count != target


def _stragglers(x: jax.Array, target: jax.Array, cuts: _Cuts) -> _Cuts:
    """Finish what is not done, a gathered few at a time."""
    shape, number = target.shape, target.size
    few = max(1, -(-number // STRAGGLERS))
    target = target.reshape(-1, 1)
    cuts = jax.tree.map(lambda a: a.reshape(-1, 1), cuts)

    def body(cuts: _Cuts) -> _Cuts:
        index = jnp.argsort(cuts.done[:, 0], stable=True)[:few]
        some = jax.tree.map(lambda a: a[index], cuts)
        some = _until_done(x[index // shape[1]], target[index], some, TOGETHER, None)
        return jax.tree.map(lambda a, b: a.at[index].set(b, unique_indices=True), cuts, some)

    cuts = jax.lax.while_loop(lambda cuts: ~jnp.all(cuts.done), body, cuts)
    return jax.tree.map(lambda a: a.reshape(shape), cuts)


def _until_done(x, target, cuts: _Cuts, start: int, stop: int | None) -> _Cuts:
    def more(state):
        cuts, turn = state
        left = ~jnp.all(cuts.done)
        return left if stop is None else left & (turn < stop)

    def body(state):
        cuts, turn = state
        return _count_and_move(x, target, cuts, turn), turn + 1

    return jax.lax.while_loop(more, body, (cuts, jnp.int32(start)))[0]


def _count_and_move(x: jax.Array, target: jax.Array, cuts: _Cuts, turn: jax.Array) -> _Cuts:
    below = _count(x, cuts.at)
    low = below < target
    low_count, high_count = jnp.where(low, below, cuts.low_count), jnp.where(low, cuts.high_count, below)
    low_end, high_end = jnp.where(low, cuts.at, cuts.low), jnp.where(low, cuts.high, cuts.at)
    low_bits, high_bits = _bits(low_end), _bits(high_end)
    done = cuts.done | (below == target) | (low_bits >= high_bits - 1)

    inside = high_count - low_count
    secant = low_end + (high_end - low_end) * ((target - low_count + 0.5) / (inside + 1))
    newton = cuts.at + (target - below) / cuts.slope
    at = jnp.where(inside <= DENSE, secant, newton)
    at = jnp.where((at > low_end) & (at < high_end), at, secant)
    middle = _value((low_bits >> 1) + (high_bits >> 1) + (low_bits & high_bits & 1))
    halve = ((turn >= PLAIN) & (turn % 2 == 1)) | ~((at > low_end) & (at < high_end))
    at = jnp.where(halve, middle, at)
    new = _Cuts(low_count, high_count, low_end, high_end, at, cuts.slope, done)
    return jax.tree.map(lambda a, b: jnp.where(cuts.done, a, b), cuts, new)


def _count(x: jax.Array, cut: jax.Array) -> jax.Array:
    """How many entries of each row are at or below each of its cuts, in the dtype of `x`."""
    return jnp.sum((x[:, None] <= cut[..., None]).astype(x.dtype), axis=-1)


def _bits(x: jax.Array) -> jax.Array:
    """Integers in the order of the floats."""
    width = jnp.finfo(x.dtype).bits
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{width}"))
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def _value(bits: jax.Array) -> jax.Array:
    """The inverse of `_bits`."""
    width = jnp.iinfo(bits.dtype).bits
    bits = jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)
    return jax.lax.bitcast_convert_type(bits, jnp.dtype(f"float{width}"))
