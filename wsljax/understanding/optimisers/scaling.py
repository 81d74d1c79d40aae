"""The scalings of a spec in logarithms: every entry times ``exp(A t)``, ``t`` one number for each unit.

``Scale`` and ``Uniform`` generators are diagonal: an entry ``e`` of a block (plus the ``offset`` of its
term) is multiplied by ``prod_v s_v ** A[e, v]``, where ``A`` holds the exponents of the terms. What is
multiplied through (``Term.through``) cancels. The functions here multiply by ``A`` and by its transpose
without ever writing it down: by broadcasting, and by sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Generator, Scale, Spec, Term, Uniform
from wsljax.symmetry.layout import spread

Logs = Mapping[str, jax.Array]
Blocks = Mapping[str, jax.Array]


def scalings(spec: Spec, names: Iterable[str] | None = None) -> tuple[Generator, ...]:
    """The ``Scale`` and ``Uniform`` generators of a spec; ``names`` restricts them.

    Raises:
        ValueError: for a name that no scaling generator has.
    """
    found = tuple(g for g in spec.generators if isinstance(g, (Scale, Uniform)))
    if names is None:
        return found
    known = {g.name: g for g in found}
    wanted = tuple(names)
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"{name!r} is no scaling generator of this spec; it has {tuple(known) or 'none'}. "
                "Infer the spec with kinds=('permutation', 'scale', 'uniform')"
            )
    return tuple(known[name] for name in wanted)


def one_sided(gen: Generator) -> bool:
    """Whether all exponents have one sign: nothing goes out, as in front of a normalisation."""
    return len({t.exponent > 0 for t in gen.terms}) == 1


def work_dtype(x: Any):
    """float32 for what is narrower, else the dtype of ``x``."""
    return jnp.promote_types(jnp.asarray(x).dtype, jnp.float32)


def used_blocks(spec: Spec, params: Any, generators: Sequence[Generator]) -> dict[str, jax.Array]:
    """The blocks that the generators scale, their offsets added, in at least float32."""
    names = {t.block for g in generators for t in g.terms}
    shift = offsets(generators)
    return {
        name: x.astype(work_dtype(x)) + jnp.asarray(shift.get(name, 0.0), work_dtype(x))
        for name, x in spec.blocks(params).items()
        if name in names
    }


def offsets(generators: Sequence[Generator]) -> dict[str, float]:
    """What is added to a block before it is scaled.

    Raises:
        ValueError: if two generators scale one block with different offsets.
    """
    out: dict[str, float] = {}
    for gen in generators:
        for term in gen.terms:
            if abs(out.setdefault(term.block, term.offset) - term.offset) > 1e-9:
                raise ValueError(
                    f"block {term.block!r} is scaled about two centres ({out[term.block]} and "
                    f"{term.offset}, by {gen.name!r}); name the generators to use"
                )
    return out


def gather(x: jax.Array, where: Sequence[int]) -> jax.Array:
    """Sums over all axes but ``where``, which are left in that order: the transpose of :func:`spread`."""
    rest = tuple(k for k in range(x.ndim) if k not in where)
    kept = sorted(where)
    return x.sum(rest).transpose([kept.index(k) for k in where])


def part_mask(term: Term, shape: Sequence[int], dtype) -> jax.Array | float:
    """One on the part of the block that a term moves, zero elsewhere; broadcastable."""
    mask: jax.Array | float = 1.0
    for axis, index in term.part:
        one = jnp.zeros(shape[axis], dtype).at[index].set(1)
        mask = mask * spread(one, (axis,), len(shape))
    return mask


def log_factor(
    generators: Sequence[Generator], t: Logs, name: str, x: jax.Array, positive: bool = False
) -> jax.Array:
    """``A t`` on one block, broadcastable to it; ``positive`` keeps the positive exponents only.

    Generators that ``t`` leaves out are left aside.
    """
    out = jnp.zeros((1,) * x.ndim, x.dtype)
    for gen in generators:
        if gen.name not in t:
            continue
        for term in gen.terms:
            if term.block == name and (term.exponent > 0 or not positive):
                laid = spread(t[gen.name].astype(x.dtype), term.where, x.ndim)
                exponent = jnp.asarray(term.exponent, x.dtype)
                out = out + exponent * laid * part_mask(term, x.shape, x.dtype)
    return out


def collect(gen: Generator, values: Blocks, sign: int = 0, power: int = 1) -> jax.Array:
    """``sum_e |A[e, v]| ** power values[e]`` for each entry ``v`` of a generator.

    ``sign`` of 1 or -1 keeps the terms with exponents of that sign only.
    """
    total: Any = 0.0
    for term in gen.terms:
        if sign and (term.exponent > 0) != (sign > 0):
            continue
        x = values[term.block]
        x = x * part_mask(term, x.shape, x.dtype)
        total = total + jnp.asarray(abs(term.exponent) ** power, x.dtype) * gather(x, term.where)
    if isinstance(total, float):
        dtype = next(iter(values.values())).dtype
        return jnp.zeros(gen.shape, dtype)
    return total


def element_of(t: Logs) -> dict[str, jax.Array]:
    """The group element of logarithms."""
    return {name: jnp.exp(x) for name, x in t.items()}
