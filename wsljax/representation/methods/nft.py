"""Neural functional transformers: attention between weights, on any spec.

Zhou, Yang, Jiang, Burns, Xu, Sokota, Kolter, Finn, *Neural Functional Transformers*, 2023, section 3.1. A
weight attends to the weights that share its row's neuron or its column's neuron, biases included, and
to the means of all blocks (see :mod:`..parts.unit_attention`); blocks are told apart by the bias of their
embedding, inputs and outputs by position codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.product import times
from ..parts.norm import BlockNorm
from ..parts.unit_attention import block_attention, unit_attention
from ..universal.initial import normals
from .end_trunk import Encoding, EndTrunk
from .ends import Ends, recut
from .registry import register_method


class WeightAttention(eqx.Module):
    """Multi-head attention of weights to those they share units with, and to the means of all blocks.

    Attributes:
        project: to queries, keys and values, ``(C, 3 * C)``, the same for all blocks.
        out: ``(C, C)``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.blocks.indices import structure
        >>> spec = symmetry.parse({"w": jnp.zeros((3, 5))}, {"w": "a b"})
        >>> layer = WeightAttention(8, heads=2, key=jax.random.key(0))
        >>> eqx.filter_jit(layer)(Features.of(structure(spec), {"w": jnp.ones((3, 5, 8))}))["w"].shape
        (3, 5, 8)
    """

    project: jax.Array
    out: jax.Array
    heads: int = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        key: jax.Array,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        if heads < 1 or channels % heads:
            raise ValueError(f"`heads` must divide the {channels} channels; got {heads}")
        shapes = (channels, 3 * channels), (channels, channels)
        self.project, self.out = (w / channels**0.5 for w in normals(key, shapes, dtype))
        self.heads = heads

    def __call__(self, x: Features) -> Features:
        """Features of the same shapes and dtype."""
        qkv = jax.tree.map(lambda a: times(a, self.project), x)
        arrays = []
        for near, far in zip(
            unit_attention(qkv, self.heads), block_attention(qkv, self.heads), strict=True
        ):
            far = far.reshape(far.shape[0], *(1,) * (near.ndim - 2), far.shape[-1])
            arrays.append(times(near + far, self.out))
        return Features(tuple(arrays), x.structure, x.groups)


class TransformerLayer(eqx.Module):
    """Attention, then a network for every weight by itself; both on normalised features, both added."""

    attention: WeightAttention
    up: jax.Array
    down: jax.Array
    norms: tuple[BlockNorm, BlockNorm]
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        heads: int,
        key: jax.Array,
        expansion: int = 4,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        if expansion < 1:
            raise ValueError(f"`expansion` must be at least 1; got {expansion}")
        key_attention, key_mlp = jax.random.split(key)
        self.attention = WeightAttention(channels, heads=heads, key=key_attention, dtype=dtype)
        wide = expansion * channels
        up, down = normals(key_mlp, ((channels, wide), (wide, channels)), dtype)
        self.up, self.down = up / channels**0.5, down / wide**0.5
        self.norms = BlockNorm(spec, channels, dtype=dtype), BlockNorm(spec, channels, dtype=dtype)
        self.activation = activation

    def __call__(self, x: Features) -> Features:
        x = jax.tree.map(jnp.add, x, self.attention(self.norms[0](x)))

        def mlp(a: jax.Array) -> jax.Array:
            return times(self.activation(times(a, self.up)), self.down)

        return jax.tree.map(lambda a, b: a + mlp(b), x, self.norms[1](x))


class TransformerTrunk(EndTrunk):
    """Layers of attention, and a last normalisation of what they have added up."""

    last: BlockNorm

    def __init__(self, spec: Spec, channels: int, layers: int, *args: Any, **options: Any):
        super().__init__(spec, channels, layers, *args, **options)
        own = recut(spec, self.ends)
        self.last = BlockNorm(own, channels, dtype=options.get("dtype", jnp.float32))

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Features:
        return self.last(super().__call__(blocks, spec))


@register_method("nft")
def nft_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    heads: int | None = None,
    expansion: int = 4,
    ends: Ends = "free",
    io_encoding: Encoding | None = "learned",
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> TransformerTrunk:
    """The trunk of a neural functional transformer.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        heads: of attention; by default 8, or as many as divide the channels.
        expansion: how many times as wide as its features the network for every weight is.
        ends: ``"free"`` as published, or ``"folded"``, which has fewer tokens; see :mod:`.ends`.
        io_encoding: what tells inputs, and outputs, apart where ends are free; see :func:`.nfn_trunk`.
        activation: a function of single numbers.
    """
    count = next(h for h in (8, 4, 2, 1) if channels % h == 0) if heads is None else heads

    def draw(own: Spec, key: jax.Array) -> TransformerLayer:
        return TransformerLayer(
            own,
            channels,
            heads=count,
            key=key,
            expansion=expansion,
            activation=activation,
            dtype=dtype,
        )

    return TransformerTrunk(
        spec,
        channels,
        layers,
        draw,
        ends=ends,
        io_encoding=io_encoding if ends == "free" else None,
        key=key,
        dtype=dtype,
        **options,
    )
