"""Weights as stacks of blocks: one network or several, numbers of which products may be added."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.symmetry import Spec

from .problem import Problem, problem_of


def stacked(xp, params: Any, spec: Spec, what: str) -> tuple[dict[str, Any], bool]:
    """``{block: (pairs, *block)}`` of floating arrays, and whether ``params`` was a stack."""
    leaves = jax.tree.leaves(params)
    shapes = [leaf.shape for leaf in spec.leaves]
    lead = {np.shape(x)[0] for x, s in zip(leaves, shapes) if np.ndim(x) == len(s) + 1}
    stack = len(leaves) == len(shapes) and len(leaves) > 0 and len(lead) == 1
    stack = stack and all(np.shape(x)[1:] == s for x, s in zip(leaves, shapes))
    if xp is np:
        return _host_blocks(params, spec, stack), stack
    read = jax.vmap(spec.blocks) if stack else spec.blocks
    try:
        blocks = read(params)
    except ValueError as e:
        raise ValueError(f"`{what}`: {e}") from None
    out = {}
    for n, x in blocks.items():
        x = x if stack else x[None]
        out[n] = floating(jnp, x)
    return out, stack


def _host_blocks(params: Any, spec: Spec, stack: bool) -> dict[str, np.ndarray]:
    read = _read_stack if stack else _read
    blocks = read(spec, params)
    return {n: floating(np, np.asarray(x)) for n, x in blocks.items()}


@partial(jax.jit, static_argnums=0)
def _read(spec: Spec, params):
    return {n: x[None] for n, x in spec.blocks(params).items()}


@partial(jax.jit, static_argnums=0)
def _read_stack(spec: Spec, params):
    return jax.vmap(spec.blocks)(params)


def floating(xp, x: Any) -> Any:
    """Numbers of which products may be added: complex ones in parts, short ones widened."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return xp.stack([x.real, x.imag], -1)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def matching_problem(spec: Spec, params: Any) -> Problem:
    """What there is to match: integers, switches and keys are no weights."""
    leaves = dict(zip((leaf.path for leaf in spec.leaves), jax.tree.leaves(params), strict=True))
    kinds = {b.name: jnp.result_type(leaves[b.path]) for b in spec.layout}
    skip = tuple(n for n, k in kinds.items() if not jnp.issubdtype(k, jnp.inexact))
    parts = tuple(n for n, k in kinds.items() if jnp.issubdtype(k, jnp.complexfloating))
    return problem_of(spec, skip, parts)


def pair_count(xs, ys, many_a: bool, many_b: bool) -> int:
    sizes = [
        next(iter(z.values())).shape[0] for z, many in ((xs, many_a), (ys, many_b)) if many and z
    ]
    if len(set(sizes)) > 1:
        raise ValueError(f"`a` holds {sizes[0]} networks and `b` {sizes[1]}; they go by pairs")
    return sizes[0] if sizes else 1


def check_finite(x, y) -> None:
    for what, blocks in (("a", x), ("b", y)):
        for n, z in blocks.items():
            with np.errstate(over="ignore", invalid="ignore"):
                total = z.sum()  # may be infinite where the weights are not
            if not np.isfinite(total) and not np.all(np.isfinite(z)):
                raise ValueError(f"`{what}`: {n!r} has NaN or infinite weights")
