"""A tree of weights as tokens, each a piece of one array, and back.

G.pt (Peebles et al., 2022) cuts every layer into pieces of at most some thousand weights; HyperDiffusion
(Erkoç et al., 2023) makes one token of every array. Pieces of one array have one length, the last of them
padded; pieces of one length are stacked, whatever arrays they are of.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import key_path_str


@dataclass(frozen=True)
class Cut:
    """How one array is cut.

    Attributes:
        path, shape: of the array.
        pieces: how many.
        length: of each.
    """

    path: str
    shape: tuple[int, ...]
    pieces: int
    length: int


@dataclass(frozen=True)
class Pieces:
    """How a tree is cut: static.

    Attributes:
        cuts: one for each array, in the order of the tree.

    Example:
        >>> params = {"b": jnp.zeros(3), "w": jnp.ones((2, 3))}
        >>> cut = Pieces.of(params, 4)
        >>> [x.shape for x in cut.split(params, jnp.float32)], cut.count
        ([(3, 3)], 3)
        >>> cut.join(cut.split(params, jnp.float32), params)["w"].tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    cuts: tuple[Cut, ...]

    @staticmethod
    def of(like: Any, width: int | None) -> Pieces:
        """Pieces of at most ``width`` numbers; None for one piece an array.

        Raises:
            ValueError: a width below one, or no array.
        """
        if width is not None and width < 1:
            raise ValueError(f"`pieces` must hold at least one number; got {width}")
        cuts = []
        for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
            size = prod(leaf.shape)
            count = 1 if width is None else max(1, -(-size // width))
            cuts.append(Cut(key_path_str(path), tuple(leaf.shape), count, -(-size // count)))
        if not cuts:
            raise ValueError(
                "there are no arrays in `like`; give `space.like` or an encoded network"
            )
        return Pieces(tuple(cuts))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths there are, in order of first appearance; pieces of length 0 are left out."""
        return tuple(dict.fromkeys(c.length for c in self.cuts if c.length))

    @property
    def members(self) -> dict[int, list[int]]:
        """For each length, which cuts have it."""
        return {n: [k for k, c in enumerate(self.cuts) if c.length == n] for n in self.lengths}

    @property
    def counts(self) -> tuple[int, ...]:
        """How many tokens of each length there are."""
        return tuple(sum(self.cuts[k].pieces for k in found) for found in self.members.values())

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return sum(self.counts)

    @property
    def positions(self) -> np.ndarray:
        """``(count, 3)``: of each token its place, its array, and its place in the array."""
        pairs = [
            (k, i) for ks in self.members.values() for k in ks for i in range(self.cuts[k].pieces)
        ]
        order = np.argsort(np.array([k * 2**20 + i for k, i in pairs]), kind="stable")
        rank = np.empty(len(pairs), int)
        rank[order] = np.arange(len(pairs))
        return np.array([(r, *pair) for r, pair in zip(rank, pairs, strict=True)])

    @property
    def masks(self) -> list[np.ndarray]:
        """For each length ``(tokens, length)``: where a token holds a weight."""
        out = []
        for length, found in self.members.items():
            rows = []
            for k in found:
                cut = self.cuts[k]
                row = np.arange(cut.pieces * length) < prod(cut.shape)
                rows.append(row.reshape(cut.pieces, length))
            out.append(np.concatenate(rows))
        return out

    def split(self, tree: Any, dtype: jnp.dtype | type) -> list[jax.Array]:
        """For each length ``(tokens, length)``, padded with zeros.

        Raises:
            ValueError: another tree than the one that is cut; names the first array that differs.
        """
        leaves = self._leaves(tree)
        out = []
        for length, found in self.members.items():
            rows = []
            for k in found:
                flat = leaves[k].astype(dtype).reshape(-1)
                flat = jnp.pad(flat, (0, self.cuts[k].pieces * length - flat.size))
                rows.append(flat.reshape(-1, length))
            out.append(jnp.concatenate(rows))
        return out

    def join(self, tokens: list[jax.Array], like: Any) -> Any:
        """The inverse of :meth:`split`: a tree like another one, in its dtypes."""
        leaves, treedef = jax.tree.flatten(like)
        out = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        for found, rows in zip(self.members.values(), tokens, strict=True):
            at = 0
            for k in found:
                cut = self.cuts[k]
                flat = rows[at : at + cut.pieces].reshape(-1)[: prod(cut.shape)]
                out[k] = flat.reshape(cut.shape).astype(leaves[k].dtype)
                at += cut.pieces
        return jax.tree.unflatten(treedef, out)

    def _leaves(self, tree: Any) -> list[jax.Array]:
        flat = jax.tree_util.tree_flatten_with_path(tree)[0]
        seen = [(key_path_str(path), tuple(x.shape)) for path, x in flat]
        known = [(c.path, c.shape) for c in self.cuts]
        if seen != known:
            other = next((s for s, k in zip(seen, known, strict=False) if s != k), "other arrays")
            raise ValueError(
                f"the weights do not fit this denoiser, which was drawn for another tree: {other}; "
                "for a stack of networks use jax.vmap"
            )
        return [x for _, x in flat]
