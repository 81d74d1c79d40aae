"""Features of one network: an array of channels for each block, kept in stacks of blocks that look alike.

Layers hand :class:`Features` to each other. Small blocks of one kind and one shape (the biases, or the
kernels, of repeated layers) lie in one stack, so programs do not grow with the number of repeated
layers. Large blocks stay by themselves, since stacking would copy them at every product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from .indices import Structure
from .stacks import unstack

STACK_UP_TO = 4096
"""Blocks with more index tuples than this are not stacked."""

Groups = tuple[tuple[int, ...], ...]
"""The blocks, by position in the structure, of each stack."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays"],
    meta_fields=["structure", "groups"],
)
@dataclass(frozen=True)
class Features:
    """Channels at every index tuple of every block. A pytree: ``jax.tree.map(jax.nn.gelu, features)``.

    Attributes:
        arrays: one stack a group, ``(members, *indices, C)``.
        structure: the indices of all blocks.
        groups: which blocks are stacked in which array.

    Example:
        >>> from wsljax.representation.blocks.indices import Indices
        >>> block = lambda name: Indices(name, ("h",), ((),))
        >>> x = Features.of((block("b"), block("g")), {"b": jnp.ones((4, 2)), "g": jnp.zeros((4, 2))})
        >>> [a.shape for a in x.arrays], x["g"].shape
        ([(2, 4, 2)], (4, 2))
    """

    arrays: tuple[jax.Array, ...]
    structure: Structure
    groups: Groups

    @staticmethod
    def of(structure: Structure, blocks: Mapping[str, jax.Array]) -> Features:
        """Stack ``{block: (*indices, C)}``.

        Raises:
            ValueError: missing or unknown blocks, a wrong number of axes, or two widths for one label;
                each names the block.
        """
        widths = _widths_of(structure, blocks)
        groups = group(structure, widths)
        stacks = [jnp.stack([blocks[structure[b].name] for b in g]) for g in groups]
        return Features(tuple(stacks), structure, groups)

    @property
    def widths(self) -> dict[str, int]:
        """``{label: size}``."""
        return {
            label: size
            for a, g in zip(self.arrays, self.groups, strict=True)
            for b in g
            for label, size in zip(self.structure[b].labels, a.shape[1:-1], strict=True)
        }

    @property
    def channels(self) -> int:
        return self.arrays[0].shape[-1]

    def blocks(self) -> dict[str, jax.Array]:
        """``{block: (*indices, C)}``, in the order of the structure."""
        found = {
            self.structure[b].name: x
            for a, g in zip(self.arrays, self.groups, strict=True)
            for b, x in zip(g, unstack(a), strict=True)
        }
        return {block.name: found[block.name] for block in self.structure}

    def __getitem__(self, name: str) -> jax.Array:
        for a, g in zip(self.arrays, self.groups, strict=True):
            for n, b in enumerate(g):
                if self.structure[b].name == name:
                    return a[n]
        raise KeyError(f"no block {name!r}; there are {[b.name for b in self.structure][:10]}")


def group(structure: Structure, widths: Mapping[str, int], apart: Sequence = ()) -> Groups:
    """Which blocks to stack: those of one kind and shape, up to :data:`STACK_UP_TO` index tuples.

    Args:
        structure: the indices of all blocks.
        widths: the size of every label.
        apart: for each block a value; blocks with different values are not stacked.
    """
    found: dict[tuple, list[int]] = defaultdict(list)
    for b, block in enumerate(structure):
        shape = tuple(widths[label] for label in block.labels)
        alone = b if prod(shape) > STACK_UP_TO else -1
        found[block.kind, shape, alone, apart[b] if apart else None].append(b)
    return tuple(map(tuple, found.values()))


def _widths_of(structure: Structure, blocks: Mapping[str, jax.Array]) -> dict[str, int]:
    names = [block.name for block in structure]
    if set(names) != set(blocks):
        raise ValueError(
            f"features do not match the spec: missing blocks {sorted(set(names) - set(blocks))[:5]}, "
            f"unknown {sorted(set(blocks) - set(names))[:5]}; build them with `Embed` of the same spec"
        )
    widths: dict[str, int] = {}
    channels = None
    for block in structure:
        shape = jnp.shape(blocks[block.name])
        if len(shape) != len(block.labels) + 1:
            hint = "; for a batch use jax.vmap" if len(shape) == len(block.labels) + 2 else ""
            raise ValueError(
                f"features of block {block.name!r} have shape {shape}; expected one axis for each of "
                f"{block.labels} and channels last{hint}"
            )
        if channels is not None and shape[-1] != channels:
            raise ValueError(
                f"features of block {block.name!r} have {shape[-1]} channels, those before it "
                f"{channels}; all blocks have the same number"
            )
        channels = shape[-1]
        for label, size in zip(block.labels, shape, strict=False):
            if widths.setdefault(label, size) != size:
                raise ValueError(
                    f"features of block {block.name!r} have {size} coordinates of {label!r}, other "
                    f"blocks have {widths[label]}; all blocks must come from one network"
                )
    return widths
