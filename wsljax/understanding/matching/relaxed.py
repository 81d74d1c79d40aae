"""Doubly stochastic matrices in the place of permutations: a group element that may be half-way.

A relaxed element has a matrix ``(*copies, size, size)`` for each set of units; that of a permutation has ones
at ``[i, permutation[i]]``. It acts on blocks by mixing, parents first, so that on permutations it is the
action of the group, for nested units as well.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Block, Spec

from .exchange import Arrays
from .problem import Problem
from .stacks import floating, matching_problem


def matrices(element: Arrays, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """The matrices of permutations."""
    return {n: jax.nn.one_hot(p, p.shape[-1], dtype=dtype) for n, p in element.items()}


def centre(problem: Problem, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """The mean of all permutations."""
    return {
        u.name: jnp.full((*problem.copies(u.name), u.size, u.size), 1 / u.size, dtype)
        for u in problem.units
    }


def mix_block(block: Block, x: jax.Array, mats: Arrays) -> jax.Array:
    """A block, each axis of units multiplied by their matrix."""
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(block.axes)]
    for k in sorted(range(len(block.axes)), key=lambda k: len(block.parents[k])):
        if block.axes[k] in mats:
            above = "".join(letters[p] for p in block.parents[k])
            out = letters.replace(letters[k], "Z")
            subscripts = f"{above}Z{letters[k]},{letters}->{out}"
            x = jnp.einsum(subscripts, mats[block.axes[k]].astype(x.dtype), x)
    return x


def mix(problem: Problem, blocks: Arrays, mats: Arrays) -> dict[str, jax.Array]:
    """All blocks of a problem under a relaxed element."""
    return {b.name: mix_block(b, blocks[b.name], mats) for b in problem.blocks}


def act_relaxed(spec: Spec, mats: Arrays, params: Any) -> Any:
    """Weights under a relaxed element; at permutations, what :meth:`.Spec.act` does.

    Args:
        spec: the spec.
        mats: ``{units: (*copies, size, size)}``; units that are left out stay.
        params: weights that match the spec, real.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> p = {"w": jnp.arange(6.0).reshape(2, 3)}
        >>> spec = symmetry.parse(p, {"w": "_ h"})
        >>> act_relaxed(spec, {"h": jnp.full((3, 3), 1 / 3)}, p)["w"][:, 0].tolist()
        [1.0, 4.0]
    """
    blocks = spec.blocks(params)
    layout = {b.name: b for b in spec.layout}
    return spec.unblocks({n: mix_block(layout[n], x, mats) for n, x in blocks.items()}, like=params)


def problem_and_blocks(a: Any, b: Any, spec: Spec) -> tuple[Problem, Arrays, Arrays]:
    """What is to be matched; integers are left out."""
    xs, ys = spec.blocks(a), spec.blocks(b)
    problem = matching_problem(spec, a)
    keep = {block.name for block in problem.blocks}
    part = lambda z: {n: floating(jnp, x) for n, x in z.items() if n in keep}  # noqa: E731
    return problem, part(xs), part(ys)
