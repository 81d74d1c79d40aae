"""Training runs that are timed, segment by segment, compilation apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Run(NamedTuple):
    """One training: full-data losses and seconds at ``steps``, the weights, and the last report."""

    steps: list[int]
    losses: list[float]
    seconds: list[float]
    params: Any
    state: Any


class Trainer:
    """Compiles one optimiser once and trains from any start at any learning rate.

    Args:
        loss: ``loss(params, *batch)``.
        optimiser: ``optimiser(learning_rate) -> optax transformation``.
        data: arrays of one length; the loss of a step is on ``batch_size`` of them (all if ``None``).
        inputs: what ``teleporting`` is given as inputs; by default nothing.
        segment: steps between two measurements.
    """

    def __init__(
        self,
        loss: Callable[..., jax.Array],
        optimiser: Callable[[Any], optax.GradientTransformation],
        data: tuple,
        *,
        batch_size: int | None = None,
        inputs: tuple | None = None,
        segment: int = 20,
    ):
        self.data, self.length, self.programs = data, segment, None
        extra = {} if inputs is None else {"inputs": inputs}

        def segment_(p, state, rate, key):
            def step(carry, key):
                p, state = carry
                batch = data
                if batch_size is not None:
                    rows = jax.random.randint(key, (batch_size,), 0, len(data[0]))
                    batch = tuple(a[rows] for a in data)
                gradient = jax.grad(loss)(p, *batch)
                tx = optax.with_extra_args_support(optimiser(rate))
                updates, state = tx.update(gradient, state, p, **extra)
                return (optax.apply_updates(p, updates), state), None

            return jax.lax.scan(step, (p, state), jax.random.split(key, segment))[0]

        self.segment = jax.jit(segment_)
        self.init = lambda p, rate: optimiser(rate).init(p)
        self.measure = jax.jit(lambda p: loss(p, *data))

    def __call__(self, start: Any, rate: float, steps: int, key: jax.Array) -> Run:
        p = jax.tree.map(jnp.asarray, start)
        state = jax.tree.map(jnp.asarray, self.init(p, jnp.float32(rate)))
        keys = jax.random.split(key, steps // self.length)
        if self.programs is None:
            self.programs = self.segment.lower(p, state, jnp.float32(rate), keys[0]).compile()
        losses, seconds, clock = [float(self.measure(p))], [0.0], 0.0
        for k in keys:
            begin = time.perf_counter()
            p, state = jax.block_until_ready(self.programs(p, state, jnp.float32(rate), k))
            clock += time.perf_counter() - begin
            seconds.append(clock)
            losses.append(float(self.measure(p)))
        return Run([self.length * i for i in range(len(losses))], losses, seconds, p, state)


def summary(runs: list[Run]) -> dict[str, Any]:
    """Means and deviations over seeds, of the loss at each measurement and of the seconds."""
    losses = np.array([r.losses for r in runs])
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            "steps": runs[0].steps,
            "loss_mean": rounded(losses.mean(0)),
            "loss_std": rounded(losses.std(0)),
            "final_losses": rounded(losses[:, -1]),
            "seconds_mean": rounded(np.array([r.seconds for r in runs]).mean(0)),
        }


def rounded(x: Any, digits: int = 5) -> Any:
    """Numbers as JSON holds them; what is not finite becomes ``None``."""
    if isinstance(x, dict):
        return {k: rounded(v, digits) for k, v in x.items()}
    if isinstance(x, (list, tuple)) or getattr(x, "ndim", 0):
        return [rounded(v, digits) for v in x]
    value = float(x)
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def report(r: Any) -> dict[str, Any]:
    """A teleport's report as JSON."""
    gain = float(r.objective_after) / max(float(r.objective_before), 1e-30)
    return rounded(
        {
            "loss_change": r.loss_change,
            "objective_ratio": gain,
            "accepted": r.accepted,
            "refused": r.refused,
        }
    )
