"""Moving features between blocks and index types: ties and means one way, spreading the other.

Both directions share their steps. A mean over two indices is taken of the mean over one of them, and
an array that is the same along two indices is spread over one of them at a time, so the large arrays
are passed once for each of their own indices and everything else happens on small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp

from .ties import Tie

Kept = tuple[int, ...]
"""The ties that stay, by their first index, in ascending order."""


def read(x: jax.Array, wanted: Sequence[tuple[Tie, Kept]]) -> list[jax.Array]:
    """Reductions of one block's features.

    Args:
        x: shape ``(*indices, C)``.
        wanted: which indices to tie and which ties to keep; see :class:`.Read`.

    Returns:
        For each wanted pair an array ``(*kept, C)``: the mean over the ties not kept.

    Example:
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
        >>> row, diagonal, total = read(x, [((0, 1), (0,)), ((0, 0), (0,)), ((0, 1), ())])
        >>> row[:, 0].tolist(), diagonal[:, 0].tolist(), total[0].item()
        ([1.5, 3.5], [1.0, 4.0], 2.5)
    """
    whole = tuple(range(len(wanted[0][0])))
    arrays: dict[tuple[Tie, Kept], jax.Array] = {(whole, whole): x}
    for tie in sorted({tie for tie, _ in wanted}, key=_ties, reverse=True):
        full = _firsts(tie)
        if (tie, full) not in arrays:
            finer = [t for t, kept in arrays if kept == _firsts(t) and _refines(t, tie)]
            coarsest = min(finer, key=_ties)
            arrays[tie, full] = _diagonal(arrays[coarsest, _firsts(coarsest)], coarsest, tie)
        for kept in sorted({k for t, k in wanted if t == tie}, key=len, reverse=True):
            if (tie, kept) not in arrays:
                larger = [k for t, k in arrays if t == tie and set(k) > set(kept)]
                source = min(larger, key=lambda k, tie=tie: arrays[tie, k].size)
                gone = tuple(n for n, i in enumerate(source) if i not in kept)
                arrays[tie, kept] = jnp.mean(arrays[tie, source], axis=gone)
    return [arrays[tie, kept] for tie, kept in wanted]


def write(parts: Sequence[tuple[Tie, Kept, jax.Array]], widths: Sequence[int]) -> jax.Array:
    """The sum of arrays that are each put on some ties of one block's indices; adjoint of :func:`read`.

    Args:
        parts: ``(tie, kept, array of shape (*kept, C))``; where the tied indices agree the array is
            added, the same for all coordinates of the ties that are not kept. At least one.
        widths: the size of each index.

    Returns:
        Features of shape ``(*widths, C)``.

    Example:
        >>> diagonal = ((0, 0), (0,), jnp.array([[1.0], [2.0]]))
        >>> write([diagonal, ((0, 1), (), jnp.array([10.0]))], (2, 2))[..., 0].tolist()
        [[11.0, 10.0], [10.0, 12.0]]
    """
    arrays: dict[tuple[Tie, Kept], jax.Array] = {}
    for tie, kept, y in parts:
        _add(arrays, (tie, kept), y)
    whole = tuple(range(len(widths)))
    channels = parts[0][2].shape[-1]
    found = sorted({tie for tie, _ in arrays} | {whole}, key=_ties)
    for tie in found:
        full = _firsts(tie)
        for kept in sorted((k for t, k in arrays if t == tie and k != full), key=len):
            larger = [k for t, k in arrays if t == tie and set(k) > set(kept)]
            target = min(larger, key=lambda k: prod(widths[i] for i in k), default=full)
            y = arrays.pop((tie, kept))
            shape = [widths[i] if i in kept else 1 for i in target]
            _add(arrays, (tie, target), y.reshape(*shape, channels))
        if (tie, full) not in arrays:
            continue
        y = jnp.broadcast_to(arrays[tie, full], (*(widths[i] for i in full), channels))
        if tie == whole:
            return y
        finer = next(t for t in found if _ties(t) > _ties(tie) and _refines(t, tie))
        _add(arrays, (finer, _firsts(finer)), _on_diagonal(y, finer, tie))
    raise ValueError("nothing to write")


def reorder(x: jax.Array, have: Sequence[int], want: Sequence[int], lead: int = 0) -> jax.Array:
    """``x`` of shape ``(*lead, *have, C)`` with the axes in the middle in the order ``want``."""
    if tuple(have) == tuple(want):
        return x
    order = (lead + list(have).index(i) for i in want)
    return x.transpose(*range(lead), *order, x.ndim - 1)


def _add(arrays: dict, key: tuple[Tie, Kept], y: jax.Array) -> None:
    arrays[key] = arrays[key] + y if key in arrays else y


def _ties(tie: Tie) -> int:
    return len(set(tie))


def _firsts(tie: Tie) -> Kept:
    return tuple(sorted(set(tie)))


def _refines(fine: Tie, coarse: Tie) -> bool:
    """Whether everything tied by ``fine`` is tied by ``coarse``."""
    return all(coarse[i] == coarse[first] for i, first in enumerate(fine))


def _merges(fine: Tie, coarse: Tie) -> list[list[int]]:
    """For each tie of ``coarse``, in order, the ties of ``fine`` that make it up."""
    members: dict[int, list[int]] = {first: [] for first in _firsts(coarse)}
    for first in _firsts(fine):
        members[coarse[first]].append(first)
    return list(members.values())


def _diagonal(x: jax.Array, fine: Tie, coarse: Tie) -> jax.Array:
    """From axes that are ties of ``fine`` to axes that are ties of ``coarse``, by a strided slice."""
    groups = _merges(fine, coarse)
    flat = [i for group in groups for i in group]
    x = reorder(x, _firsts(fine), flat)
    sizes = [x.shape[flat.index(group[0])] for group in groups]
    x = x.reshape(*(n ** len(group) for n, group in zip(sizes, groups)), x.shape[-1])
    strides = [_stride(n, len(group)) for n, group in zip(sizes, groups)]
    return jax.lax.slice(x, (0,) * x.ndim, x.shape, (*strides, 1))


def _on_diagonal(y: jax.Array, fine: Tie, coarse: Tie) -> jax.Array:
    """The adjoint of :func:`_diagonal`: zeros between the coordinates."""
    groups = _merges(fine, coarse)
    sizes = y.shape[:-1]
    padding = [(0, 0, _stride(n, len(group)) - 1) for n, group in zip(sizes, groups)]
    y = jax.lax.pad(y, jnp.zeros((), y.dtype), [*padding, (0, 0, 0)])
    y = y.reshape(*(n for n, group in zip(sizes, groups) for _ in group), y.shape[-1])
    return reorder(y, [i for group in groups for i in group], _firsts(fine))


def _stride(size: int, axes: int) -> int:
    """Distance between neighbours on the diagonal of ``axes`` flattened axes."""
    return sum(size**k for k in range(axes))
