"""Curves of low loss between two networks, found by training their bends.

T. Garipov, P. Izmailov, D. Podoprikhin, D. Vetrov, A. G. Wilson, "Loss surfaces, mode connectivity, and fast
ensembling of DNNs", NeurIPS 2018, equation (2): with the ends held, minimise the loss at a point of the curve
that is drawn uniformly in every step. ``fit_aligned_curve`` first brings the second end closest to the first
within its orbit (N. Tatro, P.-Y. Chen, P. Das, I. Melnyk, P. Sattigeri, R. Lai, "Optimizing mode connectivity
via neuron alignment", NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from ...symmetry import Spec
from .descend import descend
from .paths import Path, bezier, straight_bends


class Curve(NamedTuple):
    """A trained curve, ``path((first, *bends, second), t)``.

    Attributes:
        first, second: the ends; the second aligned, if it was asked for.
        bends: what was trained.
        losses: ``(steps,)``, at the points that were drawn, before each step.
    """

    first: Any
    bends: tuple[Any, ...]
    second: Any
    losses: jax.Array

    @property
    def points(self) -> tuple[Any, ...]:
        """The ends and the bends in order."""
        return (self.first, *self.bends, self.second)


def fit_curve(
    loss: Callable[..., jax.Array],
    first: Any,
    second: Any,
    *data: Any,
    path: Path = bezier,
    bends: int | Sequence[Any] = 1,
    optimiser: optax.GradientTransformation,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array,
) -> Curve:
    """Train the bends of a curve between two networks.

    Pure: it may be jitted, and vmapped over pairs of networks.

    Args:
        loss: ``loss(params, *data)``, a scalar; in training mode, if the network has one.
        first, second: the ends.
        *data: trees of arrays with a leading axis of examples, if ``loss`` takes any.
        path: :func:`.bezier` or :func:`.polygonal`, or any other ``path(points, t)``.
        bends: how many, started at equal distances on the line; or weights to start from.
        optimiser: any of optax's.
        steps: updates; each at one ``t``, uniform in [0, 1].
        batch_size: examples of each update; None: all.
        key: draws ``t`` and the batches.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax.understanding.connectivity import barrier, bezier
        >>> loss = lambda w: jnp.exp(-jnp.sum(w**2))  # a hill at zero
        >>> a, b = jnp.array([-2.0, 0.1]), jnp.array([2.0, 0.1])
        >>> curve = fit_curve(loss, a, b, optimiser=optax.adam(0.05), steps=300, key=jax.random.key(0))
        >>> line = barrier(loss, a, b).barrier
        >>> bent = barrier(loss, a, b, path=bezier, bends=curve.bends).barrier
        >>> bool(line > 0.9), bool(bent < 0.1)
        (True, True)
    """
    middle = straight_bends(first, second, bends) if isinstance(bends, int) else tuple(bends)

    def objective(middle, batch, key):
        t = jax.random.uniform(key)
        return loss(path((first, *middle, second), t), *batch)

    middle, losses = descend(
        objective, middle, data, optimiser=optimiser, steps=steps, batch_size=batch_size, key=key
    )
    return Curve(first, middle, second, losses)


def fit_aligned_curve(
    loss: Callable[..., jax.Array],
    first: Any,
    second: Any,
    spec: Spec,
    aligning: Any,
    *data: Any,
    **options: Any,
) -> Curve:
    """As :func:`fit_curve`, between the first network and the second one aligned to it.

    Args:
        loss, first, second, data, options: see :func:`fit_curve`.
        spec: the group.
        aligning: see :func:`align_end`.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> k = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k[0], (3, 4)), "b": jax.random.normal(k[1], (4, 2))}
        >>> x = jax.random.normal(k[2], (8, 3))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation",))
        >>> g = spec.sample(jax.random.key(1))
        >>> loss = lambda q, x: jnp.mean((fn(q, x) - fn(p, x)) ** 2)
        >>> back = spec.inverse(g)
        >>> curve = fit_aligned_curve(
        ...     loss, p, spec.act(g, p), spec, back, x, optimiser=optax.sgd(0.1), steps=3, key=k[0]
        ... )
        >>> bool(jnp.allclose(curve.second["a"], p["a"]))
        True
    """
    return fit_curve(loss, first, align_end(first, second, spec, aligning), *data, **options)


def align_end(first: Any, second: Any, spec: Spec, aligning: Any) -> Any:
    """The second network moved within its orbit.

    Args:
        first, second: weights of one spec.
        spec: the group.
        aligning: an element of the group; something with an ``element``, as matchings have; or a function
            ``(first, second, spec)`` that gives one of these.

    Raises:
        TypeError: for anything else.
    """
    found = aligning(first, second, spec) if callable(aligning) else aligning
    found = getattr(found, "element", found)
    if not isinstance(found, Mapping):
        raise TypeError(
            "`aligning` must be an element of the group (a dict of arrays), have one as `.element`, or be "
            f"a function (first, second, spec) that gives one; got {type(found).__name__}"
        )
    return spec.act(found, second)
