"""Evolution strategies for long runs, a piece at a time, without the bias of truncation.

Vicol, Metz, Sohl-Dickstein, *Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent
Evolution Strategies*, 2021, algorithm 2. Every particle is a pair of runs with settings ``theta + e`` and
``theta - e``, ``e`` drawn anew for each piece. What a piece's loss owes to the pieces before is in the
states that it begins with; so its loss is multiplied with the sum of all ``e`` since the run began:

    gradient = mean over particles of  (sum of e) (loss_plus - loss_minus) / (2 deviation^2)

With the last ``e`` alone it would be the usual truncated estimator, which does not see that a step
changes what comes after the end of its piece.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .estimator import Estimate, Estimator
from .inner_problem import InnerProblem, advance, check_lengths, choose, first_ages


class EvolutionState(NamedTuple):
    """Where the particles are; every array with a leading axis of particles but the key.

    Attributes:
        plus, minus: states of the inner problem.
        noise: the sum of what was added to theta since the run began.
        age: steps since then.
        key: of what is to be drawn.
    """

    plus: Any
    minus: Any
    noise: Any
    age: jax.Array
    key: jax.Array


def persistent_evolution(
    inner: InnerProblem,
    *,
    particles: int,
    truncation: int,
    horizon: int,
    deviation: float,
    persistent: bool = True,
    staggered: bool = True,
) -> Estimator:
    """The gradient of the mean loss a step over a whole run, from pieces of runs.

    The expectation of the sum of a run's estimates, each times ``truncation``, is the gradient of the
    sum of its losses, smoothed by the noise: where all settings of one run have normal noise of their
    own. For losses that are quadratic in these settings the smoothing changes nothing.

    Args:
        inner: the problem; need not be differentiable.
        particles: pairs of runs.
        truncation: steps of a piece.
        horizon: steps of a run, a multiple of ``truncation``; then it starts anew.
        deviation: standard deviation of the noise.
        persistent: False for the usual truncated estimator, which is biased.
        staggered: the runs begin at different ages.

    Raises:
        ValueError: lengths that do not fit, or a deviation that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> sum_up = InnerProblem(lambda theta, key: jnp.zeros(()), lambda theta, x: (x + theta, x + theta))
        >>> es = persistent_evolution(
        ...     sum_up, particles=40_000, truncation=1, horizon=2, deviation=0.1, staggered=False)
        >>> state = es.init(jnp.float32(1.0), jax.random.key(0))
        >>> gradients = []
        >>> for _ in range(2):
        ...     found, state = es.estimate(jnp.float32(1.0), state)
        ...     gradients.append(round(float(found.gradient), 1))
        >>> gradients  # the second sum has theta twice in it
        [1.0, 2.0]
    """
    check_lengths(particles, truncation, horizon)
    if deviation <= 0:
        raise ValueError(f"`deviation` must be positive; got {deviation}")

    def start(theta: Any, key: jax.Array) -> Any:
        return jax.vmap(inner.start, (None, 0))(theta, jax.random.split(key, particles))

    def init(theta: Any, key: jax.Array) -> EvolutionState:
        key, key_start = jax.random.split(key)
        states = start(theta, key_start)
        noise = jax.tree.map(lambda t: jnp.zeros((particles, *jnp.shape(t)), t.dtype), theta)
        ages = first_ages(particles, truncation, horizon, staggered)
        return EvolutionState(states, states, noise, ages, key)

    def run(theta: Any, state: Any) -> tuple[Any, jax.Array]:
        state, losses = advance(inner, theta, state, truncation)
        return state, jnp.mean(losses)

    def estimate(theta: Any, state: EvolutionState) -> tuple[Estimate, EvolutionState]:
        key, key_noise, key_start = jax.random.split(state.key, 3)
        drawn = _noise(theta, key_noise, particles, deviation)
        added = jax.tree.map(jnp.add, state.noise, drawn) if persistent else drawn
        both = jax.tree.map(lambda t, e: jnp.stack([t + e, t - e]), theta, drawn)
        states = jax.tree.map(lambda a, b: jnp.stack([a, b]), state.plus, state.minus)
        states, losses = jax.vmap(jax.vmap(run))(both, states)
        difference = losses[0] - losses[1]
        fine = jnp.isfinite(difference)
        weight = jnp.where(fine, difference, 0.0) / (2 * deviation**2 * particles)
        gradient = jax.tree.map(lambda e: jnp.tensordot(weight.astype(e.dtype), e, axes=1), added)
        kept = jnp.where(fine, losses.mean(0), 0.0).sum() / jnp.maximum(fine.sum(), 1)
        found = Estimate(gradient, kept, 1 - jnp.mean(fine))

        age = state.age + truncation
        over = age >= horizon
        fresh = start(theta, key_start)
        plus, minus = (
            choose(over, fresh, jax.tree.map(lambda x, i=i: x[i], states)) for i in (0, 1)
        )
        noise = choose(over, jax.tree.map(jnp.zeros_like, added), added)
        return found, EvolutionState(plus, minus, noise, jnp.where(over, 0, age), key)

    return Estimator(init, estimate)


def _noise(theta: Any, key: jax.Array, particles: int, deviation: float) -> Any:
    """Noise for all leaves out of one draw: many draws would compile for long."""
    leaves, tree = jax.tree.flatten(theta)
    stops = np.cumsum([np.size(t) for t in leaves])
    dtype = jnp.result_type(*leaves)
    drawn = deviation * jax.random.normal(key, (particles, int(stops[-1])), dtype)
    pieces = jnp.split(drawn, stops[:-1].tolist(), axis=1)
    shaped = [
        piece.reshape(particles, *jnp.shape(t)).astype(jnp.asarray(t).dtype)
        for piece, t in zip(pieces, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, shaped)
