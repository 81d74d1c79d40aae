"""How elements of generators act on blocks, and how they compose with permutations and with each other.

An element of the whole group is one dictionary: permutations by the name of their units, and one array by
the name of each generator. It acts in three steps: shifts, then everything linear, then permutations,

    ``act(g, p) = permutation(linear(shift(p)))``.

Each kind of step is moved past the others by conjugation, which never leaves its kind: so ``compose`` and
``inverse`` are exact. Linear generators of one spec commute with each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from .. import elements
from ..axes import Fixed, Unit
from ..layout import blocks_of, decompose, recompose, spread
from .amounts import expand, shrink
from .kinds import (
    Gain,
    Generator,
    Linear,
    Orthogonal,
    Phase,
    Shift,
    Sign,
    Term,
    Uniform,
    wider,
)

Element = Mapping[str, jax.Array]


# ---------------------------------------------------------------------------------- on one block
def act_on_term(
    gen: Generator, g: jax.Array, term: Term, x: jax.Array, blocks: Mapping[str, jax.Array]
) -> jax.Array:
    """One block moved by one term (without its offset): linear in ``x``."""
    dtype = x.dtype
    work = wider(dtype, g.dtype) if jnp.issubdtype(g.dtype, jnp.inexact) else dtype
    x, g = x.astype(work), g.astype(work)
    if isinstance(gen, Uniform):
        return (x * spread(_power(g, term.exponent), term.parents, x.ndim)).astype(dtype)
    where = term.where
    gain = None
    for name in term.through:
        one = spread(blocks[name].astype(work), term.gains_at, x.ndim)
        gain = one if gain is None else gain * one
    for name in term.under:
        one = 1 / spread(blocks[name].astype(work), term.gains_at, x.ndim)
        gain = one if gain is None else gain * one
    if gain is not None:
        x = x * gain
    if isinstance(gen, (Linear, Orthogonal)):
        x = _along(x, gen.matrix(g, term.exponent), where)
    elif isinstance(gen, Sign):
        x = x * spread(g, where, x.ndim)
    else:
        x = x * spread(_power(g, term.exponent), where, x.ndim)
    if gain is not None:
        x = x / gain
    return x.astype(dtype)


def _power(s: jax.Array, exponent: float) -> jax.Array:
    if exponent == 1:
        return s
    return 1 / s if exponent == -1 else s**exponent


def _along(x: jax.Array, matrix: jax.Array, where: tuple[int, ...]) -> jax.Array:
    """``x`` times ``matrix[*parents]`` from the right along an axis; ``where`` are parents, then the axis."""
    *parents, axis = where
    rest = [k for k in range(x.ndim) if k not in where]
    order = [*parents, *rest, axis]
    y = x.transpose(order)
    shape = y.shape
    n = len(parents)
    y = y.reshape(*shape[:n], -1, shape[-1])
    y = jnp.matmul(y, matrix, precision="highest").reshape(shape)
    return y.transpose([order.index(k) for k in range(x.ndim)])


def act_on_part(gen: Generator, g: jax.Array, term: Term, x: jax.Array, blocks) -> jax.Array:
    """As :func:`act_on_term`, where ``term`` may be about a part of the block."""
    if not term.part:
        return act_on_term(gen, g, term, x, blocks)
    where = term.slices(x.ndim)
    return x.at[where].set(act_on_term(gen, g, term, x[where], blocks))


def _gain(h: Gain, blocks: Mapping[str, jax.Array], dtype) -> jax.Array:
    x = blocks[h.block].astype(dtype)
    return _power(x + jnp.asarray(h.offset, dtype) if h.offset else x, h.power)


def _carry(gen: Generator, amount: jax.Array, blocks: dict[str, jax.Array]) -> None:
    for c in gen.carries:
        bias = blocks[c.bias]
        work = bias.dtype
        for other in (amount, *([blocks[c.weight]] if c.weight else [])):
            if jnp.issubdtype(other.dtype, jnp.inexact):
                work = wider(work, other.dtype)
        weight = [blocks[c.weight].astype(work)] if c.weight else []
        gains = [_gain(h, blocks, work) for h in c.gains]
        moved = jnp.einsum(c.equation, amount.astype(work), *weight, *gains, precision="highest")
        for k in c.centre:
            moved = moved - moved.mean(k, keepdims=True)
        factor = jnp.asarray(c.factor, work)
        blocks[c.bias] = (bias.astype(work) + factor * moved).astype(bias.dtype)


# ---------------------------------------------------------------------------------- on all of them
def act_on_blocks(
    generators: Sequence[Generator], g: Element, blocks: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Shifts, then everything linear; generators that ``g`` leaves out do nothing."""
    out = dict(blocks)
    for gen in generators:
        if isinstance(gen, Shift) and gen.name in g:
            t, x = g[gen.name], out[gen.target]
            if isinstance(gen, Phase):
                for term in gen.terms:
                    y = out[term.block]
                    sign = spread(1 - 2 * (t % 2), term.where, y.ndim)
                    out[term.block] = y * sign.astype(y.dtype)
                out[gen.target] = x + t.astype(x.dtype) * jnp.asarray(gen.step, x.dtype)
                continue
            _carry(gen, t, out)
            work = wider(t.dtype, x.dtype)
            amount = expand(gen, t.astype(work), x)
            for h in gen.gains:
                amount = amount * spread(_gain(h, out, work), gen.seats, x.ndim)
            out[gen.target] = (x.astype(work) + amount).astype(x.dtype)
            for term in gen.terms:
                x = out[term.block]
                factor = jnp.asarray(term.exponent, work)
                out[term.block] = (x.astype(work) + factor * t.astype(work)).astype(x.dtype)
    for gen in generators:
        if isinstance(gen, Shift) or gen.name not in g:
            continue
        e = g[gen.name]
        if gen.carries:
            _carry(gen, 1 - e, out)
        for term in gen.terms:
            x = out[term.block]
            offset = jnp.asarray(term.offset, x.dtype)
            x = x + offset if term.offset else x
            x = act_on_part(gen, e, term, x, out)
            out[term.block] = x - offset if term.offset else x
    return out


def blocks_used(gen: Generator) -> set[str]:
    """Names of the blocks that a generator moves or reads."""
    names = {b for t in gen.terms for b in (t.block, *t.through, *t.under)}
    for c in gen.carries:
        names |= {c.bias, *([c.weight] if c.weight else []), *(h.block for h in c.gains)}
    if isinstance(gen, Shift):
        names |= {gen.target, *(h.block for h in gen.gains)}
    return names


def touched(generators: Sequence[Generator], g: Collection[str]) -> set[str]:
    """Names of the blocks that are moved or read."""
    names: set[str] = set()
    for gen in generators:
        if gen.name in g:
            names |= blocks_used(gen)
    return names


def act_on_leaves(spec, g: Element, leaves: Sequence[jax.Array]) -> list[jax.Array]:
    """The leaves of a tree moved by the generators in ``g``, permutations left aside."""
    names = touched(spec.generators, g)
    if not names:
        return list(leaves)
    blocks: dict[str, jax.Array] = {}
    cut: dict[int, list[str]] = {}
    for i, (leaf, x) in enumerate(zip(spec.leaves, leaves, strict=True)):
        found = [b.name for b in blocks_of(leaf.path, leaf.trees, spec._overs)]
        if names & set(found):
            cut[i] = found
            blocks |= zip(found, decompose(x, leaf.trees), strict=True)
    blocks = act_on_blocks(spec.generators, g, blocks)
    return [
        recompose([blocks[n] for n in cut[i]], spec.leaves[i].trees) if i in cut else x
        for i, x in enumerate(leaves)
    ]


# ---------------------------------------------------------------------------------- the group
def _permute(spec, perms: Element, labels: Sequence[str], x: jax.Array) -> jax.Array:
    """An array with the given axes moved by permutations, as a block is."""
    if not any(label in perms for label in labels):
        return x
    piece = tuple(
        Unit(label, n) if label in spec._units else Fixed(n, label if label != "_" else None)
        for label, n in zip(labels, x.shape, strict=True)
    )
    return elements._act_on_block(spec, perms, piece, x)


def terms_on_amount(gen: Shift, other: Generator) -> list[Term]:
    """How another generator moves the amount of a shift: as it moves the target, over the gains."""
    out = []
    for term in other.terms:
        if term.block != gen.target:
            continue
        for h in gen.gains:
            if term.axis is not None and term.axis == gen.seats[-1]:
                if h.block in (term.through if h.power < 0 else term.under):
                    term = replace(
                        term,
                        through=tuple(n for n in term.through if n != h.block),
                        under=tuple(n for n in term.under if n != h.block),
                    )
                moved = sum(t.exponent for t in other.terms if t.block == h.block)
                term = replace(term, exponent=term.exponent - h.power * moved)
        if term.exponent % 2 if isinstance(other, Sign) else term.exponent:
            out.append(term)
    return out


def _conjugate(spec, gen: Shift, t: jax.Array, perms: Element, linear: Element, outward: bool):
    """The amount ``t`` moved by linear generators and permutations, in the order of the action
    (``outward``), or back."""
    shape = next(b.shape for b in spec.layout if b.name == gen.target)
    terms = [
        (other, term)
        for other in spec.generators
        if other.name in linear
        for term in terms_on_amount(gen, other)
    ]
    if not outward:
        t = _permute(spec, perms, gen.labels, t)
    if terms:
        x = expand(gen, t, jnp.zeros(shape, t.dtype))
        for other, term in terms:
            x = act_on_part(other, linear[other.name], term, x, {})
        t = shrink(gen, x)
    return _permute(spec, perms, gen.labels, t) if outward else t


def compose(spec, g2: Element, g1: Element, perms1_undone: Element) -> dict[str, jax.Array]:
    """The generators' part of "``g1``, then ``g2``"; ``perms1_undone`` is the inverse of ``g1``'s permutation."""
    out: dict[str, Any] = {}
    linear_undone = {
        gen.name: gen.invert(g1[gen.name]) for gen in spec.generators if not isinstance(gen, Shift)
    }
    for gen in spec.generators:
        second = g2[gen.name]
        if isinstance(gen, Shift):
            second = _conjugate(spec, gen, second, perms1_undone, linear_undone, False)
        else:
            second = _permute(spec, perms1_undone, gen.labels, second)
        out[gen.name] = gen.multiply(second, g1[gen.name])
    return out


def inverse(spec, g: Element) -> dict[str, jax.Array]:
    """The generators' part of the inverse."""
    perms = {u.name: g[u.name] for u in spec.units}
    linear = {gen.name: g[gen.name] for gen in spec.generators if not isinstance(gen, Shift)}
    out: dict[str, Any] = {}
    for gen in spec.generators:
        undone = gen.invert(g[gen.name])
        if isinstance(gen, Shift):
            out[gen.name] = _conjugate(spec, gen, undone, perms, linear, True)
        else:
            out[gen.name] = _permute(spec, perms, gen.labels, undone)
    return out
