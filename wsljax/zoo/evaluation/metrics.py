"""What is recorded of a network, by name, so that it can be measured again."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross entropy of logits `(..., classes)` and integer classes `(...)`, in nats.

    Negative classes are left out, here and in `accuracy`.
    """
    scores = jax.nn.log_softmax(outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)))
    place = jnp.maximum(targets, 0)[..., None].astype(jnp.int32)
    return -_mean_of(jnp.take_along_axis(scores, place, axis=-1)[..., 0], targets)


def accuracy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of the batch whose largest logit is the class."""
    return _mean_of((jnp.argmax(outputs, axis=-1) == targets).astype(jnp.float32), targets)


def binary_cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross entropy of logits and targets in [0, 1], of one shape, in nats."""
    outputs, targets = outputs.reshape(targets.shape), targets.astype(outputs.dtype)
    return jnp.mean(jnp.logaddexp(0.0, outputs) - targets * outputs)


def mse(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean squared error."""
    return jnp.mean((outputs.reshape(targets.shape) - targets) ** 2)


def psnr(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in decibels, of signals of range 1."""
    return -10 * jnp.log10(jnp.maximum(mse(outputs, targets), 1e-12))


def _mean_of(values: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean over those that have a class."""
    counts = targets >= 0
    return jnp.sum(jnp.where(counts, values, 0)) / jnp.maximum(jnp.sum(counts), 1)


#: name -> `metric(outputs (n, ...), targets (n, ...)) -> scalar`.
METRICS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "accuracy": accuracy,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "mse": mse,
    "psnr": psnr,
}
