"""Predictors of a property of networks from a vector of features each.

One protocol: `fit(x, y, *, key) -> predictor` and `predictor(x) -> prediction`, with `x` of shape
`(networks, features)`. Features are standardised with the mean and deviation of the training networks;
what a fit must choose, it chooses without looking at anything but its arguments.

=======================  ================================================================================
:func:`fit_ridge`        linear, its penalty by generalised cross-validation; closed form
:func:`fit_logit_linear` ridge on the logits of targets between 0 and 1 (accuracies)
:func:`fit_logistic`     classes, multinomial
:func:`fit_trees`        gradient-boosted trees (scikit-learn's histogram trees)
:func:`fit_mlp`          a small dense network, stopped by validation networks
=======================  ================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from wsljax import train
from wsljax._compat import require

from .linear import fit_logistic, fit_logit_linear, fit_ridge
from .standard import Standard, Validation, checked

__all__ = ["fit_logistic", "fit_logit_linear", "fit_mlp", "fit_ridge", "fit_trees"]


class Trees:
    """Gradient-boosted trees; see `fit_trees`. `stage` is how many of the trees answer."""

    def __init__(self, model: Any, stage: int):
        self.model, self.stage = model, stage

    def __call__(self, x: Any) -> np.ndarray:
        """Predictions `(networks,)`."""
        stages = self.model.staged_predict(np.asarray(x))
        return next(prediction for k, prediction in enumerate(stages, 1) if k == self.stage)


def fit_trees(
    x: Any,
    y: Any,
    *,
    key: jax.Array | None = None,
    trees: int = 300,
    learning_rate: float = 0.1,
    leaves: int = 31,
    validation: Validation = None,
) -> Trees:
    """Gradient-boosted regression trees: scikit-learn's `HistGradientBoostingRegressor`.

    Args:
        x: features `(networks, features)`; NaN is a value of its own.
        y: targets `(networks,)`.
        key: seeds scikit-learn (default: 0).
        trees: how many.
        learning_rate, leaves: of each tree.
        validation: features and targets that choose how many of the trees answer; without them all
            do. Nothing is held out of `x`.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: shapes that do not fit.
    """
    ensemble = require("sklearn.ensemble", extra="experiments")
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"`x` is (networks, features), `y` (networks,); not {x.shape}, {y.shape}.")
    seed = 0 if key is None else int(jax.random.randint(key, (), 0, 2**31 - 1))
    model = ensemble.HistGradientBoostingRegressor(
        max_iter=trees, learning_rate=learning_rate, max_leaf_nodes=leaves,
        early_stopping=False, random_state=seed,
    ).fit(x, y)  # fmt: skip
    stage = trees
    if validation is not None:
        held_x, held_y = (np.asarray(v) for v in validation)
        missed = [np.mean((p - held_y) ** 2) for p in model.staged_predict(held_x)]
        stage = int(np.argmin(missed)) + 1
    return Trees(model, stage)


class Dense(eqx.Module):
    """A dense network on standardised features, answering in the units of the target."""

    standard: Standard
    mlp: eqx.nn.MLP
    mean: jax.Array
    deviation: jax.Array

    def __call__(self, x: Any) -> jax.Array:
        """Predictions `(networks,)`."""
        mean, deviation = jax.lax.stop_gradient((self.mean, self.deviation))
        return self.scores(jax.lax.stop_gradient(self.standard)(jnp.asarray(x))) * deviation + mean

    def scores(self, x: jax.Array) -> jax.Array:
        """Standardised predictions from standardised features."""
        return jax.vmap(self.mlp)(x)[:, 0]


def fit_mlp(
    x: Any,
    y: Any,
    *,
    key: jax.Array,
    width: int = 128,
    depth: int = 2,
    steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-2,
    activation: Callable = jax.nn.gelu,
    validation: Validation = None,
) -> Dense:
    """A dense network trained on squared error with AdamW, kept as it was when validation was best.

    Args:
        x: features `(networks, features)`.
        y: targets `(networks,)`.
        key: a typed key: for the initialisation, the batches and what is held out.
        width, depth: of the hidden layers.
        steps, batch_size: of training; batches are at most the training networks.
        learning_rate, weight_decay: the rate's peak, decayed by a cosine.
        activation: of the hidden layers.
        validation: features and targets to stop by; without them 15% of `x` are held out for it.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    x, y = checked(x, y)
    if y.ndim != 1:
        raise ValueError(f"`y` has shape {y.shape}; the network predicts one number each.")
    keys = jax.random.split(key, 3)
    if validation is None:
        order = jax.random.permutation(keys[0], len(x))
        held = max(1, round(0.15 * len(x)))
        validation = x[order[:held]], y[order[:held]]
        x, y = x[order[held:]], y[order[held:]]
    held_x, held_y = checked(*validation)
    standard = Standard.of(x)
    mlp = eqx.nn.MLP(x.shape[1], 1, width, depth, activation=activation, key=keys[1])
    mlp = jax.tree.map(lambda a: a.astype(x.dtype) if eqx.is_inexact_array(a) else a, mlp)
    spread = jnp.std(y)
    model = Dense(standard, mlp, jnp.mean(y), jnp.where(spread > 0, spread, 1))
    static = model.standard, model.mean, model.deviation

    def loss(mlp, batch, *, key):
        inputs, target = batch
        return jnp.mean((jax.vmap(mlp)(inputs)[:, 0] - target) ** 2)

    missed = eqx.filter_jit(
        lambda mlp, a, b: jnp.mean((Dense(static[0], mlp, *static[1:])(a) - b) ** 2)
    )
    schedule = optax.warmup_cosine_decay_schedule(0, learning_rate, steps // 10, steps)
    result = train.fit(
        loss, model.mlp, (standard(x), (y - model.mean) / model.deviation), steps=steps,
        batch_size=min(batch_size, len(x)), key=keys[2], every=max(1, steps // 40),
        optimiser=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=weight_decay)
        ),
        evaluate=lambda mlp: {"missed": missed(mlp, held_x, held_y)}, select=("missed", "min"),
    )  # fmt: skip
    return Dense(standard, result.best, model.mean, model.deviation)
