"""Weight balancing: the element of the scaling group that makes the norm of the weights smallest.

Source: L. K. Saul, "Weight-balancing fixes and flows for deep learning", TMLR 2023, section 2: the
multiplicative updates that rebalance all hidden units in parallel, for any ``l_pq`` norm; balancing a
unit alone has the closed form ``s = (||out||_p / ||in||_p) ** (1/2)``.

Exponents of any kind, and why a pass over all units in parallel never increases the norm: ``shortest.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from wsljax.symmetry import Spec

from .scaling import element_of, one_sided, scalings, used_blocks
from .shortest import solve


class BalanceResult(NamedTuple):
    """Balanced weights.

    Attributes:
        params: the weights of smallest norm in the orbit (after ``steps`` steps).
        element: the scaling that leads there; ``spec.act(element, given) == params``.
        imbalance: the largest ``|P - Q| / (P + Q)`` of any unit that has a way in and a way out.
        steps: steps that were taken.
    """

    params: Any
    element: dict[str, jax.Array]
    imbalance: jax.Array
    steps: jax.Array


class BalanceState(NamedTuple):
    """Steps since the start."""

    count: jax.Array


def balance(
    params: Any,
    spec: Spec,
    p: float = 2.0,
    q: float | None = None,
    *,
    names: Sequence[str] | None = None,
    steps: int = 100,
    tol: float | None = None,
    newton: bool = True,
) -> BalanceResult:
    """Rescale all units so that the norm of the weights is smallest; the function stays the same.

    Entries that are used with an offset (a variance, as ``v + eps``) count with it. Generators with
    nothing going out have no balance and are left alone, as are units with no way in or out (dead ones).

    Args:
        params: weights that match the spec.
        spec: with ``Scale`` (and perhaps ``Uniform``) generators.
        p: of the ``l_p`` norm.
        q: of the ``l_pq`` norm, ``(sum_i (sum_j |w_ij|^p)^(q/p))^(1/q)`` where ``i`` are the units that
            the entries lead into; entries that lead into no scaled unit are grouped by the last axis of
            their block that is not scaled. By default ``p``.
        names: of the generators to use; by default all that are two-sided.
        steps: at most so many. With ``newton=False`` a step is one multiplicative pass.
        tol: imbalance at which to stop; by default 20 roundings of the dtype.
        newton: whether to try a Newton step after each pass.

    Returns:
        :class:`BalanceResult`.

    Raises:
        ValueError: for ``p`` or ``q`` that is not positive, negative ``steps``, unknown names, or params
            that do not match.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.full((2, 3), 8.0), "b": jnp.full((3, 2), 0.5)}
        >>> kinds = ("permutation", "scale")
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=kinds)
        >>> print(balance(p, spec).params["b"][0])
        [2. 2.]
    """
    if p <= 0 or (q is not None and q <= 0):
        raise ValueError(f"`p` and `q` must be positive, got p={p}, q={q}")
    if steps < 0:
        raise ValueError(f"`steps` must not be negative, got {steps}")
    spec.flatten(params)
    chosen = tuple(g for g in scalings(spec, names) if not one_sided(g))
    if not chosen:
        zero = jnp.zeros(())
        return BalanceResult(params, {}, zero, jnp.zeros((), jnp.int32))
    blocks = used_blocks(spec, params, chosen)
    t, gap, taken = solve(chosen, blocks, p, q, steps=steps, tol=tol, newton=newton)
    element = element_of(t)
    return BalanceResult(spec.act(element, params), element, gap, taken)


def balancing(
    spec: Spec, *, every: int = 1, p: float = 2.0, q: float | None = None, steps: int = 1
) -> optax.GradientTransformation:
    """Weight balancing as a transform: after every ``every``-th step the weights are rebalanced.

    To stand last in a chain: what it gives is the step so far, plus the way to the balanced weights.
    State of transforms before it (momentum) is not carried along: with small steps the way is short; to
    start from a balanced point, call :func:`balance` once.

    Args:
        spec: with ``Scale`` generators.
        every: number of steps between balancings.
        p, q: of the norm, as in :func:`balance`.
        steps: multiplicative passes each time.

    Raises:
        ValueError: if ``every`` or ``steps`` is not positive; in the update, without ``params``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))}
        >>> kinds = ("permutation", "scale")
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=kinds)
        >>> optimiser = optax.chain(optax.sgd(0.1), balancing(spec, every=10))
        >>> state = optimiser.init(p)
        >>> updates, state = optimiser.update(jax.tree.map(jnp.ones_like, p), state, p)
        >>> print(updates["a"][0])
        [-0.1 -0.1 -0.1]
    """
    if every < 1 or steps < 1:
        raise ValueError(f"`every` and `steps` must be positive, got {every} and {steps}")

    def init(params):
        spec.flatten(params)
        return BalanceState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("`balancing` needs the weights: call update(updates, state, params)")
        count = jnp.asarray(optax.safe_increment(state.count))

        def rebalanced(updates):
            there = optax.apply_updates(params, updates)
            moved = balance(there, spec, p, q, steps=steps, newton=False).params
            return jax.tree.map(lambda m, w, u: (m - w).astype(u.dtype), moved, params, updates)

        updates = jax.lax.cond(count % every == 0, rebalanced, lambda u: u, updates)
        return updates, BalanceState(count)

    return optax.GradientTransformation(init, update)
