"""Geodesics: the paths on which the network's function changes least.

C. Tan, T. Long, S. Zhao, R. Laine, "Geodesic mode connectivity", ICLR 2023 (Tiny Papers): a path is a chain
of networks, and the distance of neighbours is that of the distributions which they predict. The sum of the
Jensen-Shannon divergences of neighbours is minimised with the ends held; the length is the sum of their
square roots. To second order the divergence is 1/8 of the squared step in the Fisher metric, so lengths are
Fisher lengths divided by ``sqrt(8)``.

The metric itself may be used instead: ``"fisher"`` takes each step by the exact Gauss-Newton product

    ``|d|^2 = d^T J^T H J d``,    ``J`` the Jacobian of the outputs at the middle of the step,

with ``H`` the Hessian of the log-partition function (the Fisher matrix of logits), and ``"squared"`` is the
squared difference of outputs, for regression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .descend import descend
from .paths import mix, straight_bends

Metric = str | Callable[[jax.Array, jax.Array], jax.Array]


class Geodesic(NamedTuple):
    """A chain of networks, of which neighbours are joined by lines (:func:`.polygonal`).

    Attributes:
        first, second: the ends.
        bends: the networks between.
        energies: ``(steps,)``, what was minimised, before each step.
    """

    first: Any
    bends: tuple[Any, ...]
    second: Any
    energies: jax.Array

    @property
    def points(self) -> tuple[Any, ...]:
        """The ends and the bends in order."""
        return (self.first, *self.bends, self.second)


def fit_geodesic(
    fn: Callable[..., jax.Array],
    first: Any,
    second: Any,
    *inputs: Any,
    bends: int | Sequence[Any] = 8,
    metric: Metric = "jensen_shannon",
    optimiser: optax.GradientTransformation,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array,
) -> Geodesic:
    """Minimise the energy of a chain of networks, ``n * sum_i distance(i, i + 1)^2`` over its ``n`` steps.

    Its minimum is a shortest chain with steps of one length. Pure: it may be jitted, and vmapped over pairs.

    Args:
        fn: ``fn(params, *inputs)``, outputs ``(examples, ...)``: logits on the last axis, except for
            ``"squared"``.
        first, second: the ends.
        *inputs: trees of arrays with a leading axis of examples. Labels are not needed.
        bends: how many networks between, started on the line; or weights to start from.
        metric: ``"jensen_shannon"``, ``"fisher"``, ``"squared"``, or a function of two outputs that gives
            squared distances of examples.
        optimiser, steps, batch_size, key: see :func:`.fit_curve`.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> fn = lambda w, x: x * w[0] * w[1]  # constant along hyperbolas
        >>> a, b = jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])
        >>> x = jnp.ones((4, 1))
        >>> chain = fit_geodesic(
        ...     fn, a, b, x, bends=5, metric="squared", optimiser=optax.adam(0.02), steps=200, key=jax.random.key(0)
        ... )
        >>> start = chain_length(fn, (a, b / 2 + a / 2, b), x, metric="squared")
        >>> end = chain_length(fn, chain.points, x, metric="squared")
        >>> bool(start > 0.4), bool(end < 0.1)
        (True, True)
    """
    middle = straight_bends(first, second, bends) if isinstance(bends, int) else tuple(bends)

    def objective(middle, batch, key):
        found = steps_squared(fn, (first, *middle, second), *batch, metric=metric)
        return len(found) * jnp.sum(found)

    middle, energies = descend(
        objective, middle, inputs, optimiser=optimiser, steps=steps, batch_size=batch_size, key=key
    )
    return Geodesic(first, middle, second, energies)


def chain_length(
    fn: Callable[..., jax.Array],
    points: Sequence[Any],
    *inputs: Any,
    metric: Metric = "jensen_shannon",
) -> jax.Array:
    """The length of a chain of networks: the sum of the distances of neighbours.

    Args:
        fn, inputs, metric: see :func:`fit_geodesic`.
        points: the networks in order.
    """
    return jnp.sum(jnp.sqrt(steps_squared(fn, points, *inputs, metric=metric)))


def steps_squared(
    fn: Callable[..., jax.Array],
    points: Sequence[Any],
    *inputs: Any,
    metric: Metric = "jensen_shannon",
) -> jax.Array:
    """The squared distances of neighbours, means over examples, ``(len(points) - 1,)``.

    Raises:
        ValueError: for an unknown metric or fewer than two points.
    """
    if len(points) < 2:
        raise ValueError(f"a chain has at least 2 networks, got {len(points)}")
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *points)
    lower, upper = (
        jax.tree.map(lambda x, cut=cut: x[cut], stacked) for cut in (slice(-1), slice(1, None))
    )
    if metric == "fisher":

        def one(a, b):
            middle = mix((a, b), (0.5, 0.5))
            step = jax.tree.map(_difference, a, b)
            out, change = jax.jvp(lambda p: fn(p, *inputs), (middle,), (step,))
            return jnp.mean(_fisher(out, change))

        return jax.vmap(one)(lower, upper)
    named = {"jensen_shannon": jensen_shannon, "squared": squared}
    if isinstance(metric, str) and metric not in named:
        raise ValueError(
            f"`metric` must be one of {['fisher', *sorted(named)]} or a function of two outputs, got {metric!r}"
        )
    distance = named[metric] if isinstance(metric, str) else metric
    outs = jax.vmap(lambda p: fn(p, *inputs))(stacked)
    return jax.vmap(lambda a, b: jnp.mean(distance(a, b)))(outs[:-1], outs[1:])


def jensen_shannon(a: jax.Array, b: jax.Array) -> jax.Array:
    """The Jensen-Shannon divergence, in nats, of the distributions of two arrays of logits (last axis).

    Example:
        >>> import jax.numpy as jnp
        >>> apart = jensen_shannon(jnp.array([50.0, 0.0]), jnp.array([0.0, 50.0]))
        >>> round(float(apart), 4)  # log(2)
        0.6931
    """
    p, q = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
    middle = jnp.logaddexp(p, q) - jnp.log(2.0).astype(p.dtype)
    terms = jnp.exp(p) * (p - middle) + jnp.exp(q) * (q - middle)
    return jnp.maximum(jnp.sum(terms, -1) / 2, 0)


def squared(a: jax.Array, b: jax.Array) -> jax.Array:
    """The squared difference of two outputs ``(examples, ...)``, summed over all but the examples."""
    return jnp.sum(jnp.square(a - b), tuple(range(1, a.ndim)))


def _fisher(logits: jax.Array, change: jax.Array) -> jax.Array:
    """``change^T (diag(p) - p p^T) change``."""
    p = jax.nn.softmax(logits)
    mean = jnp.sum(p * change, -1, keepdims=True)
    return jnp.sum(p * jnp.square(change - mean), -1)


def _difference(a, b):
    if jnp.issubdtype(jnp.result_type(a), jnp.inexact):
        return b - a
    return jnp.zeros(jnp.shape(a), jax.dtypes.float0)
