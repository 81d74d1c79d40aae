"""Tasks for optimisers, and the run of one optimiser on one task as an inner problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .inner_problem import InnerProblem


class Task(NamedTuple):
    """Something to learn, as three pure functions.

    Attributes:
        init: ``init(key) -> params``.
        loss: ``loss(params, batch) -> scalar``.
        batches: ``batches(key, step) -> batch``: a run has one key and counts its steps.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    batches: Callable[[jax.Array, jax.Array], Any]


class Run(NamedTuple):
    """A run of an optimiser on a task: weights, the optimiser's state, steps so far, key of the batches."""

    params: Any
    state: Any
    count: jax.Array
    key: jax.Array


def training_run(
    task: Task,
    optimiser: Callable[[Any], optax.GradientTransformation],
    *,
    ceiling: float | None = None,
) -> InnerProblem:
    """Training on a task, as a problem whose ``theta`` makes the optimiser.

    The loss of a step is that of its batch before the update, so an update is judged by the batches after
    it. Gradients through the run include how the task's gradients change with its weights.

    Args:
        task: what is learned.
        optimiser: ``optimiser(theta)``, an optax transform.
        ceiling: losses above it, and those that are no numbers, count as this much. Without it one run
            that diverges outweighs all others.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> task = Task(
        ...     init=lambda key: jnp.array([2.0]),
        ...     loss=lambda p, batch: jnp.sum((p - batch) ** 2),
        ...     batches=lambda key, step: jnp.zeros(1),
        ... )
        >>> inner = training_run(task, lambda rate: optax.sgd(rate))
        >>> state, loss = inner.step(0.25, inner.start(0.25, jax.random.key(0)))
        >>> float(loss), state.params.tolist()
        (4.0, [1.0])
    """

    def start(theta: Any, key: jax.Array) -> Run:
        key_init, key_batches = jax.random.split(key)
        params = task.init(key_init)
        return Run(params, optimiser(theta).init(params), jnp.zeros((), jnp.int32), key_batches)

    def step(theta: Any, run: Run) -> tuple[Run, jax.Array]:
        batch = task.batches(run.key, run.count)
        loss, gradients = jax.value_and_grad(task.loss)(run.params, batch)
        updates, state = optimiser(theta).update(gradients, run.state, run.params)
        params = optax.apply_updates(run.params, updates)
        if ceiling is not None:
            top = jnp.asarray(ceiling, loss.dtype)
            loss = jnp.where(jnp.isfinite(loss), jnp.minimum(loss, top), top)
        return Run(params, state, run.count + 1, run.key), loss

    return InnerProblem(start, step)


def run_task(
    task: Task, optimiser: optax.GradientTransformation, *, steps: int, every: int = 1, key: jax.Array,
    measure: Callable[[Any], Any] | None = None,
) -> tuple[Any, jax.Array, Any]:  # fmt: skip
    """Train on a task from a fresh start.

    Args:
        task, optimiser: what is learned, and how.
        steps: how many, a multiple of ``every``.
        every: steps between two measurements.
        key: of the initial weights and the batches.
        measure: ``measure(params) -> tree of arrays``, called after each ``every`` steps.

    Returns:
        The weights, the losses of all batches before their updates ``(steps,)``, and what was measured,
        stacked ``(steps // every, ...)``.

    Raises:
        ValueError: ``steps`` is not a multiple of ``every``.
    """
    if every < 1 or steps % every:
        raise ValueError(f"`steps` must be a multiple of `every`; got {steps} and {every}")
    inner = training_run(task, lambda _: optimiser)

    def piece(run: Run, _: None) -> tuple[Run, tuple[jax.Array, Any]]:
        run, losses = jax.lax.scan(lambda r, _: inner.step(None, r), run, None, length=every)
        return run, (losses, None if measure is None else measure(run.params))

    start = inner.start(None, key)
    run, (losses, measured) = jax.lax.scan(piece, start, None, length=steps // every)
    return run.params, losses.reshape(-1), measured
