"""Networks that read networks: equivariant layers between an embedding and a head.

The layers are universal (every equivariant linear map), so their stack with pointwise activations is
as expressive as the equivariant linear maps allow; see Zhou et al., *Permutation Equivariant Neural
Functionals*, 2023, and *Universal Neural Functionals*, 2024, for the construction on plain permutation
groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..symmetry.spec import Spec
from .embed import Embed, Readout
from .features import Features
from .linear import UniversalLinear
from .norm import BlockNorm
from .pool import InvariantPool


class EquivariantLayer(eqx.Module):
    """Universal linear layer, normalisation, activation."""

    linear: UniversalLinear
    norm: BlockNorm | None
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __call__(self, x: Features) -> Features:
        x = self.linear(x)
        x = x if self.norm is None else self.norm(x)
        return jax.tree.map(self.activation, x)


class Trunk(eqx.Module):
    """Weights to features: an embedding and a stack of equal equivariant layers.

    Equivariant under the whole group of the spec.

    Attributes:
        embed: the embedding.
        layers: all layers in one, every array with a leading axis of layers; run by ``lax.scan``, so
            that programs do not grow with their number.
    """

    embed: Embed
    layers: EquivariantLayer
    unroll: int = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        norm: bool = True,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        c_in: int | None = None,
        scales: Mapping[str, float] | None = None,
        unroll: int = 1,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        if layers < 1:
            raise ValueError(f"`layers` must be positive; got {layers}")
        key_embed, key_layers = jax.random.split(key)
        self.embed = Embed(spec, channels, key=key_embed, c_in=c_in, scales=scales, dtype=dtype)
        self.unroll = unroll

        def draw(key: jax.Array) -> EquivariantLayer:
            linear = UniversalLinear(spec, channels, channels, key=key, dtype=dtype)
            return EquivariantLayer(
                linear, BlockNorm(spec, channels, dtype=dtype) if norm else None, activation
            )

        self.layers = eqx.filter_vmap(draw)(jax.random.split(key_layers, layers))

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Features:
        """``spec.blocks(params)`` to features."""
        arrays, rest = eqx.partition(self.layers, eqx.is_array)

        def step(x: Features, layer: EquivariantLayer) -> tuple[Features, None]:
            return eqx.combine(layer, rest)(x), None

        return jax.lax.scan(step, self.embed(blocks, spec), arrays, unroll=self.unroll)[0]


class Metanetwork(eqx.Module):
    """A number, or a vector, for a network, from its weights alone.

    Invariant: networks that differ by an exchange of units get the same answer.
    Takes the weights of one network; ``jax.vmap`` it over a population.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5), "v": jnp.ones((5, 2))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h", "v": "h _"})
        >>> net = Metanetwork(spec, channels=8, layers=2, out=1, key=jax.random.key(0))
        >>> net(params).shape
        (1,)
        >>> moved = spec.act(spec.sample(jax.random.key(1)), params)
        >>> bool(jnp.allclose(net(moved), net(params), atol=1e-5))
        True
    """

    trunk: Trunk
    pool: InvariantPool
    head: eqx.nn.MLP
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        out: int,
        *,
        key: jax.Array,
        hidden: int | None = None,
        norm: bool = True,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        statistics: tuple[str, ...] = ("mean",),
        scales: Mapping[str, float] | None = None,
        unroll: int = 1,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a metanetwork.

        Args:
            spec: annotation of the networks it reads.
            channels: of the features.
            layers: how many equivariant layers.
            out: how many numbers come out.
            key: of the initial weights.
            hidden: width of the head's hidden layer, by default ``4 * channels``.
            norm: normalise after every linear layer; see :class:`.BlockNorm`.
            activation: a function of single numbers.
            statistics: see :class:`.InvariantPool`.
            scales: typical size of the weights of each block; see :func:`.block_scales`.
            unroll: how many layers one step of the scan runs (compiles longer, may run faster).
            dtype: of the weights; everything is computed in the dtype of the networks that come in.
        """
        key_trunk, key_head = jax.random.split(key)
        self.spec = spec
        self.trunk = Trunk(
            spec,
            channels,
            layers,
            key=key_trunk,
            norm=norm,
            activation=activation,
            scales=scales,
            unroll=unroll,
            dtype=dtype,
        )
        self.pool = InvariantPool(spec, statistics=statistics)
        self.head = eqx.nn.MLP(
            self.pool.size(channels),
            out,
            4 * channels if hidden is None else hidden,
            depth=1,
            activation=activation,
            dtype=dtype,
            key=key_head,
        )

    def __call__(self, params: Any, spec: Spec | None = None) -> jax.Array:
        """The weights of one network to ``(out,)``.

        Args:
            params: the tree of weights.
            spec: its annotation, where it is another one of the same structure (other widths).
        """
        blocks = (self.spec if spec is None else spec).blocks(params)
        pooled = self.pool(self.trunk(blocks, spec))
        return _cast(self.head, pooled.dtype)(pooled)


class Editor(eqx.Module):
    """A network for a network: weights to a tree of the same shapes.

    Equivariant: exchanging units of the input exchanges the same units of the output. Add the result
    to the weights to edit them, or take it as an update.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> edit = Editor(spec, channels=8, layers=2, key=jax.random.key(0))
        >>> jax.tree.map(jnp.shape, edit(params))
        {'b': (5,), 'w': (3, 5)}
    """

    trunk: Trunk
    readout: Readout
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw an editor; ``options`` are those of :class:`Trunk`."""
        key_trunk, key_readout = jax.random.split(key)
        self.spec = spec
        self.trunk = Trunk(
            spec, channels, layers, key=key_trunk, scales=scales, dtype=dtype, **options
        )
        self.readout = Readout(spec, channels, key=key_readout, scales=scales, dtype=dtype)

    def __call__(self, params: Any, spec: Spec | None = None) -> Any:
        """The weights of one network to a tree of the same structure and shapes."""
        own = self.spec if spec is None else spec
        blocks = self.readout(self.trunk(own.blocks(params), spec), spec)
        return own.unblocks(blocks, like=params)


def _cast(module: Any, dtype: jnp.dtype) -> Any:
    """The module with its floating arrays in another dtype."""
    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, module)
