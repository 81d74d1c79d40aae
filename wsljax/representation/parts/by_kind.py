"""Parameters of layers that act on each block by itself: one a block, one a kind of block, or one for all.

They are stacked by kind (see :attr:`.Indices.kind`), so that trees of parameters and programs do not
grow with the number of repeated layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax

from ..blocks.features import Features
from ..blocks.indices import Structure
from ..blocks.stacks import Cell, assemble

SHARING = ("block", "kind", "all")
"""What has parameters of its own: every block, every kind of block, or nothing."""

ALL = "all"
Draw = TypeVar("Draw")


def count(structure: Structure, per: str) -> dict[str, int]:
    """How many members each stack of parameters has.

    Raises:
        ValueError: ``per`` is none of :data:`SHARING`.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.blocks.indices import structure
        >>> params = {"w": jnp.zeros((3, 4)), "b": jnp.zeros(4), "c": jnp.zeros(3)}
        >>> blocks = structure(symmetry.parse(params, {"w": "g h", "b": "h", "c": "g"}))
        >>> count(blocks, "block"), count(blocks, "kind"), count(blocks, "all")
        ({'a': 2, 'a b': 1}, {'a': 1, 'a b': 1}, {'all': 1})
    """
    if per not in SHARING:
        raise ValueError(f"`per` must be one of {SHARING}; got {per!r}")
    if per == "all":
        return {ALL: 1}
    found: dict[str, int] = defaultdict(int)
    for block in structure:
        found[block.kind] = 1 if per == "kind" else found[block.kind] + 1
    return dict(found)


def draw(structure: Structure, per: str, one: Callable[[int], Draw]) -> dict[str, Draw]:
    """``{stack: one(members)}``."""
    return {name: one(members) for name, members in count(structure, per).items()}


def for_groups(stacks: Mapping[str, jax.Array], x: Features, per: str) -> list[jax.Array]:
    """The parameters of each stack of features, ``(members, ...)``, or ``(1, ...)`` where shared.

    Raises:
        ValueError: features of other blocks than the parameters were drawn for.
    """
    if per == "all":
        return [stacks[ALL] for _ in x.groups]
    members = count(x.structure, per)
    known = {name: stack.shape[0] for name, stack in stacks.items()}
    if any(known.get(name) != n for name, n in members.items()):
        raise ValueError(
            f"features have blocks of kinds {members}, this layer was drawn for {known}; "
            "build it with the spec of the features"
        )
    if per == "kind":
        return [stacks[x.structure[group[0]].kind] for group in x.groups]
    seen: dict[str, int] = defaultdict(int)
    cells = []
    for block in x.structure:
        cells.append(Cell(block.kind, seen[block.kind]))
        seen[block.kind] += 1
    return assemble({**stacks}, [[cells[b] for b in group] for group in x.groups])


def along(parameter: jax.Array, array: jax.Array) -> jax.Array:
    """``(members, C)`` shaped to go with ``(members, *indices, C)``, in its dtype."""
    shape = (parameter.shape[0], *(1 for _ in array.shape[1:-1]), parameter.shape[-1])
    return parameter.reshape(shape).astype(array.dtype)
