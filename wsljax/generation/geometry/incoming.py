"""Which weights may have any length: for each unit those that go into it, by the scalings of a spec.

The way into a ReLU may be multiplied by any positive number if the way out is divided by it. So in each orbit
of the scalings there are networks in which the weights into every such unit, its bias among them, have a
length that was chosen: points on a product of spheres. What stays free are the readout, and what no scaling
acts on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from ...symmetry import Generator, Spec, Term
from ...understanding.optimisers.scaling import (
    collect,
    log_factor,
    one_sided,
    part_mask,
    scalings,
    work_dtype,
)

Blocks = dict[str, jax.Array]


def incoming(spec: Spec, names: Sequence[str] | None = None) -> tuple[Generator, ...]:
    """The scalings whose ways in can be given any length, with no more terms than these ways in.

    Of a way in only what has the exponent one counts, and is scaled once (weights between units of one set,
    as in a recurrent kernel or a residual stream, are left aside). Ways in are disjoint, hold two numbers or
    more for each unit (else the way out takes their place), and stand in an order in which the length of each
    depends on those before it alone; generators for which that cannot be are left out.

    Args:
        spec: with ``Scale`` (and perhaps ``Uniform``) generators; see ``symmetry.infer``.
        names: of the generators to use; by default all.

    Raises:
        ValueError: for a name that no scaling generator has.

    Example:
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"] + p["b"]) @ p["c"]
        >>> p = {"a": jnp.ones((2, 3)), "b": jnp.ones(3), "c": jnp.ones((3, 2))}
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> [[t.block for t in g.terms] for g in incoming(spec)]
        [['a', 'b']]
    """
    found: list[Generator] = []
    by_name = {gen.name: gen for gen in scalings(spec, names)}
    for gen in sorted(by_name.values(), key=lambda gen: not one_sided(gen)):
        for part in _sides(gen, spec)[:1]:
            taken = any(_meet(a, b) for a in part.terms for other in found for b in other.terms)
            if not taken and _order([*found, part], by_name) is not None:
                found.append(part)
    order = _order(found, by_name)
    assert order is not None, "each was added only where there was an order"
    return tuple(order)


def squares(gen: Generator, blocks: Blocks) -> jax.Array:
    """The squared lengths of the ways in of one generator, of its shape."""
    return collect(gen, {t.block: blocks[t.block] ** 2 for t in gen.terms})


def products(gen: Generator, x: Blocks, y: Blocks) -> jax.Array:
    """The inner products of the ways in of two networks."""
    return collect(gen, {t.block: x[t.block] * y[t.block] for t in gen.terms})


def scaled(gen: Generator, factor: jax.Array, blocks: Blocks) -> Blocks:
    """The ways in times one number each; blocks that are no way in are left out."""
    out = {}
    for term in gen.terms:
        x = blocks[term.block]
        laid = _laid(gen, factor, term, x)
        mask = part_mask(term, x.shape, x.dtype)
        out[term.block] = x * (1 + (laid - 1) * mask)
    return out


def masks(spheres: Sequence[Generator], blocks: Blocks) -> Blocks:
    """For each block one where it is a way in, zero elsewhere."""
    out = {name: jnp.zeros_like(x) for name, x in blocks.items()}
    for gen in spheres:
        for term in gen.terms:
            x = blocks[term.block]
            out[term.block] = out[term.block] + jnp.broadcast_to(
                part_mask(term, x.shape, x.dtype), x.shape
            ).astype(x.dtype)
    return out


def radii(spheres: Sequence[Generator], spec: Spec) -> dict[str, float]:
    """The square roots of the numbers of weights into one unit: lengths at which a weight has size one."""
    shapes = {b.name: b.shape for b in spec.layout}
    return {
        gen.name: (sum(_entries(t, shapes[t.block]) for t in gen.terms) / prod(gen.shape)) ** 0.5
        for gen in spheres
    }


def normalising(
    params: Any, spec: Spec, spheres: Sequence[Generator], lengths: dict[str, float]
) -> dict[str, jax.Array]:
    """The group element after which the ways in have these lengths; ``spec.act`` it.

    Units with no weights going in are left as they are. Traceable.
    """
    whole = {gen.name: gen for gen in spec.generators}
    blocks = {n: x.astype(work_dtype(x)) for n, x in spec.blocks(params).items()}
    t: dict[str, jax.Array] = {}
    for gen in spheres:
        done = [whole[name] for name in t]
        now = {
            term.block: blocks[term.block]
            * jnp.exp(log_factor(done, t, term.block, blocks[term.block]))
            for term in gen.terms
        }
        square = squares(gen, now)
        alive = square > 0
        log_length = 0.5 * jnp.log(jnp.where(alive, square, 1))
        sign = 1 if gen.terms[0].exponent > 0 else -1
        goal = jnp.log(jnp.asarray(lengths[gen.name], square.dtype))
        t[gen.name] = sign * jnp.where(alive, goal - log_length, 0)
    return {name: jnp.exp(x) for name, x in t.items()}


def _sides(gen: Generator, spec: Spec) -> list[Generator]:
    """The ways in and out of a generator, as far as they can be given a length; ways in first.

    They are told apart by the bias, which is a way in; a spec does not say which of its exponents are.
    """
    layout = {b.name: b for b in spec.layout}
    out = []
    for sign in (1, -1):
        terms = tuple(
            t
            for t in gen.terms
            if t.exponent == sign
            and t.offset == 0
            and not any(_meet(t, other) for other in gen.terms if other is not t)
        )
        entries = sum(_entries(t, layout[t.block].shape) for t in terms) // max(1, prod(gen.shape))
        if entries >= 2:
            biases = any(len(layout[t.block].axes) == len(t.where) for t in terms)
            out.append((not biases, replace(gen, terms=terms)))
    return [part for _, part in sorted(out, key=lambda pair: pair[0])]


def _laid(gen: Generator, factor: jax.Array, term: Term, x: jax.Array) -> jax.Array:
    one = replace(gen, terms=(replace(term, exponent=1.0, part=()),))
    return log_factor([one], {gen.name: factor}, term.block, x)


def _entries(term: Term, shape: tuple[int, ...]) -> int:
    gone = {axis for axis, _ in term.part}
    return prod(n for k, n in enumerate(shape) if k not in gone)


def _meet(a: Term, b: Term) -> bool:
    """Whether two terms share entries of a block."""
    first, second = dict(a.part), dict(b.part)
    apart = any(first[k] != second[k] for k in first.keys() & second.keys())
    return a.block == b.block and not apart


def _order(found: Sequence[Generator], whole: dict[str, Generator]) -> list[Generator] | None:
    """Each after those that scale its way in; None if they go round in a circle."""
    waiting, out = list(found), []
    while waiting:
        ready = [
            gen
            for gen in waiting
            if not any(
                _meet(a, b)
                for other in waiting
                if other is not gen
                for a in gen.terms
                for b in whole[other.name].terms
            )
        ]
        if not ready:
            return None
        out += ready
        waiting = [gen for gen in waiting if gen not in ready]
    return out
