"""Leaves to blocks and back: arrays whose every axis is exactly one set of units, or fixed.

A leaf with axis trees is first put into the order of its trees (where an axis is reindexed), then cut
at its sums and reshaped at its products until only atoms remain. The pieces are *blocks*;
:func:`decompose` and :func:`recompose` are exact inverses. Everything here is static: trees and shapes
decide, never values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .axes import Alt, Axis, Fixed, Prod, Reorder, Sum, Unit, default_seats, order_of, plain
from .reindex import inverse_order, runs

FEW_RUNS = 4
"""An order of so few runs is taken by slices; one of more by a gather."""


def spread(x: Any, where: Sequence[int], rank: int) -> Any:
    """``x`` with its axes at the places ``where`` of ``rank`` axes, the others of length one."""
    order = sorted(range(len(where)), key=lambda i: where[i])
    shape = [1] * rank
    for i, k in enumerate(where):
        shape[k] = x.shape[i]
    return x.transpose(order).reshape(shape)


@dataclass(frozen=True)
class Block:
    """One block: ``axes[i]`` is a units name, ``"_"`` (fixed) or ``"_L"`` (fixed, units nest over it).

    ``path`` is the leaf it is cut from, ``shape`` its shape. ``parents[i]`` are the axes that axis
    ``i`` is nested over, in the order of its units' ``over``.
    """

    name: str
    path: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...] = ()


def seat(
    labels: Sequence[str | None], over: tuple[str, ...], at: tuple[int, ...]
) -> tuple[int, ...]:
    """Positions among ``labels`` of the parents of units nested over ``over``.

    Raises:
        ValueError: if a parent does not stand there.
    """
    seats = []
    for o, k in zip(over, at or default_seats(over), strict=True):
        places = [i for i, label in enumerate(labels) if label == o]
        if k >= len(places):
            raise ValueError(
                f"nested over {o!r}, of which {len(places)} stand beside it (needs {k + 1})"
            )
        seats.append(places[k])
    return tuple(seats)


def choose(tree: Axis, axis: int, segment: int) -> Axis:
    """``tree`` on one segment of the axis that its alternatives depend on."""
    if isinstance(tree, Alt) and tree.axis == axis:
        return tree.parts[segment]
    return tree


def _step(trees: Sequence[Axis]):
    """What to undo first: ('order' | 'sum' | 'prod', axis), or None when all axes are atoms."""
    for k, tree in enumerate(trees):
        if isinstance(tree, Reorder):
            return "order", k
    for tree in trees:
        if isinstance(tree, Alt):
            return "sum", tree.axis
    for k, tree in enumerate(trees):
        if isinstance(tree, Prod):
            return "prod", k
        if isinstance(tree, Sum):
            return "sum", k
    return None


def _parts(tree: Axis) -> tuple[Axis, ...]:
    """The parts of a sum or of a product."""
    assert isinstance(tree, (Sum, Prod))
    return tree.parts


def _segments(trees: tuple[Axis, ...], axis: int) -> list[tuple[int, int, tuple[Axis, ...]]]:
    """(start, stop, trees of the piece) for each segment of a sum axis."""
    pieces, start = [], 0
    for i, part in enumerate(_parts(trees[axis])):
        sub = tuple(part if k == axis else choose(t, axis, i) for k, t in enumerate(trees))
        pieces.append((start, start + part.size, sub))
        start += part.size
    return pieces


def _expand(trees: tuple[Axis, ...], axis: int) -> tuple[Axis, ...]:
    return trees[:axis] + _parts(trees[axis]) + trees[axis + 1 :]


def _straighten(trees: tuple[Axis, ...], axis: int) -> tuple[Axis, ...]:
    return (*trees[:axis], plain(trees[axis]), *trees[axis + 1 :])


def take(x: jax.Array, order: Sequence[int], axis: int) -> jax.Array:
    """``x`` with coordinate ``order[i]`` of an axis at its place ``i``."""
    found = runs(order)
    if len(found) > FEW_RUNS:
        index = np.asarray(order)
        return jnp.take(x, index, axis=axis, unique_indices=True, mode="clip")
    parts = []
    for start, step, length in found:
        low, high = sorted((start, start + step * (length - 1)))
        part = jax.lax.slice_in_dim(x, low, high + 1, abs(step), axis)
        parts.append(part if step > 0 else jax.lax.rev(part, (axis,)))
    return jnp.concatenate(parts, axis=axis) if len(parts) > 1 else parts[0]


def fused_order(trees: Sequence[Axis]) -> tuple[tuple[int, ...], ...]:
    """Array axes of each block axis: factors of one product unit are brought together, in order.

    Raises:
        ValueError: if a factor of a unit lacks its siblings.
    """
    groups: list[list[int]] = []
    open_groups: dict[str, list[dict[int, int]]] = {}
    for k, tree in enumerate(trees):
        if not isinstance(tree, Unit) or tree.part is None:
            groups.append([k])
            continue
        for members in open_groups.setdefault(tree.name, []):
            if tree.part not in members:
                members[tree.part] = k
                break
        else:
            members = {tree.part: k}
            open_groups[tree.name].append(members)
            groups.append(members)  # type: ignore[arg-type]
    done = []
    for group in groups:
        if isinstance(group, dict):
            if sorted(group) != list(range(len(group))):
                raise ValueError(
                    f"factors {sorted(group)} of a product unit stand without their siblings"
                )
            done.append(tuple(group[i] for i in range(len(group))))
        else:
            done.append(tuple(group))
    return tuple(done)


def decompose(x: jax.Array, trees: tuple[Axis, ...]) -> list[jax.Array]:
    """All blocks of a leaf, in order of the leaf's coordinates."""
    step = _step(trees)
    if step is None:
        order = fused_order(trees)
        shape = [_product(x.shape, group) for group in order]
        return [x.transpose([k for group in order for k in group]).reshape(shape)]
    kind, axis = step
    if kind == "order":
        x = take(x, inverse_order(order_of(trees[axis])), axis)
        return decompose(x, _straighten(trees, axis))
    if kind == "prod":
        parts = _parts(trees[axis])
        shape = x.shape[:axis] + tuple(p.size for p in parts) + x.shape[axis + 1 :]
        return decompose(x.reshape(shape), _expand(trees, axis))
    blocks = []
    for start, stop, sub in _segments(trees, axis):
        blocks += decompose(jax.lax.slice_in_dim(x, start, stop, axis=axis), sub)
    return blocks


def recompose(blocks: Sequence[jax.Array], trees: tuple[Axis, ...]) -> jax.Array:
    """The leaf of which :func:`decompose` gave ``blocks``."""
    queue = list(blocks)
    x = _recompose(queue, trees)
    if queue:
        raise ValueError(f"{len(queue)} blocks too many for one leaf")
    return x


def _recompose(queue: list[jax.Array], trees: tuple[Axis, ...]) -> jax.Array:
    step = _step(trees)
    if step is None:
        order = [k for group in fused_order(trees) for k in group]
        x = queue.pop(0).reshape([trees[k].size for k in order])
        return x.transpose([order.index(k) for k in range(len(order))])
    kind, axis = step
    if kind == "order":
        return take(_recompose(queue, _straighten(trees, axis)), order_of(trees[axis]), axis)
    if kind == "prod":
        x = _recompose(queue, _expand(trees, axis))
        n = len(_parts(trees[axis]))
        return x.reshape(x.shape[:axis] + (trees[axis].size,) + x.shape[axis + n :])
    return jnp.concatenate(
        [_recompose(queue, sub) for _, _, sub in _segments(trees, axis)], axis=axis
    )


def pieces(trees: tuple[Axis, ...]) -> list[tuple[Fixed | Unit, ...]]:
    """The atoms of each block's axes (fused factors not yet brought together), as :func:`decompose`."""
    step = _step(trees)
    if step is None:
        return [trees]  # type: ignore[list-item]
    kind, axis = step
    if kind == "order":
        return pieces(_straighten(trees, axis))
    if kind == "prod":
        return pieces(_expand(trees, axis))
    return [p for _, _, sub in _segments(trees, axis) for p in pieces(sub)]


def blocks_of(
    path: str, trees: tuple[Axis, ...], overs: Mapping[str, tuple[str, ...]]
) -> list[Block]:
    """The static description of a leaf's blocks: names are the leaf's path, numbered if several.

    Raises:
        ValueError: where units lack what they are nested over.
    """
    found = pieces(trees)
    blocks = []
    for i, atoms in enumerate(found):
        groups = fused_order(atoms)
        axes = tuple(_label(atoms[group[0]]) for group in groups)
        shape = tuple(_product([a.size for a in atoms], group) for group in groups)
        try:
            parents = tuple(
                seat(axes, overs.get(name, ()), getattr(atoms[group[0]], "at", ()))
                for name, group in zip(axes, groups, strict=True)
            )
        except ValueError as e:
            raise ValueError(f"{path!r}: units {e}") from None
        blocks.append(Block(path if len(found) == 1 else f"{path}#{i}", path, axes, shape, parents))
    return blocks


def _label(atom: Fixed | Unit) -> str:
    return (atom.name or "_") if isinstance(atom, Fixed) else atom.name


def _product(sizes: Sequence[int], group: Sequence[int]) -> int:
    out = 1
    for k in group:
        out *= sizes[k]
    return out
