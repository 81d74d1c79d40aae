"""REPAIR: give a merged network the statistics that its parents have, by rescaling its weights.

K. Jordan, H. Sedghi, O. Saukh, R. Entezari, B. Neyshabur, "REPAIR: REnormalizing Permuted Activations for
Interpolation Repair", ICLR 2023, equations (4) and (5). In an average of two networks the deviations of
hidden units collapse, layer by layer; REPAIR multiplies and shifts each unit so that

    mean and deviation of the merged unit  =  the same average of its means and deviations in the parents.

Published code wraps every layer of every architecture, inserts batch normalisations and folds them back. Here
the producing weights are found in the traced function (:func:`.find_producers`) and rescaled in place, so the
result is weights of the same network. Statistics of a layer depend on the layers before it: all layers are
set at once, again and again, until nothing moves; after k rounds the first k layers are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .producers import Place, Producers, find_producers
from .statistics import Moments, examples, in_chunks, moments


class Repaired(eqx.Module):
    """What :func:`repair` and :func:`reset_statistics` give.

    Attributes:
        params: the weights.
        error: how far the worst unit is from what it should be: the difference of means and of
            deviations over the deviation that it should have; units that never vary left out.
        rounds: passes over the data that changed weights.
        left: what could not be set, and why, one line each.
    """

    params: Any
    error: jax.Array
    rounds: jax.Array
    left: tuple[str, ...] = eqx.field(static=True)


def repair(
    fn: Callable,
    params: Any,
    ends: Sequence[Any],
    *inputs: Any,
    weights: Any = None,
    chunk: int | None = None,
    rounds: int | None = None,
    tolerance: float = 1e-4,
    last: bool = False,
) -> Repaired:
    """Rescale weights so that each unit has the mean and deviation that it has on average in the ends.

    Pure: it may be jitted, and vmapped over the weights.

    Args:
        fn: ``fn(params, *inputs)``; for networks with batch normalisation in evaluation mode.
        params: the merged weights, usually ``sum_i weights[i] * ends[i]``.
        ends: the networks that were merged, aligned to each other.
        *inputs: trees of arrays with a leading axis of examples, and nothing that mixes examples.
        weights: of the ends in the average, ``(len(ends),)``; equal by default, ``(1 - t, t)`` on a line.
        chunk: how many examples go through at once; it must divide their number.
        rounds: passes at most; by default as many as there are places (or steps of them), two more if
            values go round in a loop.
        tolerance: stop where :attr:`Repaired.error` is below.
        last: also set the layer that gives the results.

    Raises:
        ValueError: if no value can be rescaled, saying why; for weights that are not as many as ends.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def fn(p, x):
        ...     return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]
        >>> def draw(key):
        ...     k = jax.random.split(key, 3)
        ...     shapes = {"w": (4, 8), "b": (8,), "v": (8, 2)}
        ...     return {n: jax.random.normal(k, s) for k, (n, s) in zip(k, shapes.items())}
        >>> a, b = draw(jax.random.key(0)), draw(jax.random.key(1))
        >>> x = jax.random.normal(jax.random.key(2), (256, 4))
        >>> merged = jax.tree.map(lambda u, v: (u + v) / 2, a, b)
        >>> found = repair(fn, merged, (a, b), x)
        >>> spread = lambda p: jnp.std(x @ p["w"] + p["b"], axis=0)
        >>> wanted = (spread(a) + spread(b)) / 2
        >>> bool(jnp.allclose(spread(merged), wanted, rtol=0.1))
        False
        >>> bool(jnp.allclose(spread(found.params), wanted, rtol=1e-3))
        True
    """
    ends = list(ends)
    share = jnp.full(len(ends), 1 / len(ends)) if weights is None else jnp.asarray(weights)
    if share.shape != (len(ends),):
        raise ValueError(
            f"`weights` has shape {share.shape} for {len(ends)} ends; it needs one number each"
        )
    ends, inputs = jax.tree.map(jnp.asarray, (ends, inputs))
    return _repair(fn, params, ends, inputs, share, chunk, rounds, tolerance, last)


@eqx.filter_jit
def _repair(fn, params, ends, inputs, share, chunk, rounds, tolerance, last) -> Repaired:
    found = producers_of(fn, params, inputs, chunk)
    places = [p for p in found.places if last or not p.last]
    if not places:
        why = "\n  ".join(found.left) or "all its layers are the last one (`last=True` sets it)"
        raise ValueError(f"no value in the function can be rescaled by the weights:\n  {why}")
    each = [moments(found, places, end, *inputs, chunk=chunk) for end in ends]

    def averaged(*xs):
        return sum(s * x for s, x in zip(share, xs, strict=True))

    goals = [
        (averaged(*(m.mean for m in ms)), averaged(*(m.deviation for m in ms))) for ms in zip(*each)
    ]

    def correct(leaves, now):
        for place, goal, m in zip(places, goals, now, strict=True):
            _rescale(leaves, place, goal, m)
        return leaves

    def error(leaves, now):
        return jnp.stack(
            [_error(p, goal, m) for p, goal, m in zip(places, goals, now, strict=True)]
        ).max()

    depth = sum(max(1, _steps(p)) for p in places)
    rounds = depth + 2 if rounds is None else rounds
    return settle(
        found, places, params, inputs, correct, error, chunk, rounds, tolerance, found.left
    )


def producers_of(fn: Callable, params: Any, inputs: tuple, chunk: int | None) -> Producers:
    """The producers in ``fn`` at a chunk of the examples."""
    parts = jax.eval_shape(lambda *x: in_chunks(x, chunk), *inputs)
    examples(inputs)
    if parts is None:
        return find_producers(fn, params, *inputs)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts)
    return find_producers(fn, params, *one)


def settle(
    found, places, params, inputs, correct, error, chunk, rounds: int, tolerance, left
) -> Repaired:
    """Measure and correct until the error is small."""
    leaves, treedef = jax.tree.flatten(params)
    leaves = [jnp.asarray(x) for x in leaves]

    def measure(leaves):
        return moments(found, places, treedef.unflatten(leaves), *inputs, chunk=chunk)

    def more(state):
        leaves, now, n = state
        return (n < rounds) & (error(leaves, now) > tolerance)

    def step(state):
        leaves, now, n = state
        leaves = correct(list(leaves), now)
        return leaves, measure(leaves), n + 1

    first = (leaves, measure(leaves), jnp.zeros((), jnp.int32))
    leaves, now, n = jax.lax.while_loop(more, step, first)
    return Repaired(treedef.unflatten(leaves), error(leaves, now), n, left)


def _rescale(leaves: list, place: Place, goal: tuple, now: Moments) -> None:
    mean, deviation = goal
    factor = jnp.where(_alive(now), deviation / jnp.where(_alive(now), now.deviation, 1), 1)
    for entries in place.scale:
        entries.change(leaves, lambda x, s: x * s, factor)
    if place.shift is not None:
        amount = place.shift.sign * (mean - factor * now.mean)
        place.shift.change(leaves, lambda x, t: x + t, amount)


def _alive(now: Moments) -> jax.Array:
    """Units that vary by more than rounding."""
    noise = jnp.finfo(now.mean.dtype).eps * 10
    return now.deviation > noise * (1e-30 + jnp.abs(now.mean))


def _error(place: Place, goal: tuple, now: Moments) -> jax.Array:
    mean, deviation = goal
    off = jnp.abs(now.deviation - deviation)
    if place.shift is not None:
        off = jnp.maximum(off, jnp.abs(now.mean - mean))
    alive = _alive(now) & (deviation > 0)
    return jnp.max(jnp.where(alive, off / jnp.where(alive, deviation, 1), 0))


def _steps(place: Place) -> int:
    steps = 1
    for size in place.lead:
        steps *= size
    return steps
