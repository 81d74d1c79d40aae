"""A common gauge: of all networks that a group of stretchings makes of one, the shortest.

Two networks can be compared once what stretches weights is out of the way. In this order: shifts are centred,
gains that others act through become one, scalings are balanced (L. K. Saul, TMLR 2023), and what a
general linear map acts on is brought to ``U sqrt(S)`` and ``V sqrt(S)``, where ``U S V^T`` is the product of
both sides. That is found from two QR decompositions and the singular value decomposition of a core as small as
the bottleneck; nothing of the size of the product is made, and the architecture stays what it is. These are the
shortest weights of the orbit (G. Kempf, L. Ness 1979), and those that differ do so by signs, permutations
and orthogonal matrices only. As :func:`.canonicalise` does, but as one traced program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Generator, Linear, Scale, Shift, Sign, Spec, Term, Uniform
from wsljax.symmetry.generators import Phase
from wsljax.symmetry.generators.action import act_on_blocks
from wsljax.symmetry.generators.amounts import shrink
from wsljax.symmetry.layout import spread

from ..optimisers.scaling import offsets
from ..optimisers.shortest import solve
from .linear_units import balanced_matrices, balanced_planes

ROUNDS = 60
"""Of scalings and linear maps in turn, at most; they end when none moves."""

Blocks = Mapping[str, jax.Array]


@dataclass(frozen=True)
class Plan:
    """What is done to a spec's generators, and in which order.

    Attributes:
        shifts: with the block, and the exponent there, that tells the amount.
        folds: gains, with the generator and the term that bring them to one.
        folded: names of the generators of ``folds``.
        scales, linear: what is balanced.
        zeroed: blocks, or parts of blocks, that are zero in the gauge.
    """

    shifts: tuple[tuple[Shift, str, float], ...]
    folds: tuple[tuple[Generator, Term], ...]
    scales: tuple[Generator, ...]
    linear: tuple[Linear, ...]
    zeroed: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]

    @property
    def folded(self) -> set[str]:
        return {g.name for g, _ in self.folds}


@lru_cache(maxsize=128)
def plan_of(spec: Spec) -> Plan:
    """The plan for a spec."""
    shifts = _shifts_in_order(spec)
    zeroed = []
    for i, (gen, block, _) in enumerate(shifts):
        later = {c.bias for g, _, _ in shifts[i + 1 :] for c in g.carries}
        if block == gen.target and not (gen.constant or gen.basis or block in later):
            zeroed.append((block, gen.part))
    folds, done = [], set()
    gains = {b for g in spec.generators for t in g.terms for b in (*t.through, *t.under)}
    for gain in sorted(gains):
        for kind in (Scale, Sign):
            movers = [
                (g, t)
                for g in spec.generators
                if isinstance(g, kind) and g.name not in done
                for t in g.terms
                if t.block == gain and not (t.through or t.under or t.part or t.offset)
            ]
            if movers:
                folds.append(movers[0])
                done.add(movers[0][0].name)
    scales = tuple(
        g for g in spec.generators if isinstance(g, (Scale, Uniform)) and g.name not in done
    )
    linear = tuple(g for g in spec.generators if isinstance(g, Linear))
    return Plan(tuple(shifts), tuple(folds), scales, linear, tuple(zeroed))


def _shifts_in_order(spec: Spec) -> list[tuple[Shift, str, float]]:
    """Shifts that carry into the target of another come first."""
    waiting = [g for g in spec.generators if isinstance(g, Shift) and not isinstance(g, Phase)]
    out = []
    while waiting:
        fed = {c.bias: g.name for g in waiting for c in g.carries if c.bias != g.target}
        ready = [g for g in waiting if g.target not in fed] or waiting
        told = {g.name: _told_by(g, waiting) for g in ready}
        known = [g for g in ready if told[g.name] is not None] or ready[:1]
        gen = max(known, key=lambda g: (told[g.name] or (g.target,))[0] != g.target)
        waiting.remove(gen)
        out.append((gen, *(told[gen.name] or (gen.target, 1.0))))
    return out


def _told_by(gen: Shift, waiting: list[Shift]) -> tuple[str, float] | None:
    """A block by which the amount of a shift is told from those of others."""
    others = [g for g in waiting if g is not gen]
    if not any(g.target == gen.target and g.part == gen.part for g in others):
        return gen.target, 1.0
    taken = {g.target for g in others} | {t.block for g in others for t in g.terms}
    taken |= {c.bias for g in others for c in g.carries}
    return next(((t.block, t.exponent) for t in gen.terms if t.block not in taken), None)


# ------------------------------------------------------------------------------------ one network
def to_gauge(spec: Spec, blocks: Blocks) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The element that leads to the gauge, and the blocks there.

    Args:
        spec: the spec.
        blocks: of one network, as ``spec.blocks`` gives them, at least in float32.
    """
    plan = plan_of(spec)
    out = dict(blocks)
    element: dict[str, jax.Array] = {}

    def apply(gen: Generator, amount: jax.Array) -> None:
        nonlocal out
        out = act_on_blocks((gen,), {gen.name: amount}, out)
        before = element.get(gen.name)
        element[gen.name] = amount if before is None else gen.multiply(amount, before)

    for gen, block, exponent in plan.shifts:
        apply(gen, -shift_amount(gen, block, exponent, out))
    for gen, term in plan.folds:
        x = out[term.block].transpose(term.where)
        if isinstance(gen, Sign):
            apply(gen, jnp.where(x < 0, -1, 1))
        else:
            size = jnp.abs(jnp.where(x == 0, 1, x))
            apply(gen, size ** (-1 / term.exponent))
    if plan.scales or plan.linear:
        found, out = _shorten(plan, out)
        element |= found
    return element, out


def shift_amount(gen: Shift, block: str, exponent: float, blocks: Blocks) -> jax.Array:
    """How far a shift has moved the block by which it is told: its mean where the amount is constant."""
    x = blocks[block] / jnp.asarray(exponent, blocks[block].dtype)
    if block == gen.target:
        for h in gen.gains:
            gain = blocks[h.block] + jnp.asarray(h.offset, x.dtype)
            gain = jnp.where(gain == 0, 1, gain) ** h.power
            x = x / spread(gain, gen.seats, x.ndim)
    return shrink(gen, x)


def _shorten(plan: Plan, blocks: Blocks) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    moving = (*plan.scales, *plan.linear)
    names = {t.block for g in moving for t in g.terms}
    names |= {b for g in moving for t in g.terms for b in (*t.through, *t.under)}
    names = sorted(n for n in names if jnp.issubdtype(blocks[n].dtype, jnp.floating))
    dtype = jnp.result_type(*(blocks[n] for n in names))
    shift = offsets(plan.scales) if plan.scales else {}
    scaled = sorted({t.block for g in plan.scales for t in g.terms})

    def one(state):
        part, element, _, turn = state
        moved = jnp.zeros((), dtype)
        steps: dict[str, Any] = {}
        if plan.scales:
            used = {n: part[n] + jnp.asarray(shift.get(n, 0.0), dtype) for n in scaled}
            t, _, _ = solve(plan.scales, used, 2.0, anchored=True, steps=200)
            for g in plan.scales:
                log = jnp.where(jnp.isfinite(t[g.name]), t[g.name], 0)
                steps[g.name] = jnp.exp(log)
                moved = jnp.maximum(moved, jnp.max(jnp.abs(log), initial=0))
            part = act_on_blocks(plan.scales, steps, part)
        for g in plan.linear:
            find = balanced_planes if g.pairs else balanced_matrices
            step = find(g, part)
            if step is None:
                continue
            gram = jnp.matmul(jnp.swapaxes(step, -1, -2), step, precision="highest")
            moved = jnp.maximum(moved, jnp.max(jnp.abs(gram - jnp.eye(g.size, dtype=dtype))))
            part = act_on_blocks((g,), {g.name: step}, part)
            steps[g.name] = step
        for g in moving:
            if g.name in steps:
                product = g.multiply(steps[g.name].astype(dtype), element[g.name])
                element = element | {g.name: product}
        return {n: x.astype(dtype) for n, x in part.items()}, element, moved, turn + 1

    part = {n: blocks[n].astype(dtype) for n in names}
    element = {g.name: jnp.asarray(g.neutral(), dtype) for g in moving}
    state = one((part, element, jnp.zeros((), dtype), 0))
    if len(moving) > len(plan.scales) and len(moving) > 1:
        still = 100 * float(jnp.finfo(dtype).eps)
        state = jax.lax.while_loop(
            lambda s: (s[2] > still) & (s[3] < ROUNDS), one, (*state[:3], jnp.asarray(1))
        )
    return state[1], dict(blocks) | state[0]
