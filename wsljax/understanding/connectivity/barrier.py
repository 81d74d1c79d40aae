"""Barriers: how much worse a network becomes on the way to another one.

For a loss ``L`` along a path from ``a`` to ``b``

    ``barrier = max_t L(path(t)) - [(1 - t) L(a) + t L(b)]``

(J. Frankle et al., "Linear mode connectivity and the lottery ticket hypothesis", ICML 2020; this form is R.
Entezari et al., "The role of permutation invariance in linear mode connectivity of neural networks", ICLR
2022, equation (1), and that of Git Re-Basin). Other ``baseline`` s are in use: ``"mean"``, the mean of the two
ends at every t (Frankle et al.), and ``"worst"``, the worse end. Three points, ``t = [0, 1/2, 1]``, give the
barrier at the midpoint. Metrics that are better when larger (``higher=True``) are measured downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .paths import Path, linear
from .statistics import examples

POINTS = 25


class Barrier(NamedTuple):
    """What lies between two networks; if ``value`` gives a tree, all but ``t`` are such trees.

    Attributes:
        barrier: the largest excess over the baseline; not below 0, as the ends are on the path.
        where: the ``t`` at which it is.
        curve: ``(points,)``, the value along the path.
        ends: ``(2,)``, the value at both ends.
        t: ``(points,)``.
    """

    barrier: Any
    where: Any
    curve: Any
    ends: Any
    t: jax.Array


def barrier(
    value: Callable[..., Any],
    first: Any,
    second: Any,
    *data: Any,
    path: Path = linear,
    bends: Sequence[Any] = (),
    points: int | Any = POINTS,
    baseline: str = "line",
    higher: Any = False,
    adjust: Callable[[Any, Sequence[Any], jax.Array], Any] | None = None,
    chunk: int | None = None,
    at_once: int | None = None,
) -> Barrier:
    """The barrier between two networks, and the curve.

    Pure: it may be jitted, and vmapped over networks (see :func:`barriers` for many pairs).

    Args:
        value: ``value(params, *data)``, a scalar or a tree of scalars (loss, accuracy, …), which is a mean
            over examples.
        first, second: the networks, aligned or not.
        *data: trees of arrays with a leading axis of examples; none, if ``value`` needs none.
        path: ``path((first, *bends, second), t)``.
        bends: weights between the ends, for paths that have such.
        points: how many values of ``t``, equally spaced with both ends; or the values, from 0 to 1.
        baseline: ``"line"``, ``"mean"`` or ``"worst"``; see the module.
        higher: whether more is better: one bool, or a tree of them as ``value`` gives.
        adjust: ``adjust(params, (first, *bends, second), t)``, weights to be used in place of those on the
            path: batch statistics reset, or REPAIR.
        chunk: examples at a time; any number, the last chunk may be smaller.
        at_once: points at a time; all by default.

    Raises:
        ValueError: for an unknown baseline, values that are not scalars, or ``points`` without both ends.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda w: (w**2 - 1) ** 2
        >>> found = barrier(loss, jnp.array(-1.0), jnp.array(1.0), points=5)
        >>> float(found.barrier), float(found.where), found.curve.tolist()
        (1.0, 0.5, [0.0, 0.5625, 1.0, 0.5625, 0.0])
    """
    t = _points(points)
    if baseline not in ("line", "mean", "worst"):
        raise ValueError(f"`baseline` must be 'line', 'mean' or 'worst', got {baseline!r}")
    along = jax.tree.map(jnp.asarray, (first, *bends, second))
    return _barrier(value, along, t, data, path, baseline, higher, adjust, chunk, at_once)


@eqx.filter_jit
def _barrier(value, along, t, data, path, baseline, higher, adjust, chunk, at_once) -> Barrier:
    def at(t):
        params = path(along, t)
        if adjust is not None:
            params = adjust(params, along, t)
        return mean_value(value, params, *data, chunk=chunk)

    curve = jax.vmap(at)(t) if at_once is None else jax.lax.map(at, t, batch_size=at_once)
    for leaf in jax.tree.leaves(curve):
        if leaf.ndim != 1:
            raise ValueError(f"`value` must give scalars; one has shape {leaf.shape[1:]}")
    signs = jax.tree.broadcast(higher, curve)

    def ends(c):
        return c[jnp.array([0, -1])]

    def excess(c, up):
        a, b = c[0], c[-1]
        worse = jnp.minimum(a, b) if up else jnp.maximum(a, b)
        base = {"line": (1 - t) * a + t * b, "mean": (a + b) / 2, "worst": worse}[baseline]
        return (base - c) if up else (c - base)

    above = jax.tree.map(excess, curve, signs)
    return Barrier(
        jax.tree.map(jnp.max, above),
        jax.tree.map(lambda x: t[jnp.argmax(x)], above),
        curve,
        jax.tree.map(ends, curve),
        t,
    )


def barriers(
    value: Callable[..., Any],
    first: Any,
    second: Any,
    *data: Any,
    bends: Sequence[Any] = (),
    pairs_at_once: int | None = None,
    **options: Any,
) -> Barrier:
    """As :func:`barrier`, for many pairs: the leaves of ``first``, ``second`` and ``bends`` have a leading axis.

    Args:
        pairs_at_once: how many pairs run side by side; all by default.
        **options: of :func:`barrier`.

    Returns:
        :class:`Barrier` with a leading axis of pairs.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda w: (w**2 - 1) ** 2
        >>> barriers(loss, jnp.array([-1.0, 1.0]), jnp.array([1.0, 1.0]), points=5).barrier.tolist()
        [1.0, 0.0]
    """

    def one(pair):
        a, b, middle = pair
        return barrier(value, a, b, *data, bends=middle, **options)

    pairs = (first, second, tuple(bends))
    return (
        jax.vmap(one)(pairs)
        if pairs_at_once is None
        else jax.lax.map(one, pairs, batch_size=pairs_at_once)
    )


def barrier_matrix(
    value: Callable[..., Any],
    population: Any,
    *data: Any,
    pairs_at_once: int = 16,
    **options: Any,
) -> Any:
    """The barriers between all pairs of a population, ``(n, n)``, symmetric with zeros on the diagonal.

    Args:
        value: see :func:`barrier`.
        population: a tree of weights with a leading axis of networks. Aligning them first is the caller's.
        *data: see :func:`barrier`.
        pairs_at_once: how many pairs run side by side; no more weights than these are copied.
        **options: of :func:`barrier`; paths without bends.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda w: (w**2 - 1) ** 2
        >>> barrier_matrix(loss, jnp.array([-1.0, 1.0, 1.0]), points=5).tolist()
        [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    sizes = {len(x) for x in jax.tree.leaves(population)}
    if len(sizes) != 1:
        raise ValueError(
            f"the population needs one leading axis of networks; found lengths {sizes}"
        )
    count = sizes.pop()
    rows, columns = np.triu_indices(count, 1)

    def member(k):
        return jax.tree.map(lambda x: x[k], population)

    def one(pair):
        return barrier(value, member(pair[0]), member(pair[1]), *data, **options).barrier

    found = jax.lax.map(one, (jnp.asarray(rows), jnp.asarray(columns)), batch_size=pairs_at_once)

    def square(x):
        return jnp.zeros((count, count), x.dtype).at[rows, columns].set(x).at[columns, rows].set(x)

    return jax.tree.map(square, found)


def mean_value(value: Callable[..., Any], params: Any, *data: Any, chunk: int | None = None) -> Any:
    """``value(params, *data)``, a mean over examples, with ``chunk`` of them in memory at a time.

    Example:
        >>> import jax.numpy as jnp
        >>> mean = lambda w, x: w * jnp.mean(x)
        >>> float(mean_value(mean, 2.0, jnp.arange(5.0), chunk=2))
        4.0
    """
    if not jax.tree.leaves(data) or chunk is None:
        return value(params, *data)
    count = examples(data)
    if chunk < 1:
        raise ValueError(f"`chunk` is {chunk}; it is a number of examples, at least 1")
    whole = count // chunk * chunk
    if whole <= chunk and whole == count:
        return value(params, *data)
    head = jax.tree.map(lambda x: x[:whole].reshape(-1, chunk, *x.shape[1:]), data)
    tail = jax.tree.map(lambda x: x[whole:], data)
    total = None
    if whole:
        each = jax.lax.map(lambda batch: value(params, *batch), head)
        total = jax.tree.map(lambda x: jnp.mean(x, 0) * (whole / count), each)
    if whole < count:
        rest = jax.tree.map(lambda x: x * ((count - whole) / count), value(params, *tail))
        total = rest if total is None else jax.tree.map(jnp.add, total, rest)
    return total


def _points(points: Any) -> jax.Array:
    if isinstance(points, int):
        if points < 2:
            raise ValueError(f"`points` is {points}; both ends are points, so there are at least 2")
        return jnp.linspace(0, 1, points)
    t = np.asarray(points, float)
    if t.ndim != 1 or len(t) < 2 or t[0] != 0 or t[-1] != 1 or (np.diff(t) < 0).any():
        raise ValueError(f"`points` must rise from 0 to 1, both included; got {t.tolist()}")
    return jnp.asarray(t)
