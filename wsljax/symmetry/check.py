"""``check``: does the function really not change? Measured, for every generator of a spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .spec import Spec


def check(
    fn: Callable, params: Any, spec: Spec, *inputs: Any, key: jax.Array, draws: int = 2
) -> dict[str, float]:
    """Relative change of ``fn``'s output under random elements, one set of units at a time.

    Args:
        fn: the function ``fn(params, *inputs)``.
        params: weights that match the spec.
        spec: what is to be checked.
        *inputs: inputs of ``fn``.
        key: random key for the elements.
        draws: how many elements are tried; the largest change counts. A wrong element of a small group
            may leave the function unchanged by chance.

    Returns:
        ``{name of units or generator: change}`` and, under ``"all"``, the change under a random element of the whole
        group. A change is the largest difference of any output entry, relative to the largest entry of
        that output. For a spec with free ends, ``f(g p, g x)`` is compared with ``g f(p, x)``.

    Raises:
        ValueError: if params do not match the spec, the outputs are not finite, or ``draws`` is not
            positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.ones((2, 3)), "b": jnp.arange(3.0)[:, None]}
        >>> spec = symmetry.infer(fn, p, jnp.ones((1, 2)))
        >>> max(check(fn, p, spec, jnp.ones((1, 2)), key=jax.random.key(0)).values()) < 1e-6
        True
    """
    if draws < 1:
        raise ValueError(f"`draws` must be positive, got {draws}")
    run = jax.jit(fn)
    base = run(params, *inputs)
    if not all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(base)):
        raise ValueError(
            "`fn` gives NaN or infinite outputs at these params and inputs; nothing can be compared"
        )
    changes: dict[str, float] = {}
    for draw in range(draws):
        full = spec.sample(jax.random.fold_in(key, draw))
        for name in [*full, "all"]:
            g = {k: v for k, v in full.items() if name in ("all", k)}
            moved = run(spec.act(g, params), *spec.act_inputs(g, inputs))
            pairs = zip(
                jax.tree.leaves(moved), jax.tree.leaves(spec.act_outputs(g, base)), strict=True
            )
            change = max((relative_change(a, b) for a, b in pairs), default=0.0)
            changes[name] = max(change, changes.get(name, 0.0))
    return changes


def relative_change(new: jax.Array, old: jax.Array) -> float:
    """Largest difference, relative to the largest entry of ``old``."""
    new, old = jnp.asarray(new), jnp.asarray(old)
    if new.size == 0:
        return 0.0
    if not jnp.issubdtype(old.dtype, jnp.inexact):
        return float(jnp.any(new != old))
    scale = jnp.max(jnp.abs(old))
    return float(jnp.max(jnp.abs(new - old)) / jnp.where(scale > 0, scale, 1))
