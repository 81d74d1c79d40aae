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

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from wsljax import train
from wsljax._compat import require

PENALTIES = tuple(float(10.0**k) for k in np.arange(-6, 4.25, 0.25))
"""Ridge penalties that are tried, relative to the number of networks."""

Validation = tuple[Any, Any] | None


class Standard(eqx.Module):
    """Columns to mean 0 and deviation 1; constant ones to 0."""

    mean: jax.Array
    deviation: jax.Array

    @staticmethod
    def of(x: jax.Array) -> Standard:
        mean, deviation = jnp.mean(x, axis=0), jnp.std(x, axis=0)
        constant = deviation <= 8 * jnp.finfo(x.dtype).eps * jnp.abs(mean)
        return Standard(mean, jnp.where(constant, jnp.inf, deviation))

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x - self.mean) / self.deviation


class Linear(eqx.Module):
    """`weight` and `bias` on standardised features; `penalty` is the one that was chosen."""

    standard: Standard
    weight: jax.Array
    bias: jax.Array
    penalty: jax.Array

    def __call__(self, x: Any) -> jax.Array:
        """Predictions `(networks,)` or `(networks, targets)`."""
        return self.standard(jnp.asarray(x)) @ self.weight + self.bias


def fit_ridge(
    x: Any,
    y: Any,
    *,
    key: jax.Array | None = None,
    penalties: Sequence[float] = PENALTIES,
    validation: Validation = None,
) -> Linear:
    """Ridge regression in closed form, the penalty by generalised cross-validation on `x`, `y`.

    One singular value decomposition serves all penalties: with hat matrix `H` the score is
    `n |y - Hy|^2 / (n - tr H)^2`, the intercept counted among the degrees of freedom.

    Args:
        x: features `(networks, features)`.
        y: targets `(networks,)` or `(networks, targets)`, which share a penalty.
        key: not used; every `fit` takes one.
        penalties: to choose from, times the number of networks.
        validation: not used; every `fit` takes them.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.

    Reference:
        G. Golub, M. Heath, G. Wahba, "Generalized cross-validation as a method for choosing a good
        ridge parameter", Technometrics 21 (1979), equation 1.4.

    Example:
        >>> x = jnp.linspace(-1.0, 1.0, 20)[:, None]
        >>> round(float(fit_ridge(x, 3 * x[:, 0] + 1)(jnp.array([[2.0]]))[0]), 3)
        7.0
    """
    x, y = _checked(x, y)
    return _ridge(x, y, jnp.asarray(penalties, x.dtype))


@jax.jit
def _ridge(x: jax.Array, y: jax.Array, penalties: jax.Array) -> Linear:
    n = len(x)
    standard = Standard.of(x)
    targets = y.reshape(n, -1)
    bias = jnp.mean(targets, axis=0)
    u, s, vt = jnp.linalg.svd(standard(x), full_matrices=False)
    along = u.T @ (targets - bias)
    outside = jnp.sum((targets - bias - u @ along) ** 2)

    def score(penalty):
        left = n * penalty / (s**2 + n * penalty)
        missed = outside + jnp.sum((left[:, None] * along) ** 2)
        free = n - 1 - jnp.sum(1 - left)
        return n * missed / jnp.maximum(free, 1e-3) ** 2

    penalty = penalties[jnp.argmin(jax.vmap(score)(penalties))]
    weight = vt.T @ ((s / (s**2 + n * penalty))[:, None] * along)
    weight, bias = (weight, bias) if y.ndim == 2 else (weight[:, 0], bias[0])
    return Linear(standard, weight, bias, penalty)


class LogitLinear(eqx.Module):
    """A linear predictor of logits, answering between 0 and 1."""

    linear: Linear
    margin: float = eqx.field(static=True)

    def __call__(self, x: Any) -> jax.Array:
        """Predictions, between 0 and 1."""
        return (1 + 2 * self.margin) * jax.nn.sigmoid(self.linear(x)) - self.margin


def fit_logit_linear(
    x: Any,
    y: Any,
    *,
    key: jax.Array | None = None,
    margin: float = 0.01,
    validation: Validation = None,
) -> LogitLinear:
    """Ridge on `log((y + margin) / (1 + margin - y))`, for accuracies; see `fit_ridge`.

    Raises:
        ValueError: targets outside 0 and 1, or what `fit_ridge` refuses.
    """
    x, y = _checked(x, y)
    if jnp.min(y) < 0 or jnp.max(y) > 1:
        raise ValueError(f"`y` runs from {jnp.min(y)} to {jnp.max(y)}; logits need 0 to 1.")
    return LogitLinear(fit_ridge(x, jnp.log((y + margin) / (1 + margin - y))), margin)


def fit_logistic(
    x: Any,
    y: Any,
    *,
    key: jax.Array | None = None,
    penalty: float = 1e-3,
    steps: int = 200,
    validation: Validation = None,
) -> Linear:
    """Multinomial logistic regression: cross entropy and `penalty / 2 |weight|^2`, by L-BFGS.

    The problem is convex and the start is zero, so nothing is drawn. The predictor answers with logits
    `(networks, classes)`.

    Args:
        x: features `(networks, features)`.
        y: classes, integers from 0.
        key: not used.
        penalty: on the weights of standardised features.
        steps: of L-BFGS.
        validation: not used.

    Example:
        >>> x = jnp.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> fit_logistic(x, [0, 0, 1, 1])(x).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    classes = np.asarray(y)
    if not np.issubdtype(classes.dtype, np.integer) or classes.min(initial=0) < 0:
        raise ValueError(f"`y` are classes, integers from 0; they are {classes.dtype}.")
    x, _ = _checked(x, classes.astype(np.float32))
    return _logistic(x, jnp.asarray(classes), int(classes.max()) + 1, penalty, steps)


@eqx.filter_jit
def _logistic(x: jax.Array, y: jax.Array, classes: int, penalty: float, steps: int) -> Linear:
    standard = Standard.of(x)
    x = standard(x)
    start = jnp.zeros((x.shape[1], classes), x.dtype), jnp.zeros(classes, x.dtype)

    def loss(params):
        weight, bias = params
        scores = jax.nn.log_softmax(x @ weight + bias)
        missed = -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))
        return missed + penalty / 2 * jnp.sum(weight**2)

    optimiser = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry, _):
        params, state = carry
        value, gradient = value_and_grad(params, state=state)
        updates, state = optimiser.update(
            gradient, state, params, value=value, grad=gradient, value_fn=loss
        )
        return (optax.apply_updates(params, updates), state), None

    with jax.numpy_dtype_promotion("standard"):
        (params, _), _ = jax.lax.scan(step, (start, optimiser.init(start)), length=steps)
    return Linear(standard, *params, jnp.asarray(penalty, x.dtype))


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
    x, y = _checked(x, y)
    if y.ndim != 1:
        raise ValueError(f"`y` has shape {y.shape}; the network predicts one number each.")
    keys = jax.random.split(key, 3)
    if validation is None:
        order = jax.random.permutation(keys[0], len(x))
        held = max(1, round(0.15 * len(x)))
        validation = x[order[:held]], y[order[:held]]
        x, y = x[order[held:]], y[order[held:]]
    held_x, held_y = _checked(*validation)
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


def _checked(x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    x, y = jnp.asarray(x), jnp.asarray(y)
    dtype = jnp.result_type(x.dtype, jnp.float32)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y) or not x.size:
        raise ValueError(f"`x` is (networks, features), `y` (networks,); not {x.shape}, {y.shape}.")
    for name, value in (("x", x), ("y", y)):
        bad = int(jnp.sum(~jnp.isfinite(value).reshape(len(value), -1).all(axis=1)))
        if bad:
            raise ValueError(
                f"`{name}` is not finite for {bad} of {len(x)} networks; leave them out, or their "
                "columns."
            )
    return x.astype(dtype), y.astype(dtype)
