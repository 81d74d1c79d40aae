"""Networks as sequences of tokens, and back, exactly.

A tokeniser is a fixed table that says which weight stands where, so it is static: it hashes, goes
through `jit` and `vmap`, and all networks of a population share it. Positions and the padding mask are
read from it, not from the weights.

=====================  =================================================================================
:func:`channel_tokens`  one output channel at a time: its weights, then its bias (SANE)
:func:`neuron_tokens`   one unit of the spec at a time: everything into it and out of it
:func:`flat_tokens`     all weights in the order of the tree, cut into pieces
=====================  =================================================================================

How they move: a permutation of one set of units permutes the channel tokens of the layers that write
these units, and the neuron tokens of that set, whole; in tokens of the neighbours it permutes entries.

Reference: K. Schürholt, M. Mahoney, D. Borth, "Towards scalable and versatile weight space learning"
(ICML 2024), section 3.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import key_path_str
from wsljax.symmetry import Spec
from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.token_rows import Row, channel_rows, leaf_indices, neuron_rows


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class Tokeniser:
    """Which weight stands where in a sequence of tokens.

    Attributes:
        kind: `"channel"`, `"neuron"` or `"flat"`.
        index: `(count, width)`: places in the flat vector of all weights; -1 is padding.
        positions: `(count, 3)`: global index, layer or set of units, channel or unit.
        leaves: path, shape and dtype of each array.

    Example:
        >>> params = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.array([6.0, 7.0, 8.0])}
        >>> tokens = channel_tokens(params)
        >>> tokens(params).tolist()
        [[0.0, 3.0, 6.0], [1.0, 4.0, 7.0], [2.0, 5.0, 8.0]]
        >>> tokens.params(tokens(params))["bias"].tolist()
        [6.0, 7.0, 8.0]
    """

    kind: str
    index: np.ndarray
    positions: np.ndarray
    leaves: tuple[tuple[str, tuple[int, ...], str], ...]
    treedef: Any
    others: tuple[tuple[int, Any], ...] = ()

    @property
    def count(self) -> int:
        """Tokens of one network."""
        return self.index.shape[0]

    @property
    def width(self) -> int:
        """Numbers in a token, padding included."""
        return self.index.shape[1]

    @cached_property
    def mask(self) -> np.ndarray:
        """`(count, width)`: where a token holds a weight; zeros stand everywhere else."""
        return self.index >= 0

    @cached_property
    def size(self) -> int:
        """Weights of one network."""
        return sum(int(np.prod(shape)) for _, shape, _ in self.leaves)

    def __call__(self, params: Any) -> jax.Array:
        """The tokens `(count, width)` of one network; `jax.vmap` for a stack.

        Arrays of several dtypes are brought to one that holds them all.

        Raises:
            ValueError: `params` has another structure or other shapes; names the first.
        """
        arrays = self._arrays(params)
        dtype = jnp.result_type(*(x.dtype for x in arrays))
        flat = [x.reshape(-1).astype(dtype) for x in arrays] + [jnp.zeros(1, dtype)]
        return jnp.concatenate(flat)[self.index]

    def params(self, tokens: jax.Array, *, overlap: str = "first") -> Any:
        """The network of which these are the tokens: the exact inverse of calling.

        Args:
            tokens: `(count, width)`; what stands in the padding is dropped.
            overlap: where a weight stands in several tokens, as those between two units do:
                `"first"` takes the first, `"mean"` the mean of all (for tokens that were predicted).

        Raises:
            ValueError: another shape, or another `overlap`.
        """
        tokens = jnp.asarray(tokens)
        if tokens.shape != self.index.shape:
            raise ValueError(
                f"`tokens` has shape {tokens.shape}, this tokeniser {self.index.shape}; "
                "for a stack of networks use jax.vmap."
            )
        if overlap == "first":
            flat = tokens.reshape(-1)[self._first]
        elif overlap == "mean":
            places = np.where(self.mask, self.index, self.size).reshape(-1)
            copies = np.bincount(places, minlength=self.size + 1)[: self.size]
            total = jnp.zeros(self.size + 1, tokens.dtype).at[places].add(tokens.reshape(-1))
            flat = total[: self.size] / jnp.asarray(copies, tokens.dtype)
        else:
            raise ValueError(f"`overlap` is {overlap!r}; it is 'first' or 'mean'.")
        out, at = [], 0
        for _, shape, dtype in self.leaves:
            length = int(np.prod(shape))
            out.append(flat[at : at + length].reshape(shape).astype(dtype))
            at += length
        for place, leaf in self.others:
            out.insert(place, leaf)
        return jax.tree_util.tree_unflatten(self.treedef, out)

    @cached_property
    def _first(self) -> np.ndarray:
        """Where in the flattened tokens each weight stands first."""
        flat = self.index.reshape(-1)
        places = np.flatnonzero(flat >= 0)
        found, first = np.unique(flat[places], return_index=True)
        assert len(found) == self.size, "every weight stands in a token"
        return places[first]

    def _arrays(self, params: Any) -> list[jax.Array]:
        flat, treedef = jax.tree_util.tree_flatten_with_path(params)
        named = [(key_path_str(path), x) for path, x in flat if hasattr(x, "shape")]
        known = [(path, shape) for path, shape, _ in self.leaves]
        seen = [(path, tuple(x.shape)) for path, x in named]
        if treedef != self.treedef or seen != known:
            other = next(
                (s for s, k in zip(seen, known) if s != k), "another structure of the tree"
            )
            hint = "" if len(seen) != len(known) else "; for a stack of networks use jax.vmap"
            raise ValueError(f"`params` do not fit this tokeniser: {other}{hint}.")
        return [jnp.asarray(x) for _, x in named]

    @cached_property
    def _identity(self) -> tuple:
        text = hashlib.sha256(self.index.tobytes() + self.positions.tobytes()).hexdigest()
        return self.kind, self.index.shape, text, self.leaves, self.treedef

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Tokeniser) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        share = self.mask.mean()
        return f"Tokeniser({self.kind}, {self.count} tokens of {self.width}, {share:.0%} weights)"


def channel_tokens(
    params: Any, spec: Spec | None = None, *, width: int | None = None, channel_axis: int = -1
) -> Tokeniser:
    """SANE's tokens: for each output channel its weights, then its bias, cut into pieces of `width`.

    The output axes of a kernel are those that its bias has: by the spec's annotation if there is one,
    by length if not. Without a bias it is `channel_axis`, and what the spec nests it over. The weights
    of a convolution follow each other as in a torch kernel, input channels first.

    Args:
        params: one network, its `ShapeDtypeStruct`s, or a `Population`.
        spec: its symmetry (default: the population's).
        width: of a token; a channel is padded with zeros to a multiple of it. Default: the longest
            channel, so that each channel is one token.
        channel_axis: of kernels without a bias: -1 as in JAX, 0 as in torch.

    Returns:
        A `Tokeniser`; its positions are (global index, layer, channel).

    Raises:
        ValueError: `width` is not positive.
        TypeError: an array that does not hold floats; names it.
    """
    params, spec = _one(params, spec)
    indices = leaf_indices(params)
    return _cut("channel", channel_rows(params, indices, spec, channel_axis), width, params)


def neuron_tokens(params: Any, spec: Spec | None = None, *, width: int | None = None) -> Tokeniser:
    """One token for each unit of each set of units: all that goes into it and comes out of it.

    Weights between two units stand in both tokens. Weights that touch no unit (the bias of an output)
    follow at the end.

    Args:
        params: one network, its `ShapeDtypeStruct`s, or a `Population`.
        spec: its symmetry (default: the population's).
        width: tokens are cut at it (default: the longest, so that each unit is one token).

    Returns:
        A `Tokeniser`; its positions are (global index, set of units, unit), where the units of nested
        sets are counted through all copies, and the rest has the number after the last set.

    Raises:
        ValueError: there is no spec, it does not fit, or `width` is not positive.
        TypeError: an array that does not hold floats; names it.
    """
    params, spec = _one(params, spec)
    if spec is None:
        raise ValueError("neuron tokens need a `spec`: see `wsljax.symmetry.infer`.")
    return _cut("neuron", neuron_rows(params, leaf_indices(params), spec), width, params)


def flat_tokens(params: Any, *, width: int) -> Tokeniser:
    """All weights in the order of the tree, cut into tokens of `width`; only the last one is padded.

    Args:
        params: one network, its `ShapeDtypeStruct`s, or a `Population`.
        width: of a token.

    Returns:
        A `Tokeniser`; its positions are (global index, 0, global index).
    """
    params, _ = _one(params, None)
    indices = leaf_indices(params)
    flat = np.concatenate([index.reshape(-1) for index in indices.values()])
    tokeniser = _cut("flat", [Row(0, 0, flat)], width, params)
    tokeniser.positions[:, 2] = np.arange(tokeniser.count)
    return tokeniser


def masked_mean(values: jax.Array, mask: Any) -> jax.Array:
    """The mean of `values` over the entries of `mask`, and over those alone.

    A mean over padded entries too makes the loss of a short network look small: an all-ones error with
    a quarter of real entries gives 0.25 there, and 1 here.

    Args:
        values: any shape, finite or not outside the mask.
        mask: broadcasts against it, as `tokeniser.mask` against `(models, count, width)`.

    Example:
        >>> float(masked_mean(jnp.array([[2.0, 4.0], [6.0, jnp.nan]]), [[1, 1], [1, 0]]))
        4.0
    """
    mask = jnp.broadcast_to(jnp.asarray(mask, bool), values.shape)
    total = jnp.sum(jnp.where(mask, values, 0))
    return total / jnp.maximum(jnp.sum(mask, dtype=total.dtype), 1)


def masked_mse(prediction: jax.Array, target: jax.Array, mask: Any) -> jax.Array:
    """Mean squared error over the entries of `mask`; the gradient outside it is 0.

    >>> float(masked_mse(jnp.ones((2, 2)), jnp.zeros((2, 2)), [[True, False], [False, False]]))
    1.0
    """
    mask = jnp.broadcast_to(jnp.asarray(mask, bool), jnp.shape(prediction))
    return masked_mean(jnp.where(mask, prediction - target, 0) ** 2, mask)


def _one(params: Any, spec: Spec | None) -> tuple[Any, Spec | None]:
    """One network's weights and its spec."""
    if isinstance(params, Population):
        return params[0], params.spec if spec is None else spec
    return params, spec


def _cut(kind: str, rows: Sequence[Row], width: int | None, params: Any) -> Tokeniser:
    """Rows of any length as tokens of one width, padded with -1."""
    longest = max(len(row.index) for row in rows)
    width = longest if width is None else width
    if width < 1:
        raise ValueError(f"`width` is {width}; a token holds one number or more.")
    pieces, places = [], []
    for row in rows:
        count = -(-len(row.index) // width)
        piece = np.full(count * width, -1, np.int32)
        piece[: len(row.index)] = row.index
        pieces.append(piece.reshape(count, width))
        places += [(row.group, row.member)] * count
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    leaves = tuple(
        (key_path_str(path), tuple(x.shape), str(jnp.dtype(x.dtype)))
        for path, x in flat
        if hasattr(x, "shape")
    )
    others = tuple((k, x) for k, (_, x) in enumerate(flat) if not hasattr(x, "shape"))
    positions = np.array([(k, *place) for k, place in enumerate(places)], np.int32)
    return Tokeniser(kind, np.concatenate(pieces), positions, leaves, treedef, others)
