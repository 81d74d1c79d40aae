"""How blocks become features: which axes are indices, and which are fixed and fold into channels.

The coordinates of a fixed axis (input pixels, kernel positions, logits) stand for themselves, so each
has weights of its own. A named fixed axis that units nest over (the layer index of scanned parameters)
stays an index. Layers are shared over it and would not see its order; position codes tell it to the
embedding: cosines of the relative depth, and sinusoids of the absolute index (Vaswani et al., 2017).
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.indices import Indices, index_axes, structure

CODES = 8
"""Position codes for each named fixed axis."""


class Fold(NamedTuple):
    """How one block is folded.

    Attributes:
        indices: the block's indices.
        role: blocks of one role have embedding matrices of one shape, kept in one stack.
        member: the block's place in that stack.
        shape: the block's own shape.
        axes: the positions of its indices; the other axes are fixed.
        fixed: how many coordinates the fixed axes have together.
        coded: the positions of indices over named fixed axes.
    """

    indices: Indices
    role: str
    member: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    fixed: int
    coded: tuple[int, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.shape[k] for k in self.axes)

    @property
    def order(self) -> tuple[int, ...]:
        """The block's axes with the fixed ones last."""
        return self.axes + tuple(k for k in range(len(self.shape)) if k not in self.axes)


def folds_of(spec: Spec) -> list[Fold]:
    """One entry a block, in the order of the structure."""
    layout = {block.name: block for block in spec.layout}
    counts: dict[str, int] = defaultdict(int)
    out = []
    for indices in structure(spec):
        block = layout[indices.name]
        axes = index_axes(spec, block)
        fixed = prod(n for k, n in enumerate(block.shape) if k not in axes)
        coded = tuple(n for n, label in enumerate(indices.labels) if label.startswith("_"))
        role = f"{indices.kind or '1'}: {fixed}" + f" at {coded}" * bool(coded)
        out.append(Fold(indices, role, counts[role], block.shape, axes, fixed, coded))
        counts[role] += 1
    return out


def position_codes(size: int, dtype: jnp.dtype | type = jnp.float32) -> jax.Array:
    """Codes of the coordinates of an axis whose order matters, shape ``(size, CODES)``.

    Example:
        >>> position_codes(3).shape
        (3, 8)
    """
    place = jnp.arange(size, dtype=jnp.float32)[:, None]
    relative = jnp.cos(jnp.pi * (place + 0.5) / size * jnp.arange(1, CODES // 2 + 1))
    rates = 16.0 ** -jnp.arange(CODES // 4)
    absolute = [jnp.sin(place * rates), jnp.cos(place * rates)]
    return jnp.concatenate([relative, *absolute], axis=-1).astype(dtype)


def same_structure(own: list[Fold], other: list[Fold]) -> list[Fold]:
    for a, b in zip(own, other, strict=False):
        if (a.indices, a.role) != (b.indices, b.role):
            raise ValueError(
                f"block {b.indices.name!r} ({b.role}, {b.indices.labels}) stands where this layer has "
                f"{a.indices.name!r} ({a.role}, {a.indices.labels}); only widths of units may differ"
            )
    if len(own) != len(other):
        raise ValueError(
            f"the spec has {len(other)} blocks, this layer {len(own)}; only widths may differ"
        )
    return other
