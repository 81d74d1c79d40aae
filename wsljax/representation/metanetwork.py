"""Networks that read networks: the trunk of a method, and a head.

``method=`` is the name of a file of :mod:`.methods`: each turns weights into features in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..symmetry.spec import Spec
from .blocks.dtypes import cast
from .methods.registry import build_trunk
from .methods.trunk import Trunk


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
    pool: Any
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
        method: str = "universal",
        hidden: int | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        pooling: Mapping[str, Any] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw a metanetwork.

        Args:
            spec: annotation of the networks it reads.
            channels: of the features.
            layers: how many layers the trunk has.
            out: how many numbers come out.
            key: of the initial weights.
            method: what the trunk is, one of :func:`.methods`.
            hidden: width of the head's hidden layer, by default ``4 * channels``.
            activation: a function of single numbers, of the trunk and of the head.
            pooling: options of the trunk's pool; for most methods those of :class:`.InvariantPool`.
            dtype: of the weights; everything is computed in the dtype of the networks that come in.
            options: of the method; all know ``scales``, the typical size of the weights of each block
                (see :func:`.block_scales`).
        """
        key_trunk, key_pool, key_head = jax.random.split(key, 3)
        self.spec = spec
        self.trunk = build_trunk(
            method,
            spec,
            channels,
            layers,
            key=key_trunk,
            activation=activation,
            dtype=dtype,
            **options,
        )
        self.pool = self.trunk.make_pool(spec, channels, key=key_pool, **(pooling or {}))
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
            spec: its annotation, where it is another one: of the same structure (other widths), or,
                for methods that can, of any.
        """
        blocks = (self.spec if spec is None else spec).blocks(params)
        pooled = self.pool(self.trunk(blocks, spec))
        return cast(self.head, pooled.dtype)(pooled)


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
    readout: Any
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        method: str = "universal",
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw an editor.

        Args:
            spec, channels, layers, key, method, dtype: see :class:`Metanetwork`.
            scales: typical size of the weights of each block, for what comes in and for what goes out.
            options: of the method.
        """
        key_trunk, key_readout = jax.random.split(key)
        self.spec = spec
        self.trunk = build_trunk(
            method, spec, channels, layers, key=key_trunk, scales=scales, dtype=dtype, **options
        )
        self.readout = self.trunk.make_readout(
            spec, channels, key=key_readout, scales=scales, dtype=dtype
        )

    def __call__(self, params: Any, spec: Spec | None = None) -> Any:
        """The weights of one network to a tree of the same structure and shapes."""
        own = self.spec if spec is None else spec
        blocks = self.readout(self.trunk(own.blocks(params), spec), spec)
        return own.unblocks(blocks, like=params)
