"""A population of small digit classifiers that spreads from chance to good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax import zoo

#: Activations that occur, by code; the weights do not say which one a network uses.
ACTIVATIONS = ("relu", "tanh", "gelu")

#: Optimisers that occur, with the range of their learning rates.
LEARNING_RATES = {
    "sgd": (3e-3, 0.5),
    "momentum": (1e-3, 0.2),
    "rmsprop": (1e-4, 2e-2),
    "adam": (2e-4, 3e-2),
    "adamw": (2e-4, 3e-2),
}


def init_network(row: Mapping[str, jax.Array], sizes: Sequence[int], *, key: jax.Array) -> Any:
    """An MLP with kernels `(in, out)` of deviation `row["init_scale"] / sqrt(in)`."""
    shapes = list(zip(sizes[:-1], sizes[1:]))
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    noise = jax.random.normal(key, (ends[-1],), jnp.float32)  # one draw compiles faster than many
    params = {}
    for layer, (shape, part) in enumerate(zip(shapes, jnp.split(noise, ends[:-1]))):
        kernel = row["init_scale"] / np.sqrt(shape[0]) * part.reshape(shape)
        bias = jnp.zeros(shape[1], jnp.float32)
        params[f"dense_{layer}"] = {"kernel": kernel.astype(jnp.float32), "bias": bias}
    return params


def apply_network(params: Any, x: jax.Array, activation: jax.Array | int = 0) -> jax.Array:
    """Logits `(10,)` of one image `(64,)`, or `(..., 10)` of `(..., 64)`."""
    for layer in range(len(params)):
        dense = params[f"dense_{layer}"]
        x = x @ dense["kernel"] + jnp.broadcast_to(
            dense["bias"], (*x.shape[:-1], dense["bias"].size)
        )
        if layer < len(params) - 1:
            x = zoo.activate(activation, x, ACTIVATIONS)
    return x


def network_loss(
    params: Any, row: Mapping[str, jax.Array], batch: Any, *, key: jax.Array
) -> jax.Array:
    """Mean cross entropy of one network on a batch."""
    x, y = batch
    scores = jax.nn.log_softmax(apply_network(params, x, row["activation"]))
    return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=-1))


def network_metrics(params: Any, row: Mapping[str, jax.Array], x: jax.Array, y: jax.Array) -> dict:
    """Share of images classified correctly."""
    logits = apply_network(params, x, row["activation"])
    return {"accuracy": jnp.mean((jnp.argmax(logits, axis=-1) == y).astype(jnp.float32))}


def draw_hyper(count: int, *, max_steps: int, seed: int) -> dict[str, np.ndarray]:
    """Hyperparameters of `count` networks, each column drawn for itself.

    Returns:
        `seed`, `optimiser`, `learning_rate` (log-uniform in the optimiser's range), `weight_decay`
        (log-uniform), `init_scale` (log-uniform), `activation` and `steps` (log-uniform).
    """
    draw = np.random.default_rng(seed)

    def log_uniform(low, high):
        return np.exp(draw.uniform(np.log(low), np.log(high), count))

    names = list(LEARNING_RATES)
    chosen = draw.integers(0, len(names), count)
    low, high = np.array([LEARNING_RATES[name] for name in names])[chosen].T
    return {
        "seed": np.arange(count),
        "optimiser": np.array(names)[chosen],
        "learning_rate": np.exp(draw.uniform(np.log(low), np.log(high))),
        "weight_decay": log_uniform(1e-6, 3e-2),
        "init_scale": log_uniform(0.2, 3.0),
        "activation": draw.integers(0, len(ACTIVATIONS), count),
        "steps": np.round(log_uniform(1, max_steps)).astype(np.int32),
    }
