"""The nearest network in an orbit, from one that is near: Gauss-Newton in the Lie algebra.

Signs and exchanges are decided; what is continuous in the group (scalings, linear maps, rotations, shifts)
is left to make ``||a - act(g, b)||`` smallest in the gauge of ``a`` itself. For small directions ``v`` the moved
weights are linear in ``v``, and the least-squares problem is solved by conjugate gradients, with products of the
Jacobian and its transpose only (K. Levenberg 1944, D. Marquardt 1963; for the retraction ``(1 - v/2)^-1
(1 + v/2)`` see N. Higham, "Functions of Matrices", 2008, section 14). Steps that do not shorten the
distance are not taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Generator, Linear, Orthogonal, Spec
from wsljax.symmetry.generators.action import act_on_blocks

from .turns import mean_free

PRODUCTS = 40
"""Products with the Jacobian in each step, at most."""
SMALL = 1e-7
"""A step that shortens the squared distance by no more, relatively, is the last."""

Element = Mapping[str, jax.Array]


class FirstOrder(Linear):
    """Linear maps near the identity, of which the inverse is known to first order."""

    def matrix(self, g: jax.Array, exponent: float) -> jax.Array:
        one = jnp.eye(g.shape[-1], dtype=g.dtype)
        return g if exponent > 0 else 2 * one - jnp.swapaxes(g, -1, -2)


def near(gen: Generator, v: jax.Array, linear: bool = False) -> jax.Array:
    """The element in the direction ``v`` to first order; in the group whatever ``v``, if not ``linear``."""
    if isinstance(gen, Orthogonal):
        n = gen.turned
        rows, columns = jnp.triu_indices(n, 1)
        upper = jnp.zeros((*gen.sizes, n, n), v.dtype).at[..., rows, columns].set(v)
        q = _about_one(upper - jnp.swapaxes(upper, -1, -2), linear)
        if not gen.centred:
            return q
        basis = jnp.asarray(mean_free(gen.size), v.dtype)
        return basis @ q @ basis.T + jnp.asarray(1 / gen.size, v.dtype)
    if isinstance(gen, Linear) and not gen.pairs:
        return _about_one(v, linear)
    return gen.exp(v)


def _about_one(v: jax.Array, linear: bool) -> jax.Array:
    one = jnp.eye(v.shape[-1], dtype=v.dtype)
    return one + v if linear else jnp.linalg.solve(one - v / 2, one + v / 2)


def _first_order(gen: Generator) -> Generator:
    if not isinstance(gen, Linear) or gen.pairs:
        return gen
    return FirstOrder(**{f.name: getattr(gen, f.name) for f in fields(gen)})


def nearest(
    spec: Spec, a: Element, b: Element, steps: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """Move ``b`` along the continuous generators as near to ``a`` as a few steps will.

    Args:
        spec: the spec.
        a, b: blocks of both networks, those of numbers.
        steps: at most; it ends when they gain less than one part in ten million.

    Returns:
        The element that moves ``b``, its blocks moved, and the squared distance.
    """
    generators = tuple(g for g in spec.generators if g.continuous)
    dtype = jnp.result_type(*(x.real.dtype for x in b.values()))
    zero = {g.name: jnp.zeros(g.algebra_shape, dtype) for g in generators}
    if not steps or not generators:
        return {}, dict(b), squares(apart(a, b))
    floor = (10 * float(jnp.finfo(dtype).eps)) ** 2 * squares(a)

    tangent = tuple(_first_order(g) for g in generators)

    def pushed(v, b):
        g = {gen.name: near(gen, v[gen.name], linear=True) for gen in tangent}
        return apart(a, act_on_blocks(tangent, g, b))

    def step(state):
        b, element, now, damping, _, turn = state
        away, push = jax.linearize(lambda v: pushed(v, b), zero)
        pull = jax.linear_transpose(push, zero)
        slope = jax.tree.map(jnp.negative, pull(away)[0])
        curve = lambda v: pull(push(v))[0]  # noqa: E731
        size = _dot(slope, curve(slope)) / jnp.maximum(_dot(slope, slope), 1e-30)
        v = _conjugate_gradients(curve, slope, damping * size)
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0) for x in v.values()]))
        v = jax.tree.map(lambda x: x * jnp.minimum(1, 1 / jnp.maximum(largest, 1e-30)), v)
        g = {gen.name: near(gen, v[gen.name]) for gen in generators}
        new = {n: x.astype(b[n].dtype) for n, x in act_on_blocks(generators, g, b).items()}
        then = squares(apart(a, new))
        better = (then < now) & jnp.isfinite(then)
        settled = jnp.where(better, now - then <= SMALL * then, damping > 1e4)
        product = spec.compose(g, element)
        pick = lambda x, y: jnp.where(better, x, y).astype(y.dtype)  # noqa: E731
        return (
            {n: pick(new[n], b[n]) for n in b},
            {n: pick(product[n], x) for n, x in element.items()},
            pick(then, now),
            jnp.where(better, damping / 10, damping * 100),
            settled,
            turn + 1,
        )

    element = {g.name: jnp.asarray(g.neutral(), dtype) for g in generators}
    now = squares(apart(a, b))
    state: Any = (dict(b), element, now, jnp.asarray(1e-3, dtype), jnp.asarray(False), 0)
    goes_on = lambda s: ~s[4] & (s[5] < steps) & (s[2] > floor)  # noqa: E731
    there, element, now, *_ = jax.lax.while_loop(goes_on, step, state)
    return element, there, now


def apart(a: Element, b: Element) -> dict[str, jax.Array]:
    """What two networks differ by; complex numbers in parts."""
    return {n: _parts(a[n] - x) for n, x in b.items()}


def squares(z: Element) -> jax.Array:
    """The sum of the squares of all entries."""
    return sum((jnp.sum(_parts(x) ** 2) for x in z.values()), jnp.zeros(()))


def _parts(x: jax.Array) -> jax.Array:
    return jnp.stack([x.real, x.imag], -1) if jnp.issubdtype(x.dtype, jnp.complexfloating) else x


def _dot(x: Any, y: Any) -> jax.Array:
    return sum((jnp.vdot(x[n], y[n]) for n in x), jnp.zeros((), x[next(iter(x))].dtype))


def _conjugate_gradients(curve, slope, damping):
    """``(curve + damping) v = slope``, approximately."""

    def one(state):
        v, r, p, rr, count = state
        q = jax.tree.map(lambda x, y: x + damping * y, curve(p), p)
        alpha = rr / jnp.maximum(_dot(p, q), 1e-30)
        v = jax.tree.map(lambda x, y: x + alpha * y, v, p)
        r = jax.tree.map(lambda x, y: x - alpha * y, r, q)
        new = _dot(r, r)
        p = jax.tree.map(lambda x, y: x + new / jnp.maximum(rr, 1e-30) * y, r, p)
        return v, r, p, new, count + 1

    first = _dot(slope, slope)
    goes_on = lambda s: (s[3] > 1e-6 * first) & (s[4] < PRODUCTS)  # noqa: E731
    zero = jax.tree.map(jnp.zeros_like, slope)
    return jax.lax.while_loop(goes_on, one, (zero, slope, slope, first, 0))[0]
