"""Weights to features that scales leave alone and signs flip, and back to arrays that move as weights.

Pieces are straightened and divided by their norms (:mod:`.straight`, :mod:`.frame`). After that no scale
moves anything, and all that is left of signs is that the features of a piece flip as the piece does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.incoming import block_of, check_scales, floating
from ..parts.embed import Embed
from ..parts.pool import InvariantPool
from ..parts.readout import Readout
from .frame import Frame
from .pieces import Pieces, pieces
from .straight import bend, straighten


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["own", "even", "nodes", "sizes"],
    meta_fields=["source"],
)
@dataclass(frozen=True)
class Scaled:
    """What a trunk says of one network.

    Attributes:
        own: features of every piece that flip as the piece does.
        even: features of every piece that nothing flips.
        nodes: further features that nothing flips, by units: ``(members, *indices, C)``.
        sizes: for each piece what its edit is multiplied by, so as to scale as the piece does.
        source: the annotation of the weights.
    """

    own: Features
    even: Features
    nodes: tuple[jax.Array, ...]
    sizes: dict[str, jax.Array]
    source: Spec


class ScaledEmbed(eqx.Module):
    """The embedding of canonical pieces; see :class:`~..parts.embed.Embed` for what is learned.

    Attributes:
        own: of the pieces; of those that flip without the constant.
        even: of their squares, where something flips and the method asks for it.
    """

    own: Embed
    even: Embed | None
    spec: Spec = eqx.field(static=True)
    c_in: int | None = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        c_in: int | None = None,
        scales: Mapping[str, float] | None = None,
        squares: bool = False,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an embedding; ``squares`` asks for the one of squares. Else as :class:`.Embed`."""
        self.spec, self.c_in = spec, c_in
        own = pieces(spec)
        key, other = jax.random.split(key)
        options = {"c_in": c_in, "scales": piece_scales(own, scales), "dtype": dtype}
        self.own = Embed(own.spec, channels, key=key, **options)
        needed = squares and any(p.flips for p in own.members)
        self.even = Embed(own.spec, channels, key=other, **options) if needed else None

    def __call__(
        self, blocks: Mapping[str, jax.Array], spec: Spec | None = None
    ) -> tuple[Features, Features | None, dict[str, jax.Array]]:
        """The features of the pieces, those of their squares, and the sizes of edits.

        Args:
            blocks: ``spec.blocks(params)``, with a last axis of ``c_in`` channels if there are such.
            spec: their annotation, if it is another one.
        """
        own = pieces(self.spec if spec is None else spec)
        blocks = _numbers(own.source, blocks, self.c_in)
        if self.c_in is None:
            found = straighten(own, blocks)
        else:
            found = jax.vmap(partial(straighten, own), in_axes=-1, out_axes=-1)(blocks)
        frame = Frame(own, found, channels=self.c_in is not None)
        found = frame.canonical(found)
        x = self.own(found, own.spec)
        flips = {p.name for p in own.members if p.flips}
        if flips:
            zero = self.own(jax.tree.map(jnp.zeros_like, found), own.spec)
            x = _where(x, flips, jax.tree.map(jnp.subtract, x, zero), x)
        even = None if self.even is None else self.even(jax.tree.map(_square, found), own.spec)
        return x, even, frame.sizes()


def _square(x: jax.Array) -> jax.Array:
    return jnp.square(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def piece_scales(own: Pieces, scales: Mapping[str, float] | None) -> dict[str, float]:
    """The typical sizes of pieces: those of their blocks, but one where a norm is divided out."""
    check_scales(scales, (b.name for b in own.source.layout))
    return {p.name: 1.0 if p.scales else (scales or {}).get(p.block, 1.0) for p in own.members}


def _numbers(spec: Spec, blocks: Mapping[str, jax.Array], c_in: int | None) -> dict[str, jax.Array]:
    """The blocks as floating numbers of one dtype."""
    dtype = floating(blocks)
    return {b.name: block_of(blocks, b.name, b.shape, c_in).astype(dtype) for b in spec.layout}


def _where(x: Features, names: set[str], inside: Features, outside: Features) -> Features:
    """Features of one sort for the pieces named, of another for the others."""
    arrays = []
    for members, a, b in zip(x.groups, inside.arrays, outside.arrays, strict=True):
        chosen = [x.structure[n].name in names for n in members]
        shape = (len(members),) + (1,) * (a.ndim - 1)
        if all(chosen) or not any(chosen):
            arrays.append(a if all(chosen) else b)
        else:
            arrays.append(jnp.where(jnp.asarray(chosen).reshape(shape), a, b))
    return Features(tuple(arrays), x.structure, x.groups)


def by_parity(spec: Spec, x: Features, flips: Features, others: Features) -> Features:
    """``flips`` for the pieces that signs flip, ``others`` for the others, stacked as ``x`` is."""
    return _where(x, {p.name for p in pieces(spec).members if p.flips}, flips, others)


class ScaledReadout(eqx.Module):
    """Features to arrays of the weights' shapes that move as the weights do, by every element.

    Attributes:
        readout: of the pieces; of those that flip without the constant.
    """

    readout: Readout
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        own = pieces(spec)
        self.spec = spec
        self.readout = Readout(
            own.spec, channels, key=key, scales=piece_scales(own, scales), dtype=dtype
        )

    def __call__(self, features: Scaled, spec: Spec | None = None) -> dict[str, jax.Array]:
        """``{block: array of the block's shape}``."""
        own = pieces(features.source)
        found = self.readout(features.own, own.spec)
        if any(p.flips for p in own.members):
            zero = self.readout(jax.tree.map(jnp.zeros_like, features.own), own.spec)
            found |= {p.name: found[p.name] - zero[p.name] for p in own.members if p.flips}
        found = {name: (x * features.sizes[name]).astype(x.dtype) for name, x in found.items()}
        return bend(own, found)


class ScaledPool(eqx.Module):
    """All averages of what nothing flips: invariant to permutations, scales and signs."""

    pool: InvariantPool
    nodes: int = eqx.field(static=True)

    def size(self, channels: int) -> int:
        """How many numbers come out."""
        return self.pool.size(channels) + self.nodes * channels

    def __call__(self, x: Scaled) -> jax.Array:
        """Features to one vector."""
        out = [self.pool(x.even)]
        for a in x.nodes:
            out.append(jnp.mean(a, axis=tuple(range(1, a.ndim - 1))).reshape(-1))
        return jnp.concatenate(out)
