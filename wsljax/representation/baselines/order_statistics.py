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
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TOGETHER = 7
"""Counts that all cuts take together; the unfinished ones then go on by themselves."""

STRAGGLERS = 16
"""One in so many cuts is gathered at a time after that."""

DENSE = 16
"""Entries in the bracket below which its own density is used, not that of a normal."""

PLAIN = 14
"""Counts after which every other cut halves the bracket."""

FIELD = 10
"""Bits of a count; three fit an integer."""

FIELD_MAX = 2**FIELD - 1


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
    """A search each: `low_count < target <= high_count` entries are at or below its two ends.

    `at` is the cut to count next. A search that is done counts its upper end again, which changes nothing.
    """

    low_count: jax.Array
    high_count: jax.Array
    low: jax.Array
    high: jax.Array
    at: jax.Array


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
    found: dict[float, jax.Array] = {0: known.low[:, 0], 1: known.high[:, 0]}
    if inner:
        values = _interior(x, tuple(inner), mask, known)
        found |= {p: values[:, k] for k, p in enumerate(inner)}
    out = jnp.stack([found[p] for p in probabilities], axis=1)
    return jnp.where(jnp.isnan(known.low) | (known.count == 0), jnp.nan, out)


def _interior(x: jax.Array, probabilities: tuple[float, ...], mask, known: Moments) -> jax.Array:
    x = x if mask is None else jnp.where(mask, x, jnp.inf)
    rank, weight = _places(probabilities, x, None if mask is None else known.count)
    still = jax.lax.stop_gradient
    cut, tied = _search(still(x), still(rank) + 1, still(known))
    lower = jnp.max(jnp.where(x[:, None] <= cut[..., None], x[:, None], -jnp.inf), axis=-1)
    upper = jnp.min(jnp.where(x[:, None] > cut[..., None], x[:, None], jnp.inf), axis=-1)
    upper = jnp.where(tied | (weight == 0), lower, upper)
    gap = upper - lower
    near = weight < 0.5  # the two forms of numpy, each exact at its own end
    return jnp.where(near, lower + gap * weight, upper - gap * (1 - weight))


def _places(probabilities: tuple[float, ...], x: jax.Array, count: jax.Array | None):
    """The lower neighbour of each quantile and the share of the upper one, exactly: in float64 where the
    count is known now, in integers where it is not (probabilities are then fractions, to 1e-9)."""
    if count is None:
        place = np.asarray(probabilities, np.float64) * (x.shape[1] - 1)
        rank = np.clip(np.floor(place), 0, max(x.shape[1] - 2, 0))
        return jnp.asarray(rank, x.dtype)[None], jnp.asarray(place - rank, x.dtype)[None]
    fractions = [Fraction(p).limit_denominator(30_000) for p in probabilities]
    over = jnp.asarray([f.numerator for f in fractions], jnp.int32)
    under = jnp.asarray([f.denominator for f in fractions], jnp.int32)
    whole, rest = jnp.divmod(jnp.maximum(count.astype(jnp.int32) - 1, 0), under)
    rank = whole * over + rest * over // under
    weight = (rest * over % under).astype(x.dtype) / under.astype(x.dtype)
    return rank.astype(x.dtype), weight


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
    start = jnp.where(jnp.isfinite(start), start, full(low))
    cuts = _Cuts(
        jnp.zeros(shape, x.dtype), full(count), full(_value(_bits(low) - 1)), full(high), start
    )
    goal = _Goal(target, full(count * density / known.deviation))
    cuts = cuts._replace(at=jnp.where(_done(cuts, target), cuts.high, start))
    x = _blocks(x)
    cuts = _until_done(x, goal, cuts, 0, TOGETHER)
    cuts = _stragglers(x, goal, cuts)
    return cuts.high, cuts.high_count != target


class _Goal(NamedTuple):
    """How many entries are to lie at or below a cut, and how many a unit of length a normal has there."""

    target: jax.Array
    slope: jax.Array


def _done(cuts: _Cuts, target: jax.Array) -> jax.Array:
    return (cuts.high_count == target) | (_bits(cuts.low) >= _bits(cuts.high) - 1)


def _stragglers(x: jax.Array, goal: _Goal, cuts: _Cuts) -> _Cuts:
    """Finish what is not done, a gathered few at a time."""
    shape, number = goal.target.shape, goal.target.size
    few = max(1, -(-number // STRAGGLERS))
    goal, cuts = jax.tree.map(lambda a: a.reshape(-1, 1), (goal, cuts))

    def body(cuts: _Cuts) -> _Cuts:
        _, index = jax.lax.top_k(-_done(cuts, goal.target)[:, 0].astype(jnp.int32), few)
        some, aim = jax.tree.map(lambda a: a[index], (cuts, goal))
        some = _until_done(x[index // shape[1]], aim, some, TOGETHER, None)
        return jax.tree.map(lambda a, b: a.at[index].set(b, unique_indices=True), cuts, some)

    cuts = jax.lax.while_loop(lambda cuts: ~jnp.all(_done(cuts, goal.target)), body, cuts)
    return jax.tree.map(lambda a: a.reshape(shape), cuts)


def _until_done(x, goal: _Goal, cuts: _Cuts, start: int, stop: int | None) -> _Cuts:
    def more(state):
        cuts, turn = state
        left = ~jnp.all(_done(cuts, goal.target))
        return left if stop is None else left & (turn < stop)

    def body(state):
        cuts, turn = state
        return _count_and_move(x, goal, cuts, turn), turn + 1

    return jax.lax.while_loop(more, body, (cuts, jnp.int32(start)))[0]


def _count_and_move(x: jax.Array, goal: _Goal, cuts: _Cuts, turn: jax.Array) -> _Cuts:
    target, last = goal.target, cuts.at
    below = _count(x, last)
    low = below < target
    cuts = _Cuts(
        jnp.where(low, below, cuts.low_count),
        jnp.where(low, cuts.high_count, below),
        jnp.where(low, last, cuts.low),
        jnp.where(low, cuts.high, last),
        last,
    )
    inside = cuts.high_count - cuts.low_count
    share = (target - cuts.low_count + 0.5) / (inside + 1)
    secant = cuts.low + (cuts.high - cuts.low) * share
    newton = last + (target - below) / goal.slope
    at = jnp.where(inside <= DENSE, secant, newton)
    at = jnp.where((at > cuts.low) & (at < cuts.high), at, secant)
    halve = ((turn >= PLAIN) & (turn % 2 == 1)) | ~((at > cuts.low) & (at < cuts.high))
    at = jnp.where(halve, _middle(cuts.low, cuts.high), at)
    return cuts._replace(at=jnp.where(_done(cuts, target), cuts.high, at))


def _middle(low: jax.Array, high: jax.Array) -> jax.Array:
    """The float in the middle of the floats between the two."""
    a, b = _bits(low), _bits(high)
    return _value((a >> 1) + (b >> 1) + (a & b & 1))


def _blocks(x: jax.Array) -> jax.Array:
    """Rows `(rows, n)` as `(rows, blocks, length)`, so short that counts fit a field; the rest is inf."""
    rows, n = x.shape
    blocks = -(-n // FIELD_MAX)
    length = -(-n // blocks)
    x = jnp.pad(x, ((0, 0), (0, blocks * length - n)), constant_values=jnp.inf)
    return x.reshape(rows, blocks, length)


def _count(x: jax.Array, cuts: jax.Array) -> jax.Array:
    """How many entries of each row are at or below each of its cuts `(rows, k)`, which are finite.

    Three counts are fields of one integer, so that one sum over `x` counts for three cuts.
    """
    out = []
    for first in range(0, cuts.shape[1], 3):
        some = cuts[:, first : first + 3, None, None]
        word = sum(
            jnp.where(x <= some[:, j], jnp.int32(1 << (FIELD * j)), 0) for j in range(some.shape[1])
        )
        word = jnp.sum(word, axis=-1, dtype=jnp.int32)
        fields = [(word >> (FIELD * j)) & FIELD_MAX for j in range(some.shape[1])]
        out += [jnp.sum(field, axis=1) for field in fields]
    return jnp.stack(out, axis=1).astype(x.dtype)


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
