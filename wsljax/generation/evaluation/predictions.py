"""What networks say: outputs on probes, how far apart their functions are, and how diverse together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...zoo.chunks import map_chunks
from ...zoo.population import Population

AT_ONCE = 256


def outputs_of(
    population: Population, inputs: Any, function: Callable[..., Any] | None = None
) -> np.ndarray:
    """The outputs of all networks on one batch, `(models, n, ...)`.

    Args:
        population: the networks.
        inputs: `(n, ...)`.
        function: `function(params, inputs) -> (n, ...)` of one network; by default the population's.

    Raises:
        ValueError: neither the population nor the caller says what the networks compute.
    """
    inputs = jnp.asarray(inputs)
    chunk = min(AT_ONCE, len(population))
    if function is not None:
        return np.asarray(map_chunks(_each(function), population.params, inputs, chunk=chunk))
    if population.function is None:
        raise ValueError(
            "the networks do not say what they compute; give `function=` here, or to the population "
            "(`population.with_function`)."
        )
    rows = {n: jnp.asarray(population.columns[n]) for n in population.function.reads}
    apply = _applying(population.function)
    return np.asarray(map_chunks(apply, (population.params, rows), inputs, chunk=chunk))


@functools.lru_cache(maxsize=64)
def _each(function: Callable[..., Any]) -> Callable[..., Any]:
    """One object for a function, so that it is compiled once for all networks."""
    return jax.vmap(function, in_axes=(0, None))


@functools.lru_cache(maxsize=64)
def _applying(function: Any) -> Callable[..., Any]:
    def apply(models, inputs):
        params, rows = models
        return Population(params, rows, function=function).apply(inputs)

    return apply


def disagreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Share of the probes on which two networks say different classes, for all pairs.

    Args:
        first, second: classes, integers `(a, n)` and `(b, n)`.

    Returns:
        `(a, b)`.

    Example:
        >>> disagreement(np.array([[0, 1, 2, 3]]), np.array([[0, 1, 2, 0], [1, 1, 2, 3]])).tolist()
        [[0.25, 0.25]]
    """
    same = np.zeros((len(first), len(second)))
    for label in np.unique(first):
        a, b = ((x == label).astype(np.float32) for x in (first, second))
        same += a @ b.T
    return 1 - same / first.shape[1]


def wrong_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of the probes that two networks get wrong, for all pairs.

    Args:
        first, second: whether a prediction is wrong, `(a, n)` and `(b, n)`.

    Returns:
        `(a, b)`; 1 where neither is ever wrong.

    Reference:
        K. Wang et al., "Neural network diffusion", 2024, section 4.

    Example:
        >>> wrong_overlap(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0], [0, 0, 1, 1]])).tolist()
        [[0.5, 0.0]]
    """
    a, b = (np.asarray(x, np.float32) for x in (first, second))
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1)[None] - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    x = np.asarray(outputs, np.float64)
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def jensen_shannon(outputs: np.ndarray) -> float:
    """Jensen-Shannon divergence of what networks predict, in nats: the mean over probes.

    Entropy of the mean distribution minus the mean entropy: 0 where all networks say the same.

    Args:
        outputs: logits `(models, n, classes)`.

    Reference:
        J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37 (1991),
        section 4, with equal weights.

    Example:
        >>> sure = np.array([[[50.0, 0.0]], [[0.0, 50.0]]])
        >>> round(jensen_shannon(sure), 4), jensen_shannon(sure[:1])  # log 2
        (0.6931, 0.0)
    """
    p = probabilities(outputs)
    return float((_entropy(p.mean(0)) - _entropy(p).mean(0)).mean())


def ensemble_gain(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Accuracy of the mean of all predicted distributions, minus the mean accuracy of the networks."""
    p = probabilities(outputs)
    together = (p.mean(0).argmax(-1) == targets).mean()
    return float(together - (p.argmax(-1) == targets).mean())


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
