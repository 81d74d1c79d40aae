"""Invariant pooling: numbers that no exchange of units changes."""

from __future__ import annotations

from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, structure
from ..blocks.stacks import Cell, assemble
from ..blocks.ties import Tie, ties
from ..blocks.transfer import read

STATISTICS = {"mean": lambda a: a, "square": jnp.square}
"""What the average is taken of."""


class InvariantPool(eqx.Module):
    """Every full reduction of every block, side by side.

    A block is averaged over all its indices, once for each way to tie them: a recurrent kernel ``h h``
    gives the mean of all its entries and the mean of its diagonal. Together they are a basis of the
    invariant linear maps.

    Attributes:
        statistics: ``"mean"`` averages the features, ``"square"`` their squares (invariant, not
            linear). Any of both.

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
        if unknown or not statistics:
            raise ValueError(f"`statistics` must be among {tuple(STATISTICS)}; got {statistics}")
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
                wanted = [(tie, ()) for tie in ties(self.structure[members[0]])]
                means = jax.vmap(lambda y, wanted=wanted: read(y, wanted))(STATISTICS[statistic](a))
                stacks.update({(g, tie): m for (tie, _), m in zip(wanted, means, strict=True)})
            cells = [
                Cell((place[b][0], tie), place[b][1]) for b, tie in _reductions(self.structure)
            ]
            out.append(assemble(stacks, [cells])[0])
        return jnp.stack(out, axis=-1).reshape(-1)


@lru_cache(maxsize=64)
def _reductions(blocks: Structure) -> tuple[tuple[int, Tie], ...]:
    """Block and tie of every reduction, blocks of one kind together."""
    kinds: dict[str, list[int]] = {}
    for b, block in enumerate(blocks):
        kinds.setdefault(block.kind, []).append(b)
    return tuple(
        (b, tie) for members in kinds.values() for tie in ties(blocks[members[0]]) for b in members
    )
