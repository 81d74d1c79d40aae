"""Training a learned matcher: on pairs whose alignment was planted, on the loss between pairs, or on both.

A. Navon et al., "Equivariant Deep Weight Space Alignment" (Deep-Align), ICML 2024, section 4: no pair needs to be
aligned for it. Supervised pairs are networks with moved and noisy copies of themselves; unsupervised ones
are any two networks of the population, judged by the loss between one and the softly aligned other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ...symmetry import Spec
from ...train import FitResult, fit
from ...understanding.matching.relaxed import act_relaxed
from .matcher import LearnedMatcher


def planted_loss(
    matcher: LearnedMatcher,
    a: Any,
    b: Any,
    element: Mapping[str, jax.Array],
    spec: Spec | None = None,
) -> jax.Array:
    """The mean over all units of the negative logarithm of the true unit's probability.

    Args:
        matcher: to be trained.
        a, b: one network each.
        element: the one for which ``spec.act(element, b)`` is aligned to ``a``.
        spec: the annotation, where it is another one than the matcher's.
    """
    total, count = jnp.zeros(()), 0
    for name, logs in matcher.given(a, b, element, spec).items():
        true = jnp.take_along_axis(logs, element[name][..., None], -1)
        total, count = total - jnp.sum(true), count + true.size
    return total / count


def midpoint_loss(
    matcher: LearnedMatcher,
    a: Any,
    b: Any,
    loss: Callable[[Any], jax.Array],
    at: float | jax.Array = 0.5,
    spec: Spec | None = None,
) -> jax.Array:
    """``loss(params)`` between ``a`` and ``b`` moved by the soft matching.

    Args:
        matcher: to be trained.
        a, b: one network each.
        loss: of weights.
        at: where, 0 for ``a``.
        spec: the annotation, where it is another one than the matcher's.
    """
    own = matcher.spec if spec is None else spec
    moved = act_relaxed(own, matcher.soft(a, b, spec), b)
    return loss(jax.tree.map(lambda x, y: x + at * (y - x), a, moved))


def fit_matcher(
    matcher: LearnedMatcher,
    population: Any,
    *,
    steps: int,
    batch_size: int,
    optimiser: optax.GradientTransformation,
    key: jax.Array,
    noise: float = 0.3,
    planted: float = 1.0,
    loss: Callable[[Any], jax.Array] | None = None,
    between: float = 1.0,
    **options: Any,
) -> FitResult:
    """Train a matcher on a population.

    Args:
        matcher: see :class:`.LearnedMatcher`.
        population: weights of many networks, each leaf with one more axis in front.
        steps, batch_size, optimiser, key, options: see :func:`wsljax.train.fit`.
        noise: of planted copies, at most, relative to the deviation of each leaf over the population.
        planted: weight of :func:`planted_loss`.
        loss: of weights; if given, each network of a batch is paired with the next one as well, and
            :func:`midpoint_loss` is added, at places drawn between both.
        between: its weight.

    Returns:
        :class:`wsljax.train.FitResult`; the matcher is its ``model``.

    Raises:
        ValueError: if there is nothing to learn from, or for a negative ``noise``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> many = {"w": jax.random.normal(k1, (8, 3, 5)), "v": jax.random.normal(k2, (8, 5, 2))}
        >>> spec = symmetry.parse(jax.tree.map(lambda x: x[0], many), {"w": "_ h", "v": "h _"})
        >>> matcher = LearnedMatcher(spec, channels=4, layers=1, key=k3)
        >>> result = fit_matcher(matcher, many, steps=2, batch_size=4, optimiser=optax.adam(1e-3), key=k3)
        >>> sorted(result.history[-1])
        ['loss', 'planted', 'step']
    """
    if noise < 0:
        raise ValueError(f"`noise` must not be negative; got {noise}")
    if not planted and loss is None:
        raise ValueError("nothing to learn from: `planted` is 0 and there is no `loss`")
    spec = matcher.spec
    deviations = jax.tree.map(lambda x: jnp.std(x) if _is_float(x) else 0.0, population)

    def of_planted(model: LearnedMatcher, a: Any, key: jax.Array) -> jax.Array:
        key_element, key_size, key_noise = jax.random.split(key, 3)
        g = spec.sample(key_element, kinds=("permutation",))
        size = noise * jax.random.uniform(key_size)
        leaves, treedef = jax.tree.flatten(a)
        keys = jax.random.split(key_noise, len(leaves))
        noisy = [
            x + (size * d * jax.random.normal(k, x.shape)).astype(x.dtype) if _is_float(x) else x
            for x, d, k in zip(leaves, jax.tree.leaves(deviations), keys, strict=True)
        ]
        b = spec.act(spec.inverse(g), jax.tree.unflatten(treedef, noisy))
        return planted_loss(model, a, b, g)

    def objective(model: LearnedMatcher, batch: Any, *, key: jax.Array):
        count = jax.tree.leaves(batch)[0].shape[0]
        total, told = jnp.zeros(()), {}
        if planted:
            keys = jax.random.split(jax.random.fold_in(key, 0), count)
            value = jnp.mean(jax.vmap(of_planted, (None, 0, 0))(model, batch, keys))
            total, told["planted"] = total + planted * value, value
        if (judged := loss) is not None:
            others = jax.tree.map(lambda x: jnp.roll(x, -1, 0), batch)
            places = jax.random.uniform(jax.random.fold_in(key, 1), (count,))
            each = lambda a, b, at: midpoint_loss(model, a, b, judged, at)  # noqa: E731
            value = jnp.mean(jax.vmap(each)(batch, others, places))
            total, told["between"] = total + between * value, value
        return total, told

    return fit(
        objective, matcher, population, steps=steps, batch_size=batch_size, optimiser=optimiser, key=key,
        **options,
    )  # fmt: skip


def share_found(found: Mapping[str, jax.Array], element: Mapping[str, jax.Array]) -> jax.Array:
    """The share of all units that have the place they have in ``element``.

    Example:
        >>> float(share_found({"h": jnp.array([0, 2, 1, 3])}, {"h": jnp.array([0, 1, 2, 3])}))
        0.5
    """
    right = sum(jnp.sum(found[n] == g) for n, g in element.items() if n in found)
    return jnp.asarray(right / sum(g.size for n, g in element.items() if n in found))


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)
