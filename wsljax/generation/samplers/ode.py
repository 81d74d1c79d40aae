"""Samplers that follow the velocity: the deterministic flow with the same distribution at each time.

They step in the clock of the path, in which the velocity is smooth; on straight lines the clock is time, with
EDM it is sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._compat import require
from ..processes.path import Path
from ..processes.trees import combine
from .field import Field
from .sampler import Sampler, SteppedSampler


class Euler(SteppedSampler):
    """One look at the velocity a step; first order.

    Example:
        >>> from wsljax.generation.processes import Estimate, Straight
        >>> field = Field(Straight(), None, lambda x, t: jnp.ones(1))
        >>> Euler(10)(field, jnp.zeros(1), key=jax.random.key(0)).round(3).tolist()
        [-1.0]
    """

    steps: int = eqx.field(static=True, default=100)
    times: Callable[[Path, int], jax.Array] | None = None

    def step(self, field: Field, x: Any, t: jax.Array, to: jax.Array, key: jax.Array) -> Any:
        start, end = field.path.clock(t), field.path.clock(to)
        return combine(1.0, x, end - start, field.velocity(x, start))


class Heun(SteppedSampler):
    """Two looks a step; second order. With churn, the stochastic sampler of EDM.

    Attributes:
        steps: how many; two evaluations each, but for the last one with `euler_last`.
        churn: S_churn: how much noise is added in all before steps; 0 is deterministic.
        churn_from, churn_to: S_tmin and S_tmax: churn only where noise / signal is between them.
        churn_noise: S_noise: the deviation of added noise.
        euler_last: the last step, to no noise at all, does not look there, as in EDM.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    algorithms 1 and 2.
    """

    steps: int = eqx.field(static=True, default=50)
    churn: float = eqx.field(static=True, default=0.0)
    churn_from: float = eqx.field(static=True, default=0.0)
    churn_to: float = eqx.field(static=True, default=math.inf)
    churn_noise: float = eqx.field(static=True, default=1.0)
    euler_last: bool = eqx.field(static=True, default=True)
    times: Callable[[Path, int], jax.Array] | None = None

    def step(self, field: Field, x: Any, t: jax.Array, to: jax.Array, key: jax.Array) -> Any:
        path = field.path
        if self.churn > 0:
            x, t = self._churned(field, x, t, key)
        start, end = path.clock(t), path.clock(to)
        slope = field.velocity(x, start)
        guess = combine(1.0, x, end - start, slope)

        def corrected() -> Any:
            other = field.velocity(field.settle(guess), end)
            return combine(1.0, x, (end - start) / 2, slope, (end - start) / 2, other)

        if not self.euler_last:
            return corrected()
        return jax.lax.cond(to > 0, corrected, lambda: guess)

    def _churned(self, field: Field, x: Any, t: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        """More noise, and the later time at which there is as much of it."""
        path = field.path
        if field.estimate is None:
            raise ValueError(
                "`churn` adds noise, which has no meaning on the manifold of this flow."
            )
        ratio, signal = path.ratio(t), path.signal(t)
        more = min(self.churn / self.steps, math.sqrt(2) - 1)
        inside = (ratio >= self.churn_from) & (ratio <= self.churn_to) & jnp.isfinite(ratio)
        ratio = jnp.where(inside, ratio, 1.0)
        later = path.time(ratio * (1 + more))
        grown = path.ratio(later)  # a path that ends at t = 1 may not reach as far
        scale = path.signal(later) / jnp.where(signal == 0, 1, signal)
        added = (
            path.signal(later) * jnp.sqrt(jnp.maximum(grown**2 - ratio**2, 0)) * self.churn_noise
        )
        found = combine(
            jnp.where(inside, scale, 1), x, jnp.where(inside, added, 0), field.noise(x, key)
        )
        return found, jnp.where(inside, later, t)


class RungeKutta4(SteppedSampler):
    """Four looks a step; fourth order where the velocity is smooth."""

    steps: int = eqx.field(static=True, default=25)
    times: Callable[[Path, int], jax.Array] | None = None

    def step(self, field: Field, x: Any, t: jax.Array, to: jax.Array, key: jax.Array) -> Any:
        start, end = field.path.clock(t), field.path.clock(to)
        h = end - start

        def stage(number: Any, carry: Any) -> Any:
            total, slope = carry
            part = jnp.asarray([0.0, 0.5, 0.5, 1.0], h.dtype)[number]
            weight = jnp.asarray([1.0, 2.0, 2.0, 1.0], h.dtype)[number] / 6
            at = field.settle(combine(1.0, x, part * h, slope))
            slope = field.velocity(at, start + part * h)
            return combine(1.0, total, weight, slope), slope

        zero = jax.tree.map(jnp.zeros_like, x)
        total, _ = jax.lax.fori_loop(0, 4, stage, (zero, zero))
        return combine(1.0, x, h, total)


class Adaptive(Sampler):
    """Steps as small as the error asks for, by diffrax (the extra `flow`).

    Attributes:
        rtol, atol: relative and absolute error of a step.
        max_steps: more than that is an error.
    """

    rtol: float = 1e-4
    atol: float = 1e-4
    max_steps: int = eqx.field(static=True, default=4096)

    def __call__(self, field: Field, x: Any, *, key: jax.Array) -> Any:
        diffrax = require("diffrax", extra="flow")
        ends = field.path.clock(jnp.asarray([1.0, 0.0]))

        def speed(progress: Any, x: Any, _: Any) -> Any:
            at = ends[0] + progress * (ends[1] - ends[0])
            return combine(ends[1] - ends[0], field.velocity(field.settle(x), at))

        found = diffrax.diffeqsolve(
            diffrax.ODETerm(speed),
            diffrax.Tsit5(),
            t0=0.0,
            t1=1.0,
            dt0=None,
            y0=x,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            max_steps=self.max_steps,
            saveat=diffrax.SaveAt(t1=True),
        )
        return field.settle(jax.tree.map(lambda a: a[0], found.ys))
