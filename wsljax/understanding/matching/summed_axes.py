"""``summed_axes``: along which axes of which weights a function adds up over units.

A unit that is split in two writes the same value twice, so what reads it must share its weights out: arrays
that are *written* to units are averaged over units, arrays that *read* them are added up. Which is which
stands in the function alone. It is traced, and every operand of a product or convolution that is made of
weights only is watched: an axis of a block adds up where a change of one unit's weights is seen at some
of the coordinates that the product sums over, and a change of the whole block at more of them. No layer or
order of axes is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import Literal, open_jaxpr
from wsljax.symmetry import Activations, Spec, trace_activations
from wsljax.symmetry.activations import entered, mixed_operands
from wsljax.symmetry.axes import Unit, atoms

PRODUCTS = ("dot_general", "conv_general_dilated")
LOOKUPS = ("gather", "dynamic_slice")
"""Weights that are looked up (embeddings) are written to units."""


def summed_axes(
    fn: Callable, params: Any, spec: Spec, *inputs: Any
) -> dict[tuple[str, int], float]:
    """Where ``fn(params, *inputs)`` adds up over units.

    Args:
        fn, params, inputs: of the function; ``inputs`` may be shapes.
        spec: annotation of ``params``.

    Returns:
        ``{(block, axis): share}`` for axes of units: 1 where a product sums over them, 1/2 where they are
        both read and written (tied weights), or where two arrays share a sum between them (queries and
        keys, the factors of a product of weights). Axes of units that are left out are only written.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["w"] + p["b"]) @ p["v"].T
        >>> p = {"w": jnp.ones((3, 5)), "b": jnp.ones(5), "v": jnp.ones((2, 5))}
        >>> spec = symmetry.parse(p, {"w": "_ h", "b": "h", "v": "_ h"})
        >>> summed_axes(fn, p, spec, jnp.ones((4, 3)))
        {('v', 1): 1.0}
    """
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), jax.dtypes.result_type(x)), (params, *inputs)
    )
    closed = jax.make_jaxpr(fn)(*shapes)
    jaxpr, _ = open_jaxpr(closed)
    count = len(jax.tree.leaves(params))
    kinds = (*PRODUCTS, *LOOKUPS)
    every = list(_equations(jaxpr, kinds))
    told = {p for p in mixed_operands(jaxpr, [n >= count for n in range(len(jaxpr.invars))], kinds)}
    value = lambda path, eqn, k: (path[:-1], id(eqn.invars[k]))  # noqa: E731
    of_inputs = {value(p, e, k) for p, e in every for k in _operands(e) if (p, k) in told}
    watched = [
        (path, k, eqn)
        for path, eqn in every
        for k in _operands(eqn)
        if not isinstance(eqn.invars[k], Literal) and value(path, eqn, k) not in of_inputs
    ]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[1:])
    places = tuple((path, k) for path, k, _ in watched)
    run = jax.jit(lambda p: Activations(spec, places, closed)(p, *zeros)[1])
    evidence: dict[tuple[str, int], set[float]] = {}
    for n, axis, seen in _changes(run, params, spec):
        for (path, k, eqn), (slab, whole) in zip(watched, seen, strict=True):
            if not whole.any():
                continue
            sums = _contracted(eqn, k, whole.ndim - len(eqn.invars[k].aval.shape))
            free = tuple(d for d in range(whole.ndim) if d not in sums)
            reads = bool(sums) and bool((slab.any(free) != whole.any(free)).any())
            product = eqn.primitive.name in PRODUCTS
            shared = product and value(path, eqn, 1 - k) not in of_inputs
            share = 0.0 if not reads else 0.5 if shared else 1.0
            evidence.setdefault((n, axis), set()).add(share)
    found = {at: float(np.mean(list(shares))) for at, shares in evidence.items()}
    found |= _met_inside(fn, params, spec, inputs, every, found)
    return {at: share for at, share in found.items() if share}


def _equations(jaxpr, kinds, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    for n, eqn in enumerate(jaxpr.eqns):
        inner = entered(eqn)
        if inner is not None:
            yield from _equations(inner[0], kinds, (*path, n))
        elif eqn.primitive.name in kinds:
            yield (*path, n), eqn


def _operands(eqn) -> tuple[int, ...]:
    return (0, 1) if eqn.primitive.name in PRODUCTS else (0,)


def _contracted(eqn, k: int, lead: int) -> tuple[int, ...]:
    """The axes of an operand that a product sums over, behind ``lead`` axes of steps of scans."""
    numbers = eqn.params.get("dimension_numbers")
    if eqn.primitive.name == "dot_general":
        return tuple(lead + d for d in numbers[0][k])
    if eqn.primitive.name == "conv_general_dilated":
        return (lead + (numbers.rhs_spec if k else numbers.lhs_spec)[1],)
    return ()


def _changes(run, params, spec: Spec) -> Iterator[tuple[str, int, list]]:
    """For each axis of units: which entries of the operands change with one unit, and with the block."""
    names = {u.name for u in spec.units}
    blocks = spec.blocks(params)
    blocks = {
        n: jax.random.normal(jax.random.key(i), x.shape).astype(x.dtype)
        if jnp.issubdtype(x.dtype, jnp.inexact)
        else x
        for i, (n, x) in enumerate(blocks.items())
    }
    value = lambda b: [np.asarray(v) for v in run(spec.unblocks(b, like=params))]  # noqa: E731
    base = value(blocks)
    for block in spec.layout:
        x = blocks[block.name]
        axes = [k for k, axis in enumerate(block.axes) if axis in names]
        if not axes or not jnp.issubdtype(x.dtype, jnp.inexact):
            continue
        other = jax.random.normal(jax.random.key(len(blocks)), x.shape).astype(x.dtype)
        whole = [y != z for y, z in zip(value({**blocks, block.name: other}), base, strict=True)]
        for k in axes:
            one = (slice(None),) * k + (0,)
            moved = value({**blocks, block.name: x.at[one].set(other[one])})
            slabs = [y != z for y, z in zip(moved, base, strict=True)]
            yield block.name, k, list(zip(slabs, whole, strict=True))


def _met_inside(fn, params, spec: Spec, inputs, every, found) -> dict[tuple[str, int], float]:
    """Units over which two activations are multiplied and summed: what writes them shares the sum."""
    traced = trace_activations(fn, params, spec, *inputs, mix=PRODUCTS)
    trees = dict(zip(traced.places, (leaf.trees for leaf in traced.spec.leaves), strict=True))
    met: set[str] = set()
    for path, eqn in every:
        if (path, 0) in trees and (path, 1) in trees:
            lead = len(trees[path, 0]) - len(eqn.invars[0].aval.shape)
            for d in _contracted(eqn, 0, lead):
                met |= {a.name for a in atoms(trees[path, 0][d]) if isinstance(a, Unit)}
    read = {b.axes[k] for b in spec.layout for k in range(len(b.axes)) if found.get((b.name, k))}
    return {
        (b.name, k): 0.5 for b in spec.layout for k, axis in enumerate(b.axes) if axis in met - read
    }
