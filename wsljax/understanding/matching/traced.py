"""Coordinate ascent as one traced program, for accelerators and inside of ``jit`` and ``vmap``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from .assignment import linear_assignment
from .exchange import Arrays, agreement, compose, exchange, identity
from .family import best_exchange, first_exchange, keep_where
from .host import reopened
from .open_units import anchored_order
from .problem import Problem


def assign(gains: jax.Array) -> jax.Array:
    return linear_assignment(gains, maximise=True)


def ascend(
    problem: Problem,
    a: Arrays,
    b: Arrays,
    *,
    key: jax.Array,
    restarts: int = 1,
    sweeps: int = 100,
    start: str = "averages",
    element: Arrays | None = None,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Match the blocks of one pair; as :func:`.host.ascend`, but that units are visited whether due or not.

    Returns:
        The element and the value ``<a, act(element, b)>``.
    """
    best: Any = None
    dtype = jnp.result_type(*b.values())
    for attempt in range(restarts):
        given = element if best is None else best[0]
        moved, so_far = b, identity(jnp, problem, dtype=dtype)
        if given:
            moved = exchange(jnp, problem, b, given)
            so_far = compose(jnp, problem, given, so_far)
        if attempt or start == "averages":
            first = reopened(problem, attempt) if attempt else anchored_order(problem)
            moved, so_far = _start(problem, a, moved, so_far, list(first))
        one = jax.random.fold_in(key, attempt)
        so_far, value = _sweeps(problem, a, moved, so_far, one, sweeps)
        if best is None:
            best = so_far, value
        else:
            better = value > best[1]
            best = keep_where(jnp, better, so_far, best[0]), jnp.where(better, value, best[1])
    return best


def _start(problem: Problem, a: Arrays, b: Arrays, element: Arrays, names: list[str]):
    is_open = {m for n in names for m in (n, *(u.name for u in problem.nested(n)))}
    for name in names:
        moves = first_exchange(jnp, assign, problem, name, frozenset(is_open), a, b)
        b = exchange(jnp, problem, b, moves)
        element = compose(jnp, problem, moves, element)
        is_open -= {name, *(m.name for m in problem.nested(name))}
    return b, element


def _sweeps(problem: Problem, a: Arrays, b: Arrays, element: Arrays, key: jax.Array, sweeps: int):
    dtype = jnp.result_type(*b.values())
    still = identity(jnp, problem, dtype=dtype)
    visits = [_visit(problem, u.name, a, still) for u in problem.units]
    count = len(visits)

    def sweep(state):
        b, element, _, turn = state
        order = jax.random.permutation(jax.random.fold_in(key, turn), count)

        def one(i, inner):
            return jax.lax.switch(order[i], visits, inner) if count > 1 else visits[0](inner)

        b, element, moved = jax.lax.fori_loop(0, count, one, (b, element, jnp.asarray(False)))
        return b, element, moved, turn + 1

    state = (dict(b), dict(element), jnp.asarray(True), jnp.asarray(0))
    b, element, _, _ = jax.lax.while_loop(lambda s: s[2] & (s[3] < sweeps), sweep, state)
    return element, agreement(jnp, problem, a, b)


def _visit(problem: Problem, name: str, a: Arrays, still: Arrays):
    blocks = {p.block.name: p.block for p in problem.places(name)}
    part = replace(problem, blocks=tuple(blocks.values()))
    near = {n: a[n] for n in blocks}

    def visit(state):
        b, element, moved = state
        moves, _ = best_exchange(jnp, assign, problem, name, a, b)
        there = exchange(jnp, part, {n: b[n] for n in blocks}, moves)
        now = agreement(jnp, part, near, {n: b[n] for n in blocks})
        size = sum(jnp.sum(jnp.abs(near[n] * b[n])) for n in blocks)
        eps = jnp.finfo(jnp.result_type(now)).eps
        better = agreement(jnp, part, near, there) > now + 4 * eps * size
        moves = keep_where(jnp, better, moves, still)
        after = dict(b) | {n: jnp.where(better, there[n], b[n]) for n in blocks}
        return after, compose(jnp, problem, moves, element), moved | better

    return visit
