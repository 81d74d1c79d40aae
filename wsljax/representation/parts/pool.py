"""Invariant pooling: numbers that no exchange of units changes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, structure
from ..blocks.stacks import Cell, assemble
from ..blocks.ties import Tie, ties
from ..blocks.transfer import read
from .attention_pool import AttentionPool

STATISTICS = ("mean", "square", "max", "std")
"""What a block is reduced to: averages of the features and of their squares, the largest, the spread."""


def make_pool(
    spec: Spec, channels: int, *, key: jax.Array, kind: str | None = None, **options: Any
) -> InvariantPool | AttentionPool:
    """A pool by name, as ``Metanetwork(pooling={"kind": "attention", "queries": 4})`` names it.

    Args:
        spec: annotation of the networks.
        channels: of the features.
        key: of the initial weights, if the pool has any.
        kind: ``"attention"`` for :class:`.AttentionPool`; one of :data:`STATISTICS` for an
            :class:`InvariantPool` of it; None for the default ``InvariantPool``.
        options: of the pool.

    Raises:
        ValueError: no such kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"w": jnp.zeros((2, 2))}, {"w": "h h"})
        >>> make_pool(spec, 8, key=jax.random.key(0), kind="attention", queries=4).size(8)
        32
        >>> make_pool(spec, 8, key=jax.random.key(0), statistics=("mean", "max")).size(8)
        32
    """
    if kind == "attention":
        return AttentionPool(spec, channels, key=key, **options)
    if kind is None:
        return InvariantPool(spec, **options)
    if kind in STATISTICS and "statistics" not in options:
        return InvariantPool(spec, statistics=(kind,), **options)
    raise ValueError(
        f"`pooling` has kind {kind!r}; known: 'attention' and {STATISTICS} (several of these as "
        "`statistics=(...)`, without a kind)"
    )


class InvariantPool(eqx.Module):
    """Every full reduction of every block, side by side.

    A block is reduced over all its indices, once for each way to tie them: a recurrent kernel ``h h``
    gives the mean of all its entries and the mean of its diagonal. The means together are a basis of
    the invariant linear maps.

    Attributes:
        statistics: any of :data:`STATISTICS`: ``"mean"`` averages the features; the others are
            invariant, not linear.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.blocks.features import Features
        >>> spec = symmetry.parse({"w": jnp.zeros((2, 2))}, {"w": "h h"})
        >>> pool = InvariantPool(spec)
        >>> pool(Features.of(structure(spec), {"w": jnp.arange(4.0).reshape(2, 2, 1)})).tolist()
        [1.5, 1.5]
        >>> pool.size(channels=16)
        32
    """

    structure: Structure = eqx.field(static=True)
    statistics: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, spec: Spec, *, statistics: tuple[str, ...] = ("mean",)):
        unknown = [s for s in statistics if s not in STATISTICS]
        if isinstance(statistics, str) or unknown or not statistics:
            raise ValueError(f"`statistics` must be among {STATISTICS}; got {statistics}")
        self.structure, self.statistics = structure(spec), tuple(statistics)

    def size(self, channels: int) -> int:
        """How many numbers come out."""
        return len(_reductions(self.structure)) * len(self.statistics) * channels

    def __call__(self, x: Features) -> jax.Array:
        """Features to one vector of :meth:`size` numbers, in their dtype."""
        place = {b: (g, n) for g, members in enumerate(x.groups) for n, b in enumerate(members)}
        out = []
        for statistic in self.statistics:
            stacks = {}
            for g, (a, members) in enumerate(zip(x.arrays, x.groups, strict=True)):
                wanted = ties(self.structure[members[0]])
                found = jax.vmap(lambda y, s=statistic, w=wanted: _reduce(y, w, s))(a)
                stacks.update({(g, tie): m for tie, m in zip(wanted, found, strict=True)})
            cells = [
                Cell((place[b][0], tie), place[b][1]) for b, tie in _reductions(self.structure)
            ]
            out.append(assemble(stacks, [cells])[0])
        return jnp.stack(out, axis=-1).reshape(-1)


def _reduce(x: jax.Array, wanted: list[Tie], statistic: str) -> list[jax.Array]:
    """One vector of channels for each way to tie the indices of ``(*indices, C)``."""
    if statistic in ("mean", "square"):
        x = jnp.square(x) if statistic == "square" else x
        return read(x, [(tie, ()) for tie in wanted])
    tied = read(x, [(tie, tuple(sorted(set(tie)))) for tie in wanted])
    rows = [a.reshape(-1, a.shape[-1]) for a in tied]
    if statistic == "max":
        return [jnp.max(a, axis=0) for a in rows]
    tiny = jnp.finfo(x.dtype).eps  # a root has no gradient at zero
    return [jnp.sqrt(jnp.var(a, axis=0) + tiny) for a in rows]


@lru_cache(maxsize=64)
def _reductions(blocks: Structure) -> tuple[tuple[int, Tie], ...]:
    """Block and tie of every reduction, blocks of one kind together."""
    kinds: dict[str, list[int]] = {}
    for b, block in enumerate(blocks):
        kinds.setdefault(block.kind, []).append(b)
    return tuple(
        (b, tie) for members in kinds.values() for tie in ties(blocks[members[0]]) for b in members
    )
