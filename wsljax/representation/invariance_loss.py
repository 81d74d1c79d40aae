"""Learned invariance: how far answers move when the units of a network are exchanged, as a loss.

Moskalev et al., *On genuine invariance learning without weight-tying*, 2023, measure learned invariance
by the change of the logits and of the predicted distribution under random elements of the group, and
show that the first, added to the loss, brings a free network close to an invariant one. Here the data
are networks and the group is that of their spec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..symmetry.spec import Spec


def logit_invariance(
    net: Callable[[Any], jax.Array],
    params: Any,
    spec: Spec,
    *,
    key: jax.Array,
    samples: int = 1,
    kinds: Sequence[str] | None = None,
) -> jax.Array:
    """Half the squared change of the answer under a random element, averaged over ``samples`` of them.

    Zero for an invariant ``net``, whatever it has learned. For one network; ``jax.vmap`` it over a
    population with a key for each, and add a multiple of its mean to the loss.

    Args:
        net: weights of one network to any array, for instance a ``Metanetwork``.
        params: the weights.
        spec: their annotation.
        key: of the elements.
        samples: how many elements.
        kinds: of the group, as for ``spec.sample``: ``("permutation",)`` leaves out scales and signs.

    Raises:
        ValueError: no samples.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"b": jnp.arange(5.0)}
        >>> spec = symmetry.parse(params, {"b": "h"})
        >>> key = jax.random.key(0)
        >>> float(logit_invariance(lambda p: p["b"].sum(), params, spec, key=key))
        0.0
        >>> bool(logit_invariance(lambda p: p["b"][0], params, spec, key=key, samples=8) > 0)
        True
    """

    def change(answer: jax.Array, moved: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(jnp.square(moved - answer))

    return _mean_change(change, net, params, spec, key, samples, kinds)


def distribution_invariance(
    net: Callable[[Any], jax.Array],
    params: Any,
    spec: Spec,
    *,
    key: jax.Array,
    samples: int = 1,
    kinds: Sequence[str] | None = None,
) -> jax.Array:
    """Kullback-Leibler divergence of the predicted classes before and after a random element.

    Args:
        net: weights of one network to logits ``(classes,)``.
        params, spec, key, samples, kinds: see :func:`logit_invariance`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"b": jnp.arange(5.0)}
        >>> spec = symmetry.parse(params, {"b": "h"})
        >>> net = lambda p: jnp.stack([p["b"].sum(), p["b"].max()])
        >>> float(distribution_invariance(net, params, spec, key=jax.random.key(0)))
        0.0
    """

    def change(answer: jax.Array, moved: jax.Array) -> jax.Array:
        before, after = jax.nn.log_softmax(answer), jax.nn.log_softmax(moved)
        return jnp.sum(jnp.exp(before) * (before - after))

    return _mean_change(change, net, params, spec, key, samples, kinds)


def _mean_change(
    change: Callable[[jax.Array, jax.Array], jax.Array],
    net: Callable[[Any], jax.Array],
    params: Any,
    spec: Spec,
    key: jax.Array,
    samples: int,
    kinds: Sequence[str] | None,
) -> jax.Array:
    if samples < 1:
        raise ValueError(f"`samples` must be positive; got {samples}")
    answer = net(params)

    def one(key: jax.Array) -> jax.Array:
        return change(answer, net(spec.act(spec.sample(key, kinds), params)))

    return jnp.mean(jax.vmap(one)(jax.random.split(key, samples)))
