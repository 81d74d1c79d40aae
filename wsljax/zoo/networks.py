"""One network in training: how it starts, and one step. A population is the vmap of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from wsljax.zoo.optimisers import OptimiserState, Rule, init_optimiser, update_optimiser


class ModelState(NamedTuple):
    """One network in training; a population has a leading model axis on every array.

    Attributes:
        params: array leaves of its weights.
        optimiser: moments of the trainable ones.
        loss: of the last batch it was trained on (NaN before the first).
        steps_taken: updates made.
        diverged: whether an update was refused because it was not finite; training ended there.
    """

    params: Any
    optimiser: OptimiserState
    loss: jax.Array
    steps_taken: jax.Array
    diverged: jax.Array


class Network(NamedTuple):
    """What all networks of a population share.

    Attributes:
        init: `init(row, *, key) -> params`.
        loss: `loss(params, row, batch, *, key) -> scalar`.
        batch_size: samples a step; `None`: all.
        static: the leaves of the parameters that are not arrays.
    """

    init: Callable[..., Any]
    loss: Callable[..., Any]
    batch_size: int | None
    static: Any

    def start(self, row: Mapping[str, jax.Array], key: jax.Array) -> ModelState:
        """The state before the first step."""
        init_key = jax.random.fold_in(jax.random.fold_in(key, row["seed"]), 0)
        params = eqx.filter(self.init(row, key=init_key), eqx.is_array)
        moments = init_optimiser(eqx.filter(params, eqx.is_inexact_array))
        nothing = jnp.zeros((), jnp.int32)
        return ModelState(params, moments, jnp.float32(jnp.nan), nothing, jnp.zeros((), bool))

    def draw(self, row, data, key, number):
        """The batch of step `number`, and the key of its loss: functions of the seed and step."""
        key = jax.random.fold_in(jax.random.fold_in(key, row["seed"]), 1)
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, number))
        if self.batch_size is not None:
            count = jax.tree.leaves(data)[0].shape[0]
            drawn = jax.random.randint(batch_key, (self.batch_size,), 0, count)
            data = jax.tree.map(lambda leaf: leaf[drawn], data)
        return data, loss_key

    def pullback(self, params, row, batch, key):
        """The loss, and the function that carries its cotangent back to the trainable arrays."""
        trained, fixed = eqx.partition(params, eqx.is_inexact_array)

        def objective(trained):
            return self.loss(eqx.combine(trained, fixed, self.static), row, batch, key=key)

        return jax.vjp(objective, trained)

    def step(
        self,
        state: ModelState,
        row: Mapping[str, jax.Array],
        rule: Rule,
        data: Any,
        key: jax.Array,
        number: jax.Array,
    ) -> ModelState:
        """Step `number` (from 0); past its own length, or diverged, it changes nothing."""
        batch, loss_key = self.draw(row, data, key, number)
        value, backward = self.pullback(state.params, row, batch, loss_key)
        (grads,) = backward(jnp.ones_like(value))
        trained, fixed = eqx.partition(state.params, eqx.is_inexact_array)
        count = (number + 1).astype(jnp.float32)
        params, moments = update_optimiser(trained, state.optimiser, grads, rule, row, count)

        finite = jnp.isfinite(value)
        for leaf in jax.tree.leaves(params):
            finite &= jnp.all(jnp.isfinite(leaf))
        active = (number < row["steps"]) & ~state.diverged
        taken = state.steps_taken + 1
        params = eqx.combine(params, fixed)
        new = ModelState(params, moments, value.astype(jnp.float32), taken, state.diverged)
        kept = jax.tree.map(lambda a, b: jnp.where(active & finite, a, b), new, state)
        return kept._replace(diverged=state.diverged | (active & ~finite))
