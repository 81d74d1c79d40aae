"""How blocks become features: which axes are indices, and what becomes of the fixed ones.

The coordinates of a fixed axis (input pixels, kernel positions, logits) stand for themselves. There are
four ways to give features to them, the ``fixed`` of :class:`.Embed` and of the universal method:

========== =============================================================================================
fold       the embedding maps all coordinates of a block into its channels, and hidden features have
           none; cheapest, and a bottleneck where coordinates are many
dense      every coordinate is a block of its own in every layer, named fixed axes too: exact, since a
           universal layer over them spans every map that commutes with the group
kronecker  hidden features keep the coordinates, layers act on them by small matrices of their own
           (:class:`~..universal.kronecker.KroneckerLinear`): few weights, no bottleneck
positions  the coordinates are one more index, over which layers are shared; which is which comes in as
           position codes. No weight depends on how many there are: kernels of all sizes fit
========== =============================================================================================

A named fixed axis that units nest over (the layer index of scanned parameters) stays an index in all but
``dense``. Layers are shared over it and would not see its order; position codes tell it to the
embedding (:mod:`..universal.encodings`).
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...symmetry.layout import Block
from ...symmetry.spec import Spec
from ..blocks.indices import Indices, Structure, index_axes, structure
from ..universal.encodings import CODES, place_codes

FIXED = ("fold", "dense", "kronecker", "positions")
"""What may become of fixed axes."""


class Fold(NamedTuple):
    """How one block is folded.

    Attributes:
        indices: the block's indices.
        role: blocks of one role have embedding matrices of one shape, kept in one stack.
        member: the block's (first) place in that stack.
        shape: the block's own shape.
        axes: the positions of its indices; the other axes are fixed.
        fixed: how many coordinates of the fixed axes are folded into channels.
        coded: the positions of indices over named fixed axes.
        copies: the indices of its features, one entry for each coordinate that is kept apart.
        merged: the sizes of the fixed axes that together are the first index of the features.
    """

    indices: Indices
    role: str
    member: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    fixed: int
    coded: tuple[int, ...]
    copies: Structure
    merged: tuple[int, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """The sizes of the indices of the features."""
        widths = tuple(self.shape[k] for k in self.axes)
        return (prod(self.merged), *widths) if self.merged else widths

    @property
    def order(self) -> tuple[int, ...]:
        """The block's axes with the fixed ones last."""
        return self.axes + tuple(k for k in range(len(self.shape)) if k not in self.axes)

    @property
    def codes(self) -> int:
        """How many position codes stand beside the weights."""
        return CODES * (len(self.coded) + len(self.merged))


@lru_cache(maxsize=256)
def folds_of(spec: Spec, fixed: str = "fold", up_to: int | None = None) -> list[Fold]:
    """One entry a block, in the order of the structure.

    Args:
        spec: the annotation.
        fixed: what becomes of fixed axes, one of :data:`FIXED`.
        up_to: blocks with more fixed coordinates than this are folded after all; None for no bound.
    """
    if fixed not in FIXED:
        raise ValueError(f"`fixed` must be one of {FIXED}; got {fixed!r}")
    layout = {block.name: block for block in spec.layout}
    counts: dict[str, int] = defaultdict(int)
    out = []
    for indices in structure(spec):
        fold = _fold(spec, layout[indices.name], indices, fixed, up_to)
        out.append(fold._replace(member=counts[fold.role]))
        counts[fold.role] += len(fold.copies)
    return out


def _fold(spec: Spec, block: Block, indices: Indices, fixed: str, up_to: int | None) -> Fold:
    axes = index_axes(spec, block)
    if fixed == "dense":
        axes = tuple(k for k in axes if not block.axes[k].startswith("_"))
    sizes = {k: n for k, n in enumerate(block.shape) if k not in axes}
    count = prod(sizes.values())
    labels = tuple(block.axes[k] for k in axes)
    coded = tuple(n for n, label in enumerate(labels) if label.startswith("_"))
    kept = fixed != "fold" and (up_to is None or count <= up_to)
    if kept and fixed == "positions" and sizes:
        merged = tuple(sizes.values())
        parents = tuple(tuple(p + 1 for p in above) for above in indices.parents)
        wide = Indices(indices.name, (f"_@{indices.name}", *indices.labels), ((), *parents))
        role = f"{wide.kind}: 1 at {coded} and {len(merged)}"
        return Fold(indices, role, 0, block.shape, axes, 1, coded, (wide,), merged)
    copies: Structure = (indices,)
    if kept and fixed == "dense":
        copies = _copies(spec, block, axes, sizes)
    elif kept and fixed == "kronecker" and count > 1:
        places = product(*(range(n) for n in sizes.values()))
        copies = tuple(
            Indices(_named(indices.name, at), indices.labels, indices.parents) for at in places
        )
    folded = 1 if len(copies) == count else count
    role = f"{copies[0].kind or '1'}: {folded}" + f" at {coded}" * bool(coded)
    return Fold(indices, role, 0, block.shape, axes, folded, coded, copies)


def _copies(
    spec: Spec, block: Block, axes: tuple[int, ...], sizes: dict[int, int]
) -> tuple[Indices, ...]:
    """One block for every coordinate of the fixed axes; units nested over one are units by themselves."""
    over = {u.name: u.over for u in spec.units}
    names = {block.axes[k]: n for n, k in enumerate(sizes)}
    free = tuple(block.axes[k] for k in axes)
    parents = tuple(
        tuple(free.index(o) for o in over.get(label, ()) if not o.startswith("_")) for label in free
    )
    found = []
    for at in product(*(range(n) for n in sizes.values())):
        labels = []
        for label in free:
            places = [at[names[o]] for o in over.get(label, ()) if o.startswith("_")]
            labels.append(_named(label, tuple(places)))
        found.append(Indices(_named(block.name, at), tuple(labels), parents))
    return tuple(found)


def _named(name: str, at: tuple[int, ...]) -> str:
    return f"{name}[{','.join(map(str, at))}]" if at else name


def feature_structure(spec: Spec, fixed: str = "fold", up_to: int | None = None) -> Structure:
    """The blocks of the features that :class:`.Embed` makes: a structure for layers to be drawn for.

    Example:
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"w": jnp.zeros((2, 5))}, {"w": "_ h"})
        >>> [b.name for b in feature_structure(spec, "dense")]
        ['w[0]', 'w[1]']
        >>> [b.labels for b in feature_structure(spec, "positions")]
        [('_@w', 'h')]
    """
    return tuple(copy for fold in folds_of(spec, fixed, up_to) for copy in fold.copies)


def feature_widths(spec: Spec, fixed: str = "fold", up_to: int | None = None) -> dict[str, int]:
    """The size of every label of :func:`feature_structure`."""
    return widths_of(folds_of(spec, fixed, up_to))


def widths_of(folds: list[Fold]) -> dict[str, int]:
    """The size of every label."""
    return {
        label: n
        for fold in folds
        for copy in fold.copies
        for label, n in zip(copy.labels, fold.widths, strict=True)
    }


def folded(x: jax.Array, fold: Fold, channels: bool) -> jax.Array:
    """A block to ``(copies, *widths, numbers)``, position codes last.

    Args:
        x: of the block's shape, with a last axis of channels if ``channels``.
        fold: how.
        channels: whether there is such an axis.
    """
    order = fold.order + ((len(fold.shape),) if channels else ())
    c = x.shape[-1] if channels else 1
    widths = tuple(fold.shape[k] for k in fold.axes)
    x = x.transpose(order)
    if fold.merged or len(fold.copies) > 1:
        x = jnp.moveaxis(x.reshape(*widths, -1, c), -2, 0)
        x = x[None] if fold.merged else x
    else:
        x = x.reshape(1, *widths, fold.fixed * c)
    codes = []
    for n in fold.coded:
        place = 1 + n + bool(fold.merged)
        shape = [1] * (x.ndim - 1) + [CODES]
        shape[place] = x.shape[place]
        codes.append(position_codes(x.shape[place], x.dtype).reshape(shape))
    for n, size in enumerate(fold.merged):
        one = position_codes(size, x.dtype).reshape(
            *(size if k == n else 1 for k in range(len(fold.merged))), CODES
        )
        flat = jnp.broadcast_to(one, (*fold.merged, CODES)).reshape(-1, CODES)
        codes.append(flat.reshape(1, -1, *(1 for _ in widths), CODES))
    codes = [jnp.broadcast_to(a, (*x.shape[:-1], CODES)) for a in codes]
    return jnp.concatenate([x, *codes], axis=-1) if codes else x


def unfolded(y: jax.Array, fold: Fold) -> jax.Array:
    """``(copies, *widths, fixed)`` to the block's own shape."""
    if fold.merged:
        y = jnp.moveaxis(y[0, ..., 0], 0, -1)
    elif len(fold.copies) > 1:
        y = jnp.moveaxis(y[..., 0], 0, -1)
    back = sorted(range(len(fold.shape)), key=lambda k: fold.order[k])
    return y.reshape([fold.shape[k] for k in fold.order]).transpose(back)


def position_codes(size: int, dtype: jnp.dtype | type = jnp.float32) -> jax.Array:
    """Codes of the coordinates of an axis whose order matters, shape ``(size, CODES)``.

    Example:
        >>> position_codes(3).shape
        (3, 8)
    """
    return jnp.asarray(place_codes(size), dtype)


def same_structure(own: list[Fold], other: list[Fold]) -> list[Fold]:
    for a, b in zip(own, other, strict=False):
        if (a.indices, a.role, a.copies) != (b.indices, b.role, b.copies):
            raise ValueError(
                f"block {b.indices.name!r} ({b.role}, {b.indices.labels}) stands where this layer has "
                f"{a.indices.name!r} ({a.role}, {a.indices.labels}); only widths of units may differ"
            )
    if len(own) != len(other):
        raise ValueError(
            f"the spec has {len(other)} blocks, this layer {len(own)}; only widths may differ"
        )
    return other
