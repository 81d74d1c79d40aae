"""Losses by name: what a `Function` is trained for, with label noise as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.zoo.evaluation.metrics import METRICS
from wsljax.zoo.function import Function


def supervised(function: Function, metric: str) -> Callable[..., jax.Array]:
    """The loss of a function's networks on batches of inputs and targets.

    Args:
        function: what the networks compute.
        metric: a name of `zoo.METRICS` that is to become small, e.g. "cross_entropy".

    Returns:
        `loss(params, row, batch, *, key)`. The batch is `(x, y)` or, where the row has a
        `label_noise`, `(x, y, index)` with the places of the samples in the data: that share of the
        labels is replaced by a class drawn at random, always the same for a network. A row's
        `dropout` is the rate of the function's dropout.

    Raises:
        ValueError: an unknown metric, or one that is to become large.

    Example:
        >>> loss = supervised(Function("mlp", {"widths": (2, 3)}), "cross_entropy")
        >>> params = {"dense_0": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}
        >>> batch = jnp.ones((4, 2)), jnp.zeros(4, int)
        >>> round(float(loss(params, {}, batch, key=jax.random.key(0))), 4)  # log 3
        1.0986
    """
    if metric not in METRICS or metric in ("accuracy", "psnr"):
        losses = sorted(set(METRICS) - {"accuracy", "psnr"})
        raise ValueError(f"a loss is one of {', '.join(losses)}; not {metric!r}.")

    def loss(params: Any, row: Mapping[str, Any], batch: Any, *, key: jax.Array) -> jax.Array:
        x, y, *index = batch
        dropout = key if "dropout" in row else None
        outputs = function.apply(params, x, row, key=dropout)
        if index:
            y = noisy_labels(row, index[0], y, outputs.shape[-1])
        return METRICS[metric](outputs, y)

    return loss


def noisy_labels(
    row: Mapping[str, Any], index: jax.Array, labels: jax.Array, classes: int
) -> jax.Array:
    """The labels that one network is shown: some replaced by a class at random.

    Args:
        row: its columns, with `label_noise`, the share of labels that are drawn again, and `seed`.
        index: places of the samples in the data, `(n,)`.
        labels: their classes, `(n,)`.
        classes: how many there are.

    Returns:
        `(n,)`; a function of the row and the index alone.

    Example:
        >>> row = {"label_noise": 0.5, "seed": 3}
        >>> noisy = noisy_labels(row, jnp.arange(1000), jnp.zeros(1000, int), 10)
        >>> 400 < int((noisy != 0).sum()) < 500  # one in ten is drawn as it was
        True
    """
    key = jax.random.fold_in(jax.random.key(0x1ABE1), row["seed"])

    def one(place, label):
        which, what = jax.random.split(jax.random.fold_in(key, place))
        other = jax.random.randint(what, (), 0, classes, labels.dtype)
        return jnp.where(jax.random.uniform(which) < row["label_noise"], other, label)

    return jax.vmap(one)(index, labels)
