"""A transformer on tokens, modulated by level and condition: DiT for weights.

Peebles and Xie, *Scalable Diffusion Models with Transformers*, 2023. What a token is, is up to the space, or to the
denoiser itself:

==================  ====================================================================================
tokens of a space   rows of one width with one map in and one out for all of them, as in SANE (Schürholt
                    et al., 2024): ``TokenTransformer.on_tokens(space.like, positions=…, mask=…)``
pieces of arrays    at most so many weights of one array each, with a map in and out of its own, as in
                    G.pt (Peebles et al., 2022): ``TokenTransformer.on_trees(space.like, pieces=1000)``
whole arrays        one token each, as in HyperDiffusion (Erkoç et al., 2023): ``pieces=None``
==================  ====================================================================================

Not equivariant: which token is which is told by position embeddings, and what stands where in a token
is fixed. Align the networks first, or train on moved copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...representation.methods.end_trunk import sinusoids
from ...representation.parts.layers import draw_layers, run_layers
from ...representation.parts.norm import standardise
from ...representation.universal.initial import normals
from .adaptive import TransformerBlock, heads_for
from .levels import LevelEmbedding, Linear, Signal
from .pieces import Pieces
from .trees import Table, dtype_of, inputs_of


class Positions(eqx.Module):
    """What is added to tokens so that they know where they stand: layer and index.

    Attributes:
        layers: a learned vector for each layer.
        places: from sinusoids of the place among all, and of that in the layer.
        table: ``(tokens, 3)``: the place among all tokens, the layer, the place in the layer.

    Example:
        >>> positions = Positions(np.array([[0, 0, 0], [1, 1, 0]]), 8, key=jax.random.key(0))
        >>> positions(jnp.float32).shape
        (2, 8)
    """

    layers: jax.Array
    places: Linear
    table: Table = eqx.field(static=True)

    def __init__(
        self,
        table: Any,
        channels: int,
        *,
        key: jax.Array,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw one, for the positions of a tokeniser, ``(tokens, 3)``."""
        table = np.asarray(table)
        if table.ndim != 2 or table.shape[1] != 3 or table.min(initial=0) < 0:
            raise ValueError(
                f"positions have shape {table.shape}; expected (tokens, 3): place, layer, place in it"
            )
        key_layers, key_places = jax.random.split(key)
        self.table = Table.of(table.astype(np.int32))
        self.layers = jax.random.normal(key_layers, (int(table[:, 1].max()) + 1, channels), dtype)
        self.places = Linear(2 * sinusoids(1).shape[1], channels, key=key_places, dtype=dtype)

    def __call__(self, dtype: jnp.dtype | type) -> jax.Array:
        """``(tokens, channels)``."""
        place, layer, index = self.table.array.T
        waves = [sinusoids(int(v.max()) + 1)[v] for v in (place, index)]
        codes = self.places(jnp.concatenate(waves, axis=-1).astype(dtype))
        return codes + self.layers.astype(dtype)[layer]


class TokenTransformer(eqx.Module):
    """A denoiser on sequences of tokens, or on trees that it cuts into tokens itself; zero at first.

    Attributes:
        signal: level and condition to a vector.
        inward: for each length of tokens the maps in: of tokens of a space one for all of them,
            ``(inputs, length, channels)``, of pieces one for each, ``(inputs, tokens, length, channels)``.
        outward: the maps out, ``(channels, length)`` or ``(tokens, channels, length)``; zero at first.
        passes: from the signal to a factor of each input, which passes through.
        positions: of tokens.
        layers: all blocks in one, run by ``lax.scan``.
        last: from the signal to scale and shift before the maps out.
        pieces: how trees are cut; None for tokens of a space.
        mask: ``(tokens, width)``, where tokens of a space hold weights; None for everywhere.

    Example:
        >>> net = TokenTransformer.on_trees({"w": jnp.ones((3, 5))}, 8, 2, pieces=4, key=jax.random.key(0))
        >>> net({"w": jnp.ones((3, 5))}, jnp.float32(0.5))["w"].shape
        (3, 5)
        >>> net = TokenTransformer.on_tokens(jnp.ones((6, 4)), 8, 2, key=jax.random.key(0))
        >>> net(jnp.ones((6, 4)), jnp.float32(0.5)).shape
        (6, 4)
    """

    signal: Signal
    inward: list[jax.Array]
    outward: list[jax.Array]
    passes: Linear
    positions: Positions
    layers: TransformerBlock
    last: Linear
    pieces: Pieces | None = eqx.field(static=True)
    mask: Table | None = eqx.field(static=True)
    beside: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        positions: Any,
        lengths: Sequence[int],
        pieces: Pieces | None = None,
        mask: Any = None,
        heads: int | None = None,
        told: int | None = None,
        beside: int = 0,
        embed: LevelEmbedding | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        remat: bool = False,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a denoiser; see :meth:`on_tokens` and :meth:`on_trees`, which say the rest."""
        if beside < 0:
            raise ValueError(f"`beside` is a number of networks; got {beside}")
        keys = jax.random.split(key, 4)
        heads = heads_for(channels, heads)
        counts = (1,) if pieces is None else pieces.counts
        inputs = 1 + beside
        shapes = tuple(
            (inputs, n, length, channels) for n, length in zip(counts, lengths, strict=True)
        )
        self.inward = [
            w / jnp.asarray((inputs * length) ** 0.5, dtype)
            for w, length in zip(normals(keys[0], shapes, dtype), lengths, strict=True)
        ]
        self.outward = [jnp.zeros((n, channels, length), dtype) for _, n, length, _ in shapes]
        if pieces is None:
            self.inward = [w[:, 0] for w in self.inward]
            self.outward = [w[0] for w in self.outward]
        self.signal = Signal(channels, told, key=keys[1], embed=embed, dtype=dtype)
        self.passes = Linear(channels, inputs, dtype=dtype)
        self.positions = Positions(positions, channels, key=keys[2], dtype=dtype)
        self.layers = draw_layers(
            lambda key: TransformerBlock(
                channels, heads, channels, key=key, activation=activation, dtype=dtype
            ),
            layers,
            keys[3],
        )
        self.last = Linear(channels, 2 * channels, dtype=dtype)
        self.pieces, self.beside, self.remat = pieces, beside, remat
        self.mask = None
        if mask is not None and not np.asarray(mask, bool).all():
            self.mask = Table.of(np.asarray(mask, bool))

    @staticmethod
    def on_tokens(
        like: Any,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        positions: Any = None,
        mask: Any = None,
        **options: Any,
    ) -> TokenTransformer:
        """A denoiser of ``(tokens, width)``, as a :class:`~..spaces.TokenSpace` has them.

        Args:
            like: an array of that shape, or its shape: ``space.like``.
            channels, layers: of the transformer.
            key: of the initial weights.
            positions: ``(tokens, 3)``, ``space.tokeniser.positions``: place, layer, place in the layer; by
                default all tokens are of one layer.
            mask: ``(tokens, width)``, ``space.tokeniser.mask``: where tokens hold weights. What stands elsewhere is
                not read, and zero comes out there.
            options: ``heads``; ``told``, how many numbers the condition has; ``beside``, how many networks
                stand beside; ``embed`` of the level; ``activation``; ``remat``; ``dtype``.
        """
        if len(like.shape) != 2:
            raise ValueError(f"tokens have shape {like.shape}; expected (tokens, width)")
        count, width = like.shape
        if positions is None:
            positions = np.stack([np.arange(count), np.zeros(count, int), np.arange(count)], axis=1)
        for name, found, expected in (
            ("positions", np.shape(positions), (count, 3)),
            ("mask", (count, width) if mask is None else np.shape(mask), (count, width)),
        ):
            if found != expected:
                raise ValueError(f"`{name}` has shape {found}; expected {expected}")
        return TokenTransformer(
            channels, layers, key=key, positions=positions, lengths=(width,), mask=mask, **options
        )

    @staticmethod
    def on_trees(
        like: Any,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        pieces: int | None = 1000,
        **options: Any,
    ) -> TokenTransformer:
        """A denoiser of trees of arrays, each cut into pieces of at most ``pieces`` numbers.

        Args:
            like: a tree, or its shapes: ``space.like``.
            channels, layers, key, options: see :meth:`on_tokens`.
            pieces: None for one token an array.
        """
        cut = Pieces.of(like, pieces)
        return TokenTransformer(
            channels,
            layers,
            key=key,
            positions=cut.positions,
            lengths=cut.lengths,
            pieces=cut,
            **options,
        )

    def __call__(
        self,
        x: Any,
        level: jax.Array,
        told: jax.Array | None = None,
        beside: Sequence[Any] | None = None,
    ) -> Any:
        """A tree like ``x``; see :mod:`wsljax.generation.denoisers`."""
        trees = inputs_of(x, beside, self.beside)
        dtype = dtype_of(x)
        inputs = [self._split(tree, dtype) for tree in trees]
        signal = self.signal(level, told).astype(dtype)
        tokens = []
        for n, w in enumerate(self.inward):
            rows = jnp.stack([tree[n] for tree in inputs])
            product = "itl,ilc->tc" if self.pieces is None else "itl,itlc->tc"
            tokens.append(jnp.einsum(product, rows, w.astype(dtype)))
        h = jnp.concatenate(tokens) + self.positions(dtype)
        mask = None if self.mask is None else self.mask.array.any(axis=1)
        mask = None if mask is None or mask.all() else jnp.asarray(mask)
        h = run_layers(
            self.layers, h, remat=self.remat, call=lambda layer, h: layer(h, signal, mask)
        )
        scale, shift = jnp.split(self.last(signal), 2)
        h = standardise(h) * (1 + scale) + shift
        passes = self.passes(signal)
        out, at = [], 0
        for n, w in enumerate(self.outward):
            rows = h[at : at + len(inputs[0][n])]
            product = "tc,cl->tl" if self.pieces is None else "tc,tcl->tl"
            passed = sum(p * tree[n] for p, tree in zip(passes, inputs, strict=True))
            out.append(jnp.einsum(product, rows, w.astype(dtype)) + passed)
            at += len(rows)
        return self._join(out, x)

    def _split(self, tree: Any, dtype: jnp.dtype) -> list[jax.Array]:
        """For each length the tokens ``(tokens, length)``."""
        if self.pieces is not None:
            return self.pieces.split(tree, dtype)
        expected = self.positions.table.shape[0], self.inward[0].shape[-2]
        if not hasattr(tree, "shape") or tree.shape != expected:
            found = getattr(tree, "shape", type(tree).__name__)
            raise ValueError(
                f"the tokens are {found}; expected {expected}: for a batch use jax.vmap, for trees "
                "draw the denoiser with `TokenTransformer.on_trees`"
            )
        tree = tree.astype(dtype)
        return [tree if self.mask is None else jnp.where(self.mask.array, tree, 0)]

    def _join(self, tokens: list[jax.Array], x: Any) -> Any:
        if self.pieces is not None:
            return self.pieces.join(tokens, x)
        out = tokens[0].astype(x.dtype)
        return out if self.mask is None else jnp.where(self.mask.array, out, 0)
