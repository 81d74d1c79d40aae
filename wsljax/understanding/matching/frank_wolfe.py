"""``frank_wolfe_matching``: all units at once, through doubly stochastic matrices.

The objective ``<a, act(P, b)>`` is followed from the centre of all doubly stochastic matrices: the gradient is
linear, so the best vertex of each set of units is a linear assignment, and a step goes towards all of
these together, as far as a search along the line finds a gain (M. Frank, P. Wolfe 1956; for graph matching
J. Vogelstein et al., PLoS ONE 10, 2015; for networks D. Crisostomi et al., "C2M3", NeurIPS 2024). The end is
rounded to permutations and improved by coordinate ascent.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Spec

from .exchange import Arrays, agreement
from .problem import Problem
from .relaxed import centre, mix, problem_and_blocks
from .traced import assign
from .weight_matching import Matching, weight_matching

LINE = 16
"""Points that a search along a line looks at."""


def frank_wolfe_matching(
    a: Any, b: Any, spec: Spec, *, key: jax.Array, steps: int = 50, sweeps: int = 100
) -> Matching:
    """Permutations of the units of ``b`` that align its weights to those of ``a``, found jointly.

    Costs an assignment for all units in every step, several times what :func:`weight_matching` does.

    Args:
        a, b: weights that match the spec; real.
        spec: whose permutations to use.
        key: for the coordinate ascent at the end.
        steps: at most; it ends when the best vertex is where the matrices are.
        sweeps: of coordinate ascent at the end.

    Returns:
        :class:`.Matching`.

    Raises:
        ValueError: for weights that do not match, or negative ``steps``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> b = {"w": jax.random.normal(k1, (3, 5)), "v": jax.random.normal(k2, (5, 2))}
        >>> spec = symmetry.infer(fn, b, jnp.ones((1, 3)), kinds=("permutation",))
        >>> g = spec.sample(jax.random.key(1))
        >>> m = frank_wolfe_matching(spec.act(g, b), b, spec, key=jax.random.key(2))
        >>> bool(jnp.all(m.element["h0"] == g["h0"]))
        True
    """
    if steps < 0:
        raise ValueError(f"`steps` must not be negative, got {steps}")
    problem, xs, ys = problem_and_blocks(a, b, spec)
    found = {u.name: spec.identity()[u.name] for u in spec.units}
    if problem.units:
        found |= _follow(problem, steps, xs, ys)
    return weight_matching(
        a, b, spec, key=key, kinds=("permutation",), init=found, start="identity", sweeps=sweeps
    )


@partial(jax.jit, static_argnums=(0, 1))
def _follow(problem: Problem, steps: int, a: Arrays, b: Arrays) -> dict[str, jax.Array]:
    dtype = jnp.result_type(*jax.tree.leaves(b))
    value = lambda mats: agreement(jnp, problem, a, mix(problem, b, mats))  # noqa: E731

    def step(state):
        mats, _, turn = state
        now, gradient = jax.value_and_grad(value)(mats)
        vertex = {
            n: jax.nn.one_hot(assign(g), g.shape[-1], dtype=g.dtype) for n, g in gradient.items()
        }
        at = lambda t: jax.tree.map(lambda p, q: (1 - t) * p + t * q, mats, vertex)  # noqa: E731
        line = jnp.arange(1, LINE + 1, dtype=dtype) / LINE
        values = jax.lax.map(lambda t: value(at(t)), line)
        best = jnp.argmax(values)
        better = values[best] > now + 1e-6 * jnp.abs(now)
        moved = at(jnp.where(better, line[best], 0))
        return moved, better, turn + 1

    state = (centre(problem, dtype), jnp.asarray(True), 0)
    mats = jax.lax.while_loop(lambda s: s[1] & (s[2] < steps), step, state)[0]
    return {n: assign(m) for n, m in mats.items()}
