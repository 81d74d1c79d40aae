"""What belongs to one output channel, and to one unit: rows of places in the flat vector of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.symmetry import Spec
from wsljax.symmetry.axes import Fixed, Unit, atoms
from wsljax.zoo.preprocessing.layers import arrays_by_path, layers


class Row(NamedTuple):
    """Places in the flat vector that belong together, as member `member` of group `group`."""

    group: int
    member: int
    index: np.ndarray


def leaf_indices(params: Any) -> dict[str, np.ndarray]:
    """`{path: where each entry stands in the flat vector}`, in the order of the tree.

    Raises:
        TypeError: an array that does not hold floats.
        ValueError: no array at all.
    """
    out, at = {}, 0
    for path, leaf in arrays_by_path(params).items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{path!r} holds {leaf.dtype}; tokens are made of floats. Take it out of the tree, "
                "with `equinox.partition` say."
            )
        size = int(np.prod(leaf.shape))
        out[path] = np.arange(at, at + size, dtype=np.int32).reshape(leaf.shape)
        at += size
    if not at:
        raise ValueError("there are no weights: the tree holds no array with an entry.")
    return out


def channel_rows(
    params: Any, indices: Mapping[str, np.ndarray], spec: Spec | None, channel_axis: int
) -> list[Row]:
    """For each kernel of each layer one row an output channel: its weights, then its biases."""
    marks = _marks(params, spec)
    rows = []
    for number, layer in enumerate(layers(params)):
        biases, member = list(layer.biases), 0
        owned: dict[str, list[tuple[str, tuple[int, ...]]]] = {path: [] for path in layer.kernels}
        for bias in biases:
            for kernel in reversed(layer.kernels):
                axes = _match(marks[kernel], marks[bias])
                same = not owned[kernel] or owned[kernel][0][1] == axes
                if axes is not None and indices[bias].ndim and same:
                    owned[kernel].append((bias, axes))
                    break
        taken = {bias for pairs in owned.values() for bias, _ in pairs}
        alone = [path for path in biases if path not in taken]
        for path in (*layer.kernels, *alone):
            pairs = owned.get(path, [])
            out = pairs[0][1] if pairs else _default(marks[path], channel_axis, spec)
            parts = [_channels(indices[path], out, marks[path])]
            parts += [indices[bias].reshape(-1, 1) for bias, _ in pairs]
            for row in np.concatenate(parts, axis=1):
                rows.append(Row(number, member, row))
                member += 1
    return rows


def neuron_rows(params: Any, indices: Mapping[str, np.ndarray], spec: Spec) -> list[Row]:
    """For each unit one row: its slice of every block that it is an axis of; at last what is left."""
    leaves, treedef = jax.tree_util.tree_flatten(params)
    if len(leaves) != len(indices):
        raise ValueError(
            f"neuron tokens need a tree of arrays only; this one has {len(leaves)} leaves, "
            f"{len(indices)} of them arrays. Take the others out with `equinox.partition`."
        )
    with jax.ensure_compile_time_eval():
        tree = jax.tree_util.tree_unflatten(treedef, [jnp.asarray(x) for x in indices.values()])
        blocks = {name: np.asarray(x) for name, x in jax.jit(spec.blocks)(tree).items()}
    slices: dict[str, list[np.ndarray]] = {units.name: [] for units in spec.units}
    for block in spec.layout:
        for axis, name in enumerate(block.axes):
            if name in slices:
                first = (*block.parents[axis], axis)
                rest = [k for k in range(len(block.axes)) if k not in first]
                x = blocks[block.name].transpose([*first, *rest])
                slices[name].append(x.reshape(int(np.prod(x.shape[: len(first)])), -1))
    rows, seen = [], np.zeros(sum(x.size for x in indices.values()), bool)
    for group, parts in enumerate(slices.values()):
        for member, row in enumerate(np.concatenate(parts, axis=1)):
            rows.append(Row(group, member, row))
            seen[row] = True
    if not seen.all():
        rows.append(Row(len(slices), 0, np.flatnonzero(~seen).astype(np.int32)))
    return rows


def _marks(params: Any, spec: Spec | None) -> dict[str, tuple]:
    """For each array what its axes are: annotations, or lengths where there is no spec."""
    if spec is None:
        return {path: tuple(x.shape) for path, x in arrays_by_path(params).items()}
    spec.flatten(params)  # says what does not fit
    return {leaf.path: leaf.trees for leaf in spec.leaves}


def _match(kernel: Sequence, bias: Sequence) -> tuple[int, ...] | None:
    """The axes of a kernel that are those of its bias, in order, the last that fit; None if none do."""
    axes: list[int] = []
    k = len(kernel) - 1
    for mark in reversed(bias):
        while k >= 0 and kernel[k] != mark:
            k -= 1
        if k < 0:
            return None
        axes.insert(0, k)
        k -= 1
    return tuple(axes)


def _default(marks: Sequence, channel_axis: int, spec: Spec | None) -> tuple[int, ...]:
    """The channel axis of an array without a bias, with the axes that its units are nested over."""
    rank = len(marks)
    if rank == 0:
        return ()
    axis = channel_axis % rank if -rank <= channel_axis < rank else rank - 1
    if spec is None:
        return (axis,)
    over = {
        name
        for atom in atoms(marks[axis])
        if isinstance(atom, Unit)
        for name in spec.over(atom.name)
    }
    parents = [k for k, tree in enumerate(marks) if k != axis and over & _names(tree)]
    return tuple(sorted([*parents, axis]))


def _names(tree: Any) -> set[str]:
    return {atom.name for atom in atoms(tree) if atom.name}


def _channels(index: np.ndarray, out: Sequence[int], marks: Sequence) -> np.ndarray:
    """`(channels, entries)`, the input axis of a convolution before its positions."""
    rest = [k for k in range(index.ndim) if k not in out]
    places = all(isinstance(marks[k], (int, Fixed)) for k in rest[:-1])
    if len(rest) > 1 and tuple(out) == (index.ndim - 1,) and places:
        rest = [rest[-1], *rest[:-1]]
    channels = int(np.prod([index.shape[k] for k in out]))
    return index.transpose([*out, *rest]).reshape(channels, -1)
