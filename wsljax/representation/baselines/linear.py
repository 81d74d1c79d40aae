"""Linear predictors in closed form or nearly: ridge, ridge on logits, multinomial logistic; see :mod:`.predictors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .standard import Standard, Validation, checked

PENALTIES = tuple(float(10.0**k) for k in np.arange(-6, 4.25, 0.25))
"""Ridge penalties that are tried, relative to the number of networks."""


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
    x, y = checked(x, y)
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
    x, y = checked(x, y)
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
    x, _ = checked(x, classes.astype(np.float32))
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
    weight, bias = cast(tuple[jax.Array, jax.Array], params)
    return Linear(standard, weight, bias, jnp.asarray(penalty, x.dtype))
