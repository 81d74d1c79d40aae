"""One network in training: how it starts, and one step. A population is the vmap of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from wsljax.zoo.training.optimisers import OptimiserState, Rule, init_optimiser, update_optimiser
from wsljax.zoo.training.schedules import rate_factor


class ModelState(NamedTuple):
    """One network in training; a population has a leading model axis on every array.

    Attributes:
        params: array leaves of its weights.
        optimiser: moments of the trainable ones.
        loss: of the last batch it saw (NaN before the first).
        steps_taken: updates made.
        diverged: whether an update was refused because it was not finite; training ended there.
        stopped: whether training ended because `stop` said so.
    """

    params: Any
    optimiser: OptimiserState
    loss: jax.Array
    steps_taken: jax.Array
    diverged: jax.Array
    stopped: jax.Array


class Material(NamedTuple):
    """What one network learns from beside the shared data.

    Attributes:
        own: data of its own, `(samples, ...)`, or None.
        subset: indices of the samples in an order of its own, `(samples,)`, or None; the first
            `data_fraction` of them are those it sees.
    """

    own: Any = None
    subset: jax.Array | None = None


class Network(NamedTuple):
    """What all networks of a population share.

    Attributes:
        init: `init(row, *, key) -> params`.
        loss: `loss(params, row, batch, *, key) -> scalar`.
        batch_size: samples a step; `None`: all.
        static: the leaves of the parameters that are not arrays.
        stop: `stop(loss, row, step) -> bool`, or None.
    """

    init: Callable[..., Any]
    loss: Callable[..., Any]
    batch_size: int | None
    static: Any
    stop: Callable[..., Any] | None = None

    def start(self, row: Mapping[str, jax.Array], key: jax.Array) -> ModelState:
        """The state before the first step."""
        init_key = jax.random.fold_in(jax.random.fold_in(key, row["seed"]), 0)
        params = eqx.filter(self.init(row, key=init_key), eqx.is_array)
        moments = init_optimiser(eqx.filter(params, eqx.is_inexact_array))
        nothing, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
        return ModelState(params, moments, jnp.float32(jnp.nan), nothing, no, no)

    def draw(self, row, data, material: Material, key, number):
        """The batch of step `number`, and the key of its loss: functions of the seed and step."""
        key = jax.random.fold_in(jax.random.fold_in(key, row["seed"]), 1)
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, number))
        own = material.own
        if self.batch_size is not None:
            count = jax.tree.leaves((data, own))[0].shape[0]
            seen = count
            if material.subset is not None:
                seen = jnp.clip((row["data_fraction"] * count).astype(jnp.int32), 1, count)
            drawn = jax.random.randint(batch_key, (self.batch_size,), 0, seen)
            if material.subset is not None:
                drawn = material.subset[drawn]
            data, own = jax.tree.map(lambda leaf: leaf[drawn], (data, own))
        return (data if own is None else (data, own)), loss_key

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
        material: Material,
        key: jax.Array,
        number: jax.Array,
    ) -> ModelState:
        """Step `number` (from 0); past its own length, stopped or diverged, it changes nothing."""
        batch, loss_key = self.draw(row, data, material, key, number)
        value, backward = self.pullback(state.params, row, batch, loss_key)
        (grads,) = backward(jnp.ones_like(value))
        trained, fixed = eqx.partition(state.params, eqx.is_inexact_array)
        count = (number + 1).astype(jnp.float32)
        settings = row
        if "schedule" in row or "warmup" in row:
            rate = row["learning_rate"] * rate_factor(row, number)
            settings = {**row, "learning_rate": rate}
        if "clip_norm" in row:
            grads = _clipped(grads, row["clip_norm"])
        params, moments = update_optimiser(trained, state.optimiser, grads, rule, settings, count)

        finite = jnp.isfinite(value)
        for leaf in jax.tree.leaves(params):
            finite &= jnp.all(jnp.isfinite(leaf))
        active = (number < row["steps"]) & ~state.diverged & ~state.stopped
        stop = jnp.zeros((), bool)
        if self.stop is not None:
            stop = active & self.stop(value, row, number)
        loss = value.astype(jnp.float32)
        params = eqx.combine(params, fixed)
        new = state._replace(
            params=params, optimiser=moments, loss=loss, steps_taken=state.steps_taken + 1
        )
        goes_on = active & finite & ~stop
        kept = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), new, state)
        return kept._replace(
            loss=jnp.where(stop, loss, kept.loss),
            diverged=state.diverged | (active & ~finite & ~stop),
            stopped=state.stopped | stop,
        )


def subset_order(row: Mapping[str, jax.Array], key: jax.Array, count: int) -> jax.Array:
    """The order in which a network would take samples into its share of the data."""
    key = jax.random.fold_in(jax.random.fold_in(key, row["seed"]), 2)
    return jax.random.permutation(key, count).astype(jnp.int32)


def _clipped(grads: Any, limit: jax.Array) -> Any:
    """Gradients of at most this norm (Pascanu 2013)."""
    leaves = jax.tree.leaves(grads)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves))
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), grads)
