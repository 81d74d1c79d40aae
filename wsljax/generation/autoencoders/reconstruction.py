"""How far a reconstruction is off, every layer measured by its own spread.

Layers differ in size by orders of magnitude, and a plain squared error sees only the largest. Schürholt et al.,
*Hyper-Representations as Generative Models*, 2022, section 3, divide by the variance of each layer; padded entries
count for nothing, as in Schürholt et al., 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...representation.blocks.dtypes import wide
from ..denoisers.trees import Table, size_of
from ..spaces import ComposedSpace, FlatSpace, Space, TokenSpace


@dataclass(frozen=True)
class Reconstruction:
    """The mean over all numbers of the squared error divided by the variance of the number's layer.

    Attributes:
        weights: one array for each leaf, that broadcasts to it: one over the variance, zero in padding.
        size: how many numbers count.

    Example:
        >>> stack = {"w": jnp.array([[0.0, 2.0], [2.0, 0.0]]), "v": jnp.array([[30.0], [10.0]])}
        >>> error = Reconstruction.fit(stack)
        >>> x = {"w": jnp.zeros(2), "v": jnp.zeros(1)}
        >>> float(error({"w": jnp.ones(2), "v": jnp.full(1, 10.0)}, x))
        1.0
    """

    weights: tuple[Table, ...]
    size: int

    @staticmethod
    def fit(
        x: Any, *, layers: Any = None, mask: Any = None, floor: float = 1e-12
    ) -> Reconstruction:
        """Take the variances over training networks.

        Args:
            x: encoded networks, ``(networks, ...)``.
            layers: which layer the entries along the first axis of an array ``x`` are of: tokens, or the
                numbers of a vector. By default each leaf is a layer.
            mask: a tree like one ``x`` of 0 and 1, ``space.mask``.
            floor: of variances, relative to the mean square of all numbers: a layer that hardly varies
                does not count for more than all others.

        Raises:
            ValueError: ``layers`` for a tree of several arrays, or of another length.
        """
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(x)]
        masks = [None] * len(leaves) if mask is None else jax.tree.leaves(mask)
        groups: list[Any] = [np.zeros(np.shape(leaf)[1:2] or 1, int) for leaf in leaves]
        if layers is not None:
            groups = [np.asarray(layers)]
            if len(leaves) != 1 or groups[0].shape != leaves[0].shape[1:2]:
                raise ValueError(
                    f"`layers` has shape {groups[0].shape}; it names the layer of each entry along the "
                    f"first axis of one array, here of {[leaf.shape[1:] for leaf in leaves]}"
                )
        total = sum(float(np.sum(leaf**2)) for leaf in leaves)
        least = floor * total / max(sum(leaf.size for leaf in leaves), 1)
        weights, size = [], 0
        for leaf, own, kept in zip(leaves, groups, masks, strict=True):
            shape = leaf.shape[1:]
            keep = np.ones(shape, bool) if kept is None else np.asarray(kept, bool)
            weight = np.zeros(shape, np.float32)
            if not shape:
                own = np.zeros((), int)
            for name in np.unique(own):
                inside = keep & (own == name).reshape(own.shape + (1,) * (len(shape) - own.ndim))
                if inside.any():
                    variance = max(float(np.var(leaf[:, inside])), least)
                    weight[inside] = 1 / variance if variance > 0 else 1.0
            size += int(keep.sum())
            uniform = bool(keep.all()) and len(np.unique(weight)) == 1
            weights.append(Table.of(weight.reshape(-1)[:1].reshape(()) if uniform else weight))
        return Reconstruction(tuple(weights), size)

    @staticmethod
    def of(space: Space, networks: Any) -> Reconstruction:
        """For a space and the training networks, a ``Population`` or stacked weights.

        The layers of tokens are those of their positions; in vectors each array is one.
        """
        x = space.encode_all(getattr(networks, "params", networks))
        last = space.spaces[-1] if isinstance(space, ComposedSpace) else space
        layers = None
        if isinstance(last, TokenSpace):
            layers = last.tokeniser.positions[:, 1]
        elif isinstance(last, FlatSpace):
            sizes = [prod(leaf.shape) for leaf in jax.tree.leaves(last.tree)]
            layers = np.repeat(np.arange(len(sizes)), sizes)
        return Reconstruction.fit(x, layers=layers, mask=space.mask)

    def __call__(self, predicted: Any, x: Any) -> jax.Array:
        """The error of one reconstruction, a number."""
        total = jnp.zeros(())
        for a, b, weight in zip(
            jax.tree.leaves(predicted), jax.tree.leaves(x), self.weights, strict=True
        ):
            off = wide(a) - wide(b)
            if weight.array.ndim and not weight.array.all():
                off = jnp.where(weight.array > 0, off, 0)
            total = total + jnp.sum(jnp.square(off) * weight.array.astype(off.dtype))
        return total / self.size


def mean_squared(predicted: Any, x: Any) -> jax.Array:
    """The mean over all numbers of the squared error, a number.

    Example:
        >>> float(mean_squared({"w": jnp.ones(3), "b": jnp.zeros(1)}, {"w": jnp.zeros(3), "b": jnp.zeros(1)}))
        0.75
    """
    pairs = zip(jax.tree.leaves(predicted), jax.tree.leaves(x), strict=True)
    off = [jnp.sum(jnp.square(wide(a) - wide(b))) for a, b in pairs]
    return jnp.sum(jnp.stack(off)) / size_of(x)
