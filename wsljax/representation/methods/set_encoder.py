"""SNE: a network as a set of layers, a layer as a set of chunks, a chunk as a set of weights.

Andreis, Soro, Hwang, *Set-based Neural Network Encoding Without Weight Tying*, 2024. Three set encoders
follow each other, each told the places of its tokens: weights to a chunk, chunks to a layer, layers to
the network. No parameter knows the architecture: one encoder reads networks of any spec.

As published (``chunk=32``) weights are cut in the order of storage. That is not invariant to the
exchange of units, and training is to make it so, by :func:`~..invariance_loss.logit_invariance`
(Moskalev et al., 2023). With ``chunk=None`` chunks are the rows of the units and no place of a unit is
told: invariant by construction, though to more than it should, since which row of one layer meets
which of the next is not seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.layout import Block
from ...symmetry.spec import Spec
from ..blocks.incoming import block_of, check_scales, floating
from ..blocks.indices import structure
from ..parts.chunks import View, pieces, rows
from ..parts.folding import CODES, position_codes
from ..parts.norm import standardise
from ..parts.set_attention import SetEncoder
from ..parts.set_readout import EntryReadout, NetworkPool, SetFeatures
from ..universal.initial import normals
from .registry import register_method
from .trunk import Trunk

AXES = 4
"""Axes of a block that have codes of their own; further ones share the last."""


PLACES = 0.3
"""Initial size of what tells places, beside weights of size one: places are the same in all networks."""


class Codes(eqx.Module):
    """What is added to tokens, so that they know where they are; nothing depends on the architecture."""

    value: jax.Array  # (c_in, C): the weight itself
    entry: jax.Array  # (AXES, CODES, C): coordinates on fixed axes, or the place in the chunk
    tied: jax.Array | None  # (C,): two indices of the same units that agree; of rows alone
    chunk: jax.Array | None  # (CODES, C): which piece of the layer; of pieces alone
    axis: jax.Array  # (AXES + 1, C): whose rows
    layer: jax.Array  # (CODES, C): which layer
    kind: jax.Array  # (AXES, AXES, C): how many axes of units and fixed ones a layer has


class SetTrunk(Trunk):
    """See the module.

    Attributes:
        codes: encodings of places.
        stages: the encoders of chunks, of layers, of the network.
        chunk: weights in a chunk, or None for rows.
    """

    equivariant: ClassVar[bool] = False

    codes: Codes
    stages: tuple[SetEncoder, SetEncoder, SetEncoder]
    spec: Spec = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)
    c_in: int | None = eqx.field(static=True)
    chunk: int | None = eqx.field(static=True)

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> SetFeatures:
        """``spec.blocks(params)`` of a network of any architecture to its features."""
        layout = _layout(self.spec if spec is None else spec)
        dtype = floating(blocks)
        codes = jax.tree.map(lambda a: a.astype(dtype), self.codes)
        entries = {b.name: self._entries(b, blocks, codes) for b in layout}
        views = [v for b in layout for v in (pieces(b, self.chunk) if self.chunk else rows(b))]
        chunks, weights = self._chunks(views, entries, codes)
        layers, members = self._layers(views, chunks, codes)
        network, tokens = self.stages[2](self._named(layout, views, layers, codes))
        out: dict[str, jax.Array] = {}
        for view, weight, member in zip(views, weights, members, strict=True):
            known = view.put(weight + member[:, None])
            out[view.block] = out[view.block] + known if view.block in out else known
        for block, token in zip(layout, tokens, strict=True):
            out[block.name] = standardise(standardise(out[block.name]) + token + network)
        return SetFeatures(standardise(network), out)

    def _entries(self, block: Block, blocks: Mapping[str, jax.Array], codes: Codes) -> jax.Array:
        """Tokens of the weights of one block."""
        x = block_of(blocks, block.name, block.shape, self.c_in).astype(codes.value.dtype)
        scale = dict(self.scales).get(block.name, 1.0)
        x = x[..., None] if self.c_in is None else x
        h = jnp.matmul(x, codes.value) / scale
        if self.chunk:
            return h
        rank = len(block.shape)
        for k, name in enumerate(block.axes):
            shape = [1] * rank + [h.shape[-1]]
            shape[k] = block.shape[k]
            if name.startswith("_"):
                place = position_codes(block.shape[k], h.dtype) @ codes.entry[min(k, AXES - 1)]
                h = h + place.reshape(shape)
            for j in range(k):
                if block.axes[j] == name and codes.tied is not None and not name.startswith("_"):
                    pair = [1] * rank + [1]
                    pair[j] = pair[k] = block.shape[k]
                    same = jnp.eye(block.shape[k], dtype=h.dtype).reshape(pair)
                    h = h + same * codes.tied
        return h

    def _chunks(
        self, views: list[View], entries: Mapping[str, jax.Array], codes: Codes
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """A vector for each chunk, and a token for each weight in it; one call for each length."""
        alike: dict[tuple, list[int]] = defaultdict(list)
        for n, view in enumerate(views):
            alike[view.length, view.padding > 0].append(n)
        vectors, tokens = [jnp.zeros(0)] * len(views), [jnp.zeros(0)] * len(views)
        for (length, padded), members in alike.items():
            x = jnp.concatenate([views[n].cut(entries[views[n].block]) for n in members])
            if self.chunk:
                x = x + position_codes(length, x.dtype) @ codes.entry[0]
            masks = [views[n].mask() for n in members]
            mask = jnp.asarray(np.concatenate(masks)) if padded else None
            vector, token = jax.vmap(self.stages[0])(x, mask)
            stops = np.cumsum([views[n].chunks for n in members])[:-1]
            for n, v, t in zip(members, jnp.split(vector, stops), jnp.split(token, stops)):
                vectors[n], tokens[n] = v, t
        return vectors, tokens

    def _layers(
        self, views: list[View], chunks: list[jax.Array], codes: Codes
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """A vector for each way to cut a block, and a token for each chunk."""
        alike: dict[int, list[int]] = defaultdict(list)
        for n, view in enumerate(views):
            alike[view.chunks].append(n)
        vectors, tokens = [jnp.zeros(0)] * len(views), [jnp.zeros(0)] * len(views)
        for count, members in alike.items():
            x = standardise(jnp.stack([chunks[n] for n in members]))
            if codes.chunk is not None:
                x = x + position_codes(count, x.dtype) @ codes.chunk
            axes = np.array([min(views[n].axis, AXES - 1) for n in members])
            vector, token = jax.vmap(self.stages[1])(x + codes.axis[axes][:, None])
            for n, v, t in zip(members, vector, token, strict=True):
                vectors[n], tokens[n] = v, t
        return vectors, tokens

    def _named(
        self, layout: list[Block], views: list[View], vectors: list[jax.Array], codes: Codes
    ) -> jax.Array:
        """One token for each layer: what its cuts give, its place and its kind."""
        sums = {b.name: jnp.zeros((), vectors[0].dtype) for b in layout}
        for view, vector in zip(views, vectors, strict=True):
            sums[view.block] = sums[view.block] + vector
        units = [sum(not a.startswith("_") for a in b.axes) for b in layout]
        fixed = [len(b.axes) - n for b, n in zip(layout, units, strict=True)]
        limit = partial(np.minimum, AXES - 1)
        kinds = codes.kind[limit(np.array(units)), limit(np.array(fixed))]
        places = position_codes(len(layout), kinds.dtype) @ codes.layer
        return standardise(jnp.stack([sums[b.name] for b in layout])) + kinds + places

    def make_pool(
        self, spec: Spec, channels: int, *, key: jax.Array, **options: Any
    ) -> NetworkPool:
        del spec, channels, key
        if options:
            raise ValueError(
                f"method 'set_encoder' pools by attention; it has no option {sorted(options)}"
            )
        return NetworkPool()

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> EntryReadout:
        up, down = normals(key, ((channels, 2 * channels), (2 * channels,)), dtype)
        up = up / jnp.asarray(channels**0.5, dtype)
        return EntryReadout(
            up, down / jnp.asarray(channels**0.5, dtype), spec, tuple((scales or {}).items())
        )


class RowSetTrunk(SetTrunk):
    """Chunks are rows of units: equivariant, but blind to moves in one array alone."""

    equivariant: ClassVar[bool] = True
    joint: ClassVar[bool] = False


def _layout(spec: Spec) -> list[Block]:
    """The blocks in the order of the structure: layers by the numbers in their names."""
    layout = {block.name: block for block in spec.layout}
    return [layout[indices.name] for indices in structure(spec)]


@register_method("set_encoder")
def set_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    chunk: int | None = 32,
    heads: int | None = None,
    points: int = 4,
    c_in: int | None = None,
    scales: Mapping[str, float] | None = None,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    remat: bool = False,
    dtype: jnp.dtype | type = jnp.float32,
) -> SetTrunk:
    """The trunk of a set-based encoder.

    Args:
        spec, channels, key, dtype: see :class:`.LayeredTrunk`; the spec only names the usual networks.
        layers: blocks of each of the three encoders.
        chunk: weights in a chunk, in the order of storage; None for the rows of the units.
        heads, points, remat: see :class:`.SetEncoder`.
        c_in, scales: see :class:`.Embed`.
        activation: of the head alone; the encoders' own is gelu.

    Raises:
        ValueError: a chunk without weights, or ``scales`` of blocks that the spec does not have.
    """
    del activation
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` must be positive, or None for rows of units; got {chunk}")
    check_scales(scales, (block.name for block in spec.layout))
    keys = jax.random.split(key, 4)
    c = channels
    value, entry, tied, of_chunk, axis, layer, kind = normals(
        keys[0],
        (
            (c_in or 1, c),
            (AXES, CODES, c),
            (c,),
            (CODES, c),
            (AXES + 1, c),
            (CODES, c),
            (AXES, AXES, c),
        ),
        dtype,
    )
    whole, eighth = (jnp.asarray(PLACES * x, dtype) for x in (1, (2 / CODES) ** 0.5))
    codes = Codes(
        value / jnp.asarray((c_in or 1) ** 0.5, dtype),
        entry * eighth,
        tied * whole if chunk is None else None,
        None if chunk is None else of_chunk * eighth,
        axis * whole,
        layer * eighth,
        kind * whole,
    )
    encoder = partial(SetEncoder, c, layers, heads=heads, points=points, remat=remat, dtype=dtype)
    stages = encoder(key=keys[1]), encoder(key=keys[2]), encoder(key=keys[3])
    trunk = RowSetTrunk if chunk is None else SetTrunk
    return trunk(codes, stages, spec, tuple((scales or {}).items()), c_in, chunk)
