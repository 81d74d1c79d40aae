"""The outer loop: estimate a gradient, make a step, say how it goes."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax

from ...train.logs import Log
from .estimator import Estimator


class MetaTraining(NamedTuple):
    """What comes out.

    Attributes:
        theta: as trained.
        history: ``{"loss", "gradient_norm", "dropped"}``, each a float array ``(steps,)``.
    """

    theta: Any
    history: dict[str, np.ndarray]


def meta_train(
    theta: Any,
    estimator: Estimator,
    optimiser: optax.GradientTransformation,
    *,
    steps: int,
    key: jax.Array,
    every: int = 50,
    log: Log | None = None,
) -> MetaTraining:
    """Train settings by the losses of what they do.

    Args:
        theta: what to begin with, a tree of floating arrays (for modules with others, take
            ``equinox.partition(net, equinox.is_inexact_array)``).
        estimator: of its gradient, e.g. :func:`.persistent_evolution`.
        optimiser: makes steps of gradients; clip them by chaining.
        steps: how many.
        key: of all particles.
        every: steps of one compiled program, after which ``log`` is called.
        log: ``log(step, metrics)`` with the means since the last call.

    Raises:
        TypeError: a leaf of ``theta`` is no floating array; names it.
        ValueError: ``steps`` or ``every`` is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax.applications.meta_training import *
        >>> task = Task(
        ...     lambda key: jax.random.normal(key, (3,)), lambda p, b: jnp.sum(p**2), lambda key, step: None
        ... )
        >>> inner = training_run(task, lambda log_rate: optax.sgd(jnp.exp(log_rate)), ceiling=100.0)
        >>> unrolled = unrolled_gradients(inner, particles=8, truncation=5, horizon=10)
        >>> found = meta_train(jnp.log(0.01), unrolled, optax.adam(0.1), steps=60, key=jax.random.key(0))
        >>> bool(0.2 < jnp.exp(found.theta) < 0.8)  # the best rate is 0.5
        True
    """
    if steps < 1 or every < 1:
        raise ValueError(f"`steps` and `every` must be positive; got {steps} and {every}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(theta):
        if not eqx.is_inexact_array(leaf):
            raise TypeError(
                f"`theta`{jax.tree_util.keystr(path)} is {leaf!r}, no floating array; partition with "
                "`equinox.partition(theta, equinox.is_inexact_array)`"
            )

    carry = (theta, optimiser.init(theta), jax.jit(estimator.init)(theta, key))
    pieces = []
    for done in range(0, steps, every):
        count = min(every, steps - done)
        carry, told = _run(estimator, optimiser, carry, count)
        pieces.append(jax.tree.map(np.asarray, told))
        if log is not None:
            log(done + count, {name: float(x.mean()) for name, x in pieces[-1].items()})
    history = {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}
    return MetaTraining(carry[0], history)


@eqx.filter_jit
def _run(
    estimator: Estimator, optimiser: optax.GradientTransformation, carry: Any, count: int
) -> tuple[Any, dict[str, jax.Array]]:
    """So many steps; compiled once for an estimator and an optimiser, however often they are used."""

    def step(carry: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:
        theta, state, particles = carry
        found, particles = estimator.estimate(theta, particles)
        updates, state = optimiser.update(found.gradient, state, theta)
        told = {
            "loss": found.loss,
            "gradient_norm": optax.tree.norm(found.gradient),
            "dropped": found.dropped,
        }
        return (optax.apply_updates(theta, updates), state, particles), told

    return jax.lax.scan(step, carry, None, length=count)
