"""``sinkhorn_matching``: relaxed permutations learned by gradient descent on any loss.

Each set of units has a free matrix; the Sinkhorn operator makes it doubly stochastic, weights are mixed by
it, and a loss of the mixed network is descended through implicit gradients (F. A. G. Peña et al., "Re-basin
via implicit Sinkhorn differentiation", CVPR 2023). At the end, assignments make permutations of the matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from wsljax.symmetry import Spec

from .problem import problem_of
from .relaxed import act_relaxed
from .sinkhorn import sinkhorn
from .traced import assign


class Relaxed(NamedTuple):
    """Attributes:
    element: ``spec.act(element, b)`` is ``b`` aligned to ``a``.
    matrices: the doubly stochastic matrices it was rounded from.
    losses: of every step, ``(steps,)``.
    """

    element: dict[str, jax.Array]
    matrices: dict[str, jax.Array]
    losses: jax.Array


def distance(a: Any, moved: Any) -> jax.Array:
    """The mean squared distance of the mixed weights to those of ``a``."""
    gaps = [jnp.sum(jnp.square(x - y)) for x, y in zip(*map(jax.tree.leaves, (a, moved)))]
    return cast(jax.Array, sum(gaps)) / sum(x.size for x in jax.tree.leaves(a))


def sinkhorn_matching(
    a: Any,
    b: Any,
    spec: Spec,
    batches: Iterable[tuple],
    *,
    key: jax.Array,
    loss: Callable | None = None,
    temperature: float = 0.3,
    optimiser: optax.GradientTransformation | None = None,
    rescalings: int = 50,
) -> Relaxed:
    """Learn permutations of ``b`` by the loss of the middle between ``a`` and the mixed ``b``.

    Args:
        a, b: weights that match the spec; real.
        spec: whose permutations to use.
        batches: tuples, one step for each; without a ``loss`` they may be empty: ``[()] * 200``.
        key: for the small noise that the free matrices start from.
        loss: ``loss(params, *batch)``, a scalar, taken half-way; by default the squared distance between both
            networks.
        temperature: of the Sinkhorn operator.
        optimiser: of the free matrices; by default Adam with a step of 0.1.
        rescalings: of the Sinkhorn operator.

    Returns:
        :class:`Relaxed`.

    Raises:
        ValueError: without batches, or for a temperature that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> b = {"w": jax.random.normal(k1, (3, 5)), "v": jax.random.normal(k2, (5, 2))}
        >>> spec = symmetry.infer(fn, b, jnp.ones((1, 3)), kinds=("permutation",))
        >>> g = spec.sample(jax.random.key(1))
        >>> found = sinkhorn_matching(spec.act(g, b), b, spec, [()] * 100, key=jax.random.key(2))
        >>> bool(jnp.all(found.element["h0"] == g["h0"]))
        True
    """
    if temperature <= 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}")
    rule = optax.adam(0.1) if optimiser is None else optimiser
    problem = problem_of(spec)
    keys = jax.random.split(key, max(len(problem.units), 1))
    free = {
        u.name: 0.01 * jax.random.normal(k, (*problem.copies(u.name), u.size, u.size))
        for k, u in zip(keys, problem.units)
    }

    def soft(free: dict[str, jax.Array]) -> dict[str, Any]:
        return {n: sinkhorn(x / temperature, rescalings) for n, x in free.items()}

    @jax.jit
    def step(free, state, batch):
        value, grads = jax.value_and_grad(partial(_middle, loss, spec, soft, a, b))(free, batch)
        updates, state = rule.update(grads, state, free)
        return optax.apply_updates(free, updates), state, value

    state, losses = rule.init(free), []
    for batch in batches:
        free, state, value = step(free, state, batch)
        losses.append(value)
    if not losses:
        raise ValueError("`batches` is empty; every step needs one")
    mats = soft(free)
    element = {u.name: spec.identity()[u.name] for u in spec.units}
    return Relaxed(element | {n: assign(m) for n, m in mats.items()}, mats, jnp.stack(losses))


def _middle(loss, spec, soft, a, b, free, batch):
    moved = act_relaxed(spec, soft(free), b)
    middle = jax.tree.map(lambda x, y: 0.5 * (x + y), a, moved)
    return distance(a, moved) if loss is None else loss(middle, *batch)
