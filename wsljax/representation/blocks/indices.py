"""What a layer sees of a spec: for each block the indices that features carry, and who nests in whom.

A feature of a block is an array ``(*indices, C)``, channels last. Its indices are the block's axes
without the anonymous fixed ones, which :mod:`..parts.embed` folds into channels. A named fixed axis stays an
index where units are nested over it (the layer index ``_L`` of scanned parameters): layers are shared
over such an index and treat it like units; its order comes in as position codes.

Nothing here knows a width, so what is built from it runs on any widths of the same structure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...symmetry.layout import Block
from ...symmetry.spec import Spec


@dataclass(frozen=True)
class Indices:
    """The indices of one block's features.

    Attributes:
        name: the block's name.
        labels: the units, or the named fixed axis, that each index runs over.
        parents: for each index the positions of the indices that it is nested over.
    """

    name: str
    labels: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]

    @property
    def kind(self) -> str:
        """The labels with their names taken out: ``"a b[a] b[a]"``. Blocks of a kind look alike."""
        return pattern(self.labels, self.parents)


Structure = tuple[Indices, ...]
"""One entry a block, by name; numbers in names count as numbers, so ``layer_10`` follows ``layer_9``."""


@lru_cache(maxsize=256)
def structure(spec: Spec | Structure) -> Structure:
    """The indices of every block of ``spec``; a structure is its own.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.zeros((5, 3, 4)), "b": jnp.zeros((3,))}
        >>> spec = symmetry.parse(params, {"w": "_ h m[h]", "b": "h"})
        >>> [(i.name, i.labels, i.parents, i.kind) for i in structure(spec)]
        [('b', ('h',), ((),), 'a'), ('w', ('h', 'm'), ((), (0,)), 'a b[a]')]
    """
    if isinstance(spec, tuple):
        return spec
    over = {u.name: u.over for u in spec.units}
    found = []
    for block in sorted(spec.layout, key=lambda block: _natural(block.name)):
        axes = index_axes(spec, block)
        labels = tuple(block.axes[k] for k in axes)
        parents = tuple(tuple(labels.index(o) for o in over.get(a, ())) for a in labels)
        found.append(Indices(block.name, labels, parents))
    return tuple(found)


def index_axes(spec: Spec, block: Block) -> tuple[int, ...]:
    """The positions of the axes of a block of ``spec`` that are indices of its features."""
    nested_over = {name for u in spec.units for name in u.over}
    return tuple(k for k, a in enumerate(block.axes) if not a.startswith("_") or a in nested_over)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(w), "") if w.isdigit() else (-1, w) for w in re.split(r"(\d+)", name)]


def pattern(labels: Sequence[str], parents: Sequence[Sequence[int]]) -> str:
    """Labels renamed ``a``, ``b``, … in order of appearance, with the ones they are nested over.

    Example:
        >>> pattern(("h0", "m", "h0"), ((), (0,), ()))
        'a b[a] a'
    """
    names: dict[str, str] = {}
    for label in labels:
        names.setdefault(label, chr(ord("a") + len(names)))
    return " ".join(
        names[label] + (f"[{','.join(names[labels[p]] for p in above)}]" if above else "")
        for label, above in zip(labels, parents, strict=True)
    )
