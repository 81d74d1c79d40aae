"""``straight_through_matching``: permutations learned by the loss half-way between two networks.

A third set of weights ``w``, free and started at ``a``, decides the permutation: ``b`` is matched to ``w`` by
weight matching. The loss is that of the middle between ``a`` and the matched ``b``; its gradient is handed to
``w`` as if the matching were the identity map (straight through), so that the weights move until the
permutation they call for has a good middle (S. Ainsworth, J. Hayase, S. Srinivasa, "Git Re-Basin", ICLR
2023, section 3.3, algorithm 2). The best element on the way is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from wsljax.symmetry import Spec

from .weight_matching import weight_matching


class Learned(NamedTuple):
    """Attributes:
    element: the best so far: ``spec.act(element, b)`` is ``b`` aligned to ``a``.
    loss: its loss at the middle, on the batch where it was best.
    losses: of every step, ``(steps,)``.
    """

    element: dict[str, jax.Array]
    loss: jax.Array
    losses: jax.Array


def straight_through_matching(
    loss: Callable,
    a: Any,
    b: Any,
    spec: Spec,
    batches: Iterable[tuple],
    *,
    key: jax.Array,
    optimiser: optax.GradientTransformation | None = None,
    sweeps: int = 5,
) -> Learned:
    """Permutations of ``b`` for which the middle between both networks has a small loss.

    Args:
        loss: ``loss(params, *batch)``, a scalar.
        a, b: weights that match the spec, floating.
        spec: whose permutations to use.
        batches: tuples; one step for each.
        key: for the visiting orders of weight matching.
        optimiser: of the free weights; by default Adam with a step of 1e-3.
        sweeps: of weight matching in each step, which starts from the element of the step before.

    Returns:
        :class:`Learned`. The first step is at the element of weight matching itself.

    Raises:
        ValueError: without batches, or for weights that do not match.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> a = {"w": jax.random.normal(k1, (3, 5)), "v": jax.random.normal(k2, (5, 2))}
        >>> x = jax.random.normal(k3, (16, 3))
        >>> spec = symmetry.infer(fn, a, x, kinds=("permutation",))
        >>> b = spec.act(spec.sample(jax.random.key(1)), a)
        >>> loss = lambda p, x: jnp.mean((fn(p, x) - fn(a, x)) ** 2)
        >>> learned = straight_through_matching(loss, a, b, spec, [(x,)] * 2, key=jax.random.key(2))
        >>> bool(learned.loss < 1e-10)
        True
    """
    rule = optax.adam(1e-3) if optimiser is None else optimiser
    free = jax.tree.map(jnp.asarray, a)
    state = rule.init(free)
    step = jax.jit(partial(_step, loss, spec, rule.update))
    element, best, losses = None, None, []
    for turn, batch in enumerate(batches):
        found = weight_matching(
            free, b, spec, key=jax.random.fold_in(key, turn), kinds=("permutation",), init=element, sweeps=sweeps,
            start="averages" if element is None else "identity",
        )  # fmt: skip
        element = found.element
        free, state, value = step(element, free, state, a, b, batch)
        losses.append(value)
        if best is None or value < best[1]:
            best = element, value
    if best is None:
        raise ValueError("`batches` is empty; every step needs one")
    return Learned(*best, jnp.stack(losses))


def _step(loss, spec: Spec, update, element, free, state, a, b, batch):
    moved = spec.act(element, b)

    def middle(free):
        # the value of the moved weights, the gradient of the free ones
        through = jax.tree.map(lambda m, f: m + (f - jax.lax.stop_gradient(f)), moved, free)
        return loss(jax.tree.map(lambda x, y: 0.5 * (x + y), a, through), *batch)

    value, grads = jax.value_and_grad(middle)(free)
    updates, state = update(grads, state, free)
    return optax.apply_updates(free, updates), state, value
