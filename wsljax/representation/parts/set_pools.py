"""Equivariant layers whose reductions are any pooling over sets, not means alone.

The universal layer reads each block into its means over some of its indices. Here every such reduction
is first taken by another pool and stands as a block of its own; of these the layer is again one matrix
product an index type, so that nothing grows with the number of pairs of blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..blocks.dtypes import wide
from ..blocks.features import Features
from ..blocks.indices import Indices
from ..blocks.ties import Tie
from ..blocks.transfer import read
from ..universal.basis import Basis, Read

Pool = Callable[[jax.Array, tuple[int, ...]], jax.Array]
"""Features ``(*indices, C)`` and the axes to pool over, to features without these axes."""

POOLS: dict[str, Pool] = {
    "mean": lambda x, axes: jnp.mean(x, axis=axes),
    "sum": lambda x, axes: jnp.sum(x, axis=axes),
    "max": lambda x, axes: jnp.max(x, axis=axes),
}


def attention_pool(query: jax.Array) -> Pool:
    """Means weighted by a softmax over the set, of the products with one query ``(C,)``.

    Example:
        >>> pool = attention_pool(jnp.array([100.0]))
        >>> pool(jnp.array([[1.0], [3.0], [2.0]]), (0,)).tolist()
        [3.0]
    """

    def pool(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
        scores = jnp.einsum("...c,c->...", x, query.astype(x.dtype))
        weights = jax.nn.softmax(wide(scores), axis=axes).astype(x.dtype)
        return jnp.sum(x * weights[..., None], axis=axes)

    return pool


class Pooled(NamedTuple):
    """A basis that reads pooled blocks.

    Attributes:
        basis: its inputs are the pooled blocks, its maps those of the basis it was made from.
        reductions: for each block the ties and the kept indices that are pooled, in order.
        start: the place among the inputs of the first of each block.
    """

    basis: Basis
    reductions: tuple[tuple[tuple[Tie, tuple[int, ...]], ...], ...]
    start: tuple[int, ...]


@lru_cache(maxsize=64)
def pooled(found: Basis) -> Pooled:
    """The basis with each of its reductions as a block of its own."""
    wanted: list[dict[tuple, None]] = [{} for _ in found.inputs]
    for kind in found.types:
        for r in kind.reads:
            wanted[r.block][r.tie, tuple(sorted(r.kept))] = None
    reductions = tuple(tuple(sorted(w)) for w in wanted)
    inputs: list[Indices] = []
    start = []
    for block, terms in zip(found.inputs, reductions, strict=True):
        start.append(len(inputs))
        for tie, kept in terms:
            inputs.append(
                Indices(
                    f"{block.name}: {tie} {kept}",
                    tuple(block.labels[i] for i in kept),
                    tuple(tuple(kept.index(tie[p]) for p in block.parents[i]) for i in kept),
                )
            )

    def whole(r: Read) -> Read:
        kept = tuple(sorted(r.kept))
        n = start[r.block] + reductions[r.block].index((r.tie, kept))
        return Read(n, tuple(range(len(kept))), tuple(kept.index(i) for i in r.kept))

    types = tuple(replace(kind, reads=tuple(map(whole, kind.reads))) for kind in found.types)
    return Pooled(replace(found, inputs=tuple(inputs), types=types), reductions, tuple(start))


def pool_features(plan: Pooled, pool: Pool, x: Features) -> Features:
    """All reductions of all blocks, blocks of a stack together."""
    arrays, groups = [], []
    for array, members in zip(x.arrays, x.groups, strict=True):
        wanted = plan.reductions[members[0]]
        found = jax.vmap(lambda a, wanted=wanted: _reduced(a, wanted, pool))(array)
        for n, reduced in enumerate(found):
            arrays.append(reduced)
            groups.append(tuple(plan.start[b] + n for b in members))
    return Features(tuple(arrays), plan.basis.inputs, tuple(groups))


def _reduced(
    x: jax.Array, wanted: tuple[tuple[Tie, tuple[int, ...]], ...], pool: Pool
) -> list[jax.Array]:
    """Each reduction is pooled from the smallest one that contains it."""
    found: dict[tuple, jax.Array] = {}
    ties = sorted({tie for tie, _ in wanted})
    full = [(tie, tuple(sorted(set(tie)))) for tie in ties]
    found.update(zip(full, read(x, full), strict=True))
    for tie, kept in sorted(wanted, key=lambda term: -len(term[1])):
        if (tie, kept) not in found:
            larger = [k for t, k in found if t == tie and set(k) > set(kept)]
            source = min(larger, key=lambda k, tie=tie: found[tie, k].size)
            gone = tuple(n for n, i in enumerate(source) if i not in kept)
            found[tie, kept] = pool(found[tie, source], gone)
    return [found[term] for term in wanted]
