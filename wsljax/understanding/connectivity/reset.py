"""Stored statistics of batch normalisation, recomputed from data.

The average of two networks has neither's statistics, so means and variances that were stored must be measured
again (P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018,
section 3; for merged networks, K. Jordan et al., "REPAIR", ICLR 2023). Which leaves they are is not told by
names or collections: it is found in the traced function, ``(x - mean) / sqrt(variance + epsilon)``, or that
written as ``x * scale + shift``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .repair import Repaired, producers_of, settle

TINY = 1e-12


def reset_statistics(
    fn: Callable,
    params: Any,
    *inputs: Any,
    chunk: int | None = None,
    rounds: int | None = None,
    tolerance: float = 1e-4,
) -> Repaired:
    """Set all stored means and variances to those of the data.

    Exact over all examples, not a running average: at all examples in one batch the network then gives
    what it gives in training mode. Pure: it may be jitted and vmapped.

    Args:
        fn: ``fn(params, *inputs)`` in evaluation mode: it reads the stored statistics.
        params: weights and statistics.
        *inputs: trees of arrays with a leading axis of examples.
        chunk: how many examples go through at once; it must divide their number.
        rounds: passes at most; by default one for each normalisation, and two more.
        tolerance: stop where means and deviations are as close, relative to the deviations.

    Raises:
        ValueError: if the function reads no stored statistics.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def fn(p, x):
        ...     h = (x @ p["w"] - p["mean"]) / jnp.sqrt(p["var"] + 1e-5)
        ...     return jax.nn.relu(h) @ p["v"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"w": jax.random.normal(k1, (4, 8)), "mean": jnp.zeros(8), "var": jnp.ones(8)}
        >>> p["v"] = jax.random.normal(k2, (8, 2))
        >>> x = jax.random.normal(k3, (256, 4))
        >>> found = reset_statistics(fn, p, x)
        >>> bool(jnp.allclose(found.params["var"], jnp.var(x @ p["w"], axis=0), rtol=1e-4))
        True
    """
    inputs = jax.tree.map(jnp.asarray, inputs)
    return _reset(fn, params, inputs, chunk, rounds, tolerance)


@eqx.filter_jit
def _reset(fn, params, inputs, chunk, rounds, tolerance) -> Repaired:
    found = producers_of(fn, params, inputs, chunk)
    places = found.stored
    if not places:
        raise ValueError(
            "the function reads no stored mean and variance; give it in evaluation mode, with the "
            "statistics among the `params` (of a network without them nothing needs to be reset)"
        )

    def correct(leaves, now):
        for place, m in zip(places, now, strict=True):
            place.mean.change(leaves, lambda x, new: new, m.mean)
            place.variance.change(leaves, lambda x, new: new, m.variance)
        return leaves

    def error(leaves, now):
        found = []
        for place, m in zip(places, now, strict=True):
            mean, variance = place.mean.shown(leaves), place.variance.shown(leaves)
            deviation = m.deviation[..., place.variance.units]
            off = jnp.abs(jnp.sqrt(jnp.maximum(variance, 0)) - deviation)
            found.append(jnp.max(off / jnp.maximum(deviation, TINY)))
            deviation = m.deviation[..., place.mean.units]
            off = jnp.abs(mean - m.mean[..., place.mean.units])
            found.append(jnp.max(off / jnp.maximum(deviation, TINY)))
        return jnp.stack(found).max()

    rounds = len(places) + 2 if rounds is None else rounds
    return settle(
        found, places, params, inputs, correct, error, chunk, rounds, tolerance, found.left
    )
