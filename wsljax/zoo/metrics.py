"""What is recorded of a network, by name, so that it can be measured again."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross entropy of logits `(n, classes)` and integer classes `(n,)`, in nats."""
    scores = jax.nn.log_softmax(outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)))
    return -jnp.mean(jnp.take_along_axis(scores, targets[..., None].astype(jnp.int32), axis=-1))


def accuracy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of the batch whose largest logit is the class."""
    return jnp.mean((jnp.argmax(outputs, axis=-1) == targets).astype(jnp.float32))


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


#: name -> `metric(outputs (n, ...), targets (n, ...)) -> scalar`.
METRICS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "accuracy": accuracy,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "mse": mse,
    "psnr": psnr,
}
