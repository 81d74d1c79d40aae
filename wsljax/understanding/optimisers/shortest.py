"""The scaling of a network that makes a norm of its weights smallest: the convex problem and its solver.

With ``t = log s`` the objective is a sum of exponentials,

    ``F(t) = sum_groups (sum_e |w_e|^p exp(p (A t)_e)) ** (q/p)``,

convex in ``t``. Let ``N`` be the largest ``sum_v |A[e, v]|`` of any entry, and ``P_v``, ``Q_v`` the sums
of ``|A[e, v]| |w_e|^p`` over entries of positive and negative exponent. Jensen's inequality gives a bound
that is separable in the units and touches ``F`` at the current weights, and is smallest at

    ``s_v <- s_v (Q_v / P_v) ** (1 / (2 N max(p, q)))``

(entries weighted by ``group sum ** (q/p - 1)`` if ``q != p``). For a chain of layers ``N = 2``: Saul's
exponent. So one pass over all units in parallel never increases ``F``, needs no step size, and holds for
units with any number of terms, of any degree, in convolutions, residual streams and stacks. Newton steps
in between, taken where they lower the imbalance without raising ``F``, make the end quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from wsljax.symmetry import Generator
from wsljax.symmetry.layout import spread

from .scaling import collect, gather, log_factor


@partial(jax.jit, static_argnames=("generators", "p", "q", "anchored", "steps", "tol", "newton"))
def solve(
    generators: tuple[Generator, ...],
    blocks: dict[str, jax.Array],
    p: float,
    q: float | None = None,
    *,
    anchored: bool = False,
    steps: int = 100,
    tol: float | None = None,
    newton: bool = True,
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """The logarithms of the scalings that minimise the norm; ``(t, imbalance, steps taken)``.

    ``anchored`` gives units with nothing going out (or nothing coming in) a norm of one instead of
    leaving them: the minimum of ``F(t) - p sum_v k_v t_v`` with ``k = 1`` (or -1) there.
    """
    dtype = jnp.result_type(*blocks.values())
    tol = 20 * float(jnp.finfo(dtype).eps) if tol is None else tol
    q = p if q is None else q
    groups = _groups(generators, blocks) if q != p else None
    most = max(
        sum(abs(t.exponent) for g in generators for t in g.terms if t.block == name)
        for name in blocks
    )
    rate = 2 * most * max(p, q)

    def weighted(t):
        """``|w_e|^p`` of the scaled weights, times the derivative of the outer power; and ``F``."""
        cost = {
            n: jnp.abs(x) ** p * jnp.exp(p * log_factor(generators, t, n, x))
            for n, x in blocks.items()
        }
        if groups is None:
            return cost, sum(x.sum() for x in cost.values())
        return groups(cost, q / p)

    def halves(t):
        cost, total = weighted(t)
        plus = {g.name: collect(g, cost, 1) for g in generators}
        minus = {g.name: collect(g, cost, -1) for g in generators}
        return cost, total, plus, minus

    zero = {g.name: jnp.zeros(g.shape, dtype) for g in generators}
    _, _, plus0, minus0 = halves(zero)
    anchor = {
        n: jnp.where(minus0[n] == 0, 1.0, 0.0) - jnp.where(plus0[n] == 0, 1.0, 0.0) for n in zero
    }
    anchor = {n: (k if anchored else 0 * k).astype(dtype) for n, k in anchor.items()}
    both = {n: (plus0[n] > 0) & (minus0[n] > 0) for n in zero}
    free = {n: both[n] | (anchor[n] != 0) for n in zero}

    def imbalance(plus, minus):
        worst = [
            jnp.max(
                jnp.where(
                    free[n],
                    jnp.abs(plus[n] - minus[n] - anchor[n])
                    / jnp.where(free[n], plus[n] + minus[n] + jnp.abs(anchor[n]), 1),
                    0,
                )
            )
            for n in zero
        ]
        return jnp.max(jnp.stack(worst))

    def multiplicative(plus, minus):
        out = {}
        for n in zero:
            a, b, k = plus[n], minus[n], anchor[n]
            root = jnp.sqrt(k**2 + 4 * a * b)
            up = jnp.where(k >= 0, (k + root) / 2, 2 * a * b / jnp.where(k < 0, root - k, 1))
            up = jnp.where(k >= 0, up / jnp.where(a > 0, a, 1), 1)
            down = jnp.where(k < 0, (root - k) / 2 / jnp.where(b > 0, b, 1), 1)
            out[n] = jnp.where(free[n], 2 * jnp.log(up / down) / rate, 0)
        return out

    def value(t, total):
        return total - p * sum((anchor[n] * t[n]).sum() for n in zero)

    def newton_step(t, plus, minus, cost):
        slope = jax.grad(lambda t: value(t, weighted(t)[1]))
        g = {n: jnp.where(free[n], x, 0) for n, x in slope(t).items()}
        diagonal = {gen.name: p * p * collect(gen, cost, 0, 2) for gen in generators}
        diagonal = {n: jnp.where(free[n] & (d > 0), d, 1) for n, d in diagonal.items()}

        def hessian(v):
            out = jax.jvp(slope, (t,), (v,))[1]
            return {n: jnp.where(free[n], x, v[n]) for n, x in out.items()}

        step, _ = cg(
            hessian, {n: -x for n, x in g.items()}, tol=1e-3, maxiter=50,
            M=lambda v: {n: v[n] / diagonal[n] for n in v},
        )  # fmt: skip
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in step.values()]))
        shrink = jnp.minimum(1.0, 2.0 / jnp.where(largest > 0, largest, 1))
        return {n: t[n] + shrink * step[n] for n in t}

    def one(carry):
        t, gap, _, count, (cost, total, plus, minus) = carry
        step = multiplicative(plus, minus)
        new = {n: t[n] + step[n] for n in t}
        now = halves(new)
        new_gap = imbalance(*now[2:])
        if newton:
            tried = newton_step(new, now[2], now[3], now[0])
            there = halves(tried)
            its_gap = imbalance(*there[2:])
            level = value(new, now[1])
            slack = 50 * jnp.finfo(dtype).eps * jnp.abs(level)
            take = (its_gap < new_gap) & (value(tried, there[1]) <= level + slack)
            new, now, new_gap = jax.tree.map(
                partial(jnp.where, take), (tried, there, its_gap), (new, now, new_gap)
            )
        return new, new_gap, gap, count + 1, now

    def go_on(carry):
        _, gap, _, count, _ = carry
        return (gap > tol) & (count < steps)

    start = halves(zero)
    gap0 = imbalance(*start[2:])
    t, gap, _, count, _ = jax.lax.while_loop(
        go_on, one, (zero, gap0, gap0, jnp.zeros((), jnp.int32), start)
    )
    return t, gap, count


def _groups(generators: Sequence[Generator], blocks):
    """For ``q != p``: which entries are raised to a power together."""
    leads: dict[str, Any] = {}
    for name, x in blocks.items():
        scaled = {t.axis for g in generators for t in g.terms if t.block == name}
        into = [
            (g, t)
            for g in generators
            for t in g.terms
            if t.block == name and t.exponent > 0 and not t.part and t.axis is not None
        ]
        if into:
            gen, term = into[0]
            leads[name] = ((gen.over, gen.units), term.where)
        else:
            rest = [k for k in range(x.ndim) if k not in scaled]
            leads[name] = (name, tuple(rest[-1:]))

    def powered(cost, r):
        sums: dict[Any, jax.Array] = {}
        for name, x in cost.items():
            key, where = leads[name]
            sums[key] = sums.get(key, 0) + gather(x, where)
        outer = {k: jnp.where(s > 0, s, 1) ** (r - 1) for k, s in sums.items()}
        total = sum((outer[k] * s).sum() for k, s in sums.items())
        out = {}
        for name, x in cost.items():
            key, where = leads[name]
            out[name] = x * spread(outer[key], where, x.ndim)
        return out, total

    return powered
