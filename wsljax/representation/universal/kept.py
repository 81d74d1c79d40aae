"""Features that keep the fixed coordinates of some blocks: where they are, and reading them.

For layers of :mod:`.kronecker`. Every coordinate of a kept block is a block of the features; here those of
one block are brought together again, or read into one through *position vectors*, one weight for each
coordinate and channel.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import STACK_UP_TO, Features, group
from ..blocks.indices import structure
from ..blocks.stacks import Cell, assemble
from ..parts.folding import feature_structure, folds_of

UP_TO = 64
"""Blocks with more fixed coordinates than this are folded: the matrices would be large."""


class Kept(NamedTuple):
    """A block whose fixed coordinates hidden features keep.

    Attributes:
        block: its place in the structure of the spec.
        start: the place of its first coordinate in the structure of the features.
        count: how many coordinates.
        member: its place among the blocks with as many coordinates.
    """

    block: int
    start: int
    count: int
    member: int

    @property
    def role(self) -> str:
        return f"{self.count} coordinates"


@lru_cache(maxsize=256)
def kept_blocks(spec: Spec, up_to: int | None) -> tuple[Kept, ...]:
    """The blocks of a spec with several fixed coordinates, and no more than ``up_to``."""
    out, start = [], 0
    members: dict[int, int] = defaultdict(int)
    for b, fold in enumerate(folds_of(spec, "kronecker", up_to)):
        count = len(fold.copies)
        if count > 1:
            out.append(Kept(b, start, count, members[count]))
            members[count] += 1
        start += count
    return tuple(out)


def counts_of(spec: Spec, up_to: int | None) -> dict[str, tuple[int, int]]:
    """``{role: (blocks, coordinates)}``."""
    out: dict[str, tuple[int, int]] = {}
    for kept in kept_blocks(spec, up_to):
        out[kept.role] = (kept.member + 1, kept.count)
    return out


class Stack(NamedTuple):
    """Kept blocks of one shape, ``(blocks, coordinates, *indices, C)``."""

    kept: tuple[Kept, ...]
    array: jax.Array

    def weights(self, stacks: dict[str, jax.Array]) -> jax.Array:
        """Their members of weights stacked by role, in the dtype of the features."""
        role = self.kept[0].role
        cells = [Cell(role, kept.member) for kept in self.kept]
        return assemble({role: stacks[role]}, [cells])[0].astype(self.array.dtype)


def stacks_of(spec: Spec, up_to: int | None, x: Features) -> list[Stack]:
    """The kept blocks of features, those of one shape together unless they are large."""
    expected = feature_structure(spec, "kronecker", up_to)
    if x.structure != expected:
        raise ValueError(
            f"features have other blocks than the layer: {[b.name for b in x.structure][:5]} and "
            f"{[b.name for b in expected][:5]}; embed them by `Embed(spec, ..., fixed='kronecker', "
            f"up_to={up_to})`"
        )
    place = {b: Cell(g, n) for g, members in enumerate(x.groups) for n, b in enumerate(members)}
    stacks: dict[Any, jax.Array] = dict(enumerate(x.arrays))
    found: dict[tuple, list[Kept]] = defaultdict(list)
    for kept in kept_blocks(spec, up_to):
        shape = stacks[place[kept.start].stack].shape[1:]
        alone = kept.block if prod(shape[:-1]) > STACK_UP_TO else -1
        found[kept.count, shape, alone].append(kept)
    cells = []
    for (_, shape, _), members in found.items():
        axes = tuple(range(len(shape) - 1))
        spots = [k.start + i for k in members for i in range(k.count)]
        cells.append([place[b]._replace(axes=axes) for b in spots])
    arrays = assemble(stacks, cells)
    return [
        Stack(tuple(members), a.reshape(len(members), count, *a.shape[1:]))
        for ((count, _, _), members), a in zip(found.items(), arrays, strict=True)
    ]


def along(x: jax.Array, weights: jax.Array) -> jax.Array:
    """``(blocks, coordinates, C)`` with axes of size one where ``x`` has indices."""
    return weights.reshape(*weights.shape[:2], *(1 for _ in x.shape[2:-1]), weights.shape[-1])


def gathered(
    spec: Spec, up_to: int | None, x: Features, stacks: list[Stack], read: dict[str, jax.Array]
) -> Features:
    """Features without fixed coordinates: kept blocks read through their position vectors."""
    blocks = structure(spec)
    arrays: dict = dict(enumerate(x.arrays))
    where: dict[int, Cell] = {}
    place = {b: Cell(g, n) for g, members in enumerate(x.groups) for n, b in enumerate(members)}
    start = 0
    for b, fold in enumerate(folds_of(spec, "kronecker", up_to)):
        where[b] = place[start]
        start += len(fold.copies)
    for s, stack in enumerate(stacks):
        arrays["kept", s] = jnp.sum(stack.array * along(stack.array, stack.weights(read)), axis=1)
        where |= {kept.block: Cell(("kept", s), n) for n, kept in enumerate(stack.kept)}
    groups = group(blocks, x.widths)
    cells = [[where[b] for b in members] for members in groups]
    cells = [[c._replace(axes=axes_of(arrays[c.stack])) for c in row] for row in cells]
    return Features(tuple(assemble(arrays, cells)), blocks, groups)


def axes_of(stack: jax.Array) -> tuple[int, ...]:
    """The axes of a stack as they are."""
    return tuple(range(stack.ndim - 2))
