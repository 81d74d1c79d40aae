"""One encoder for radiance fields of any architecture: MLPs, tri-planes, hash grids.

A graph metanetwork reads the weights, so what parametrises the scene may be anything that
:func:`~wsljax.symmetry.infer` takes apart: planes of features (their channels are units, shared with the
first layer of the MLP behind them; their pixels are fixed) and hash tables (one set of feature channels a
level) come out of the function as any layer does, and are laid out in chunks. What embeddings mean is
learned without labels by telling which two networks show the same scene in different architectures. After
Ballerini et al., *Weight Space Representation Learning on Diverse NeRF Architectures*, 2025, whose decoder
(a radiance field conditioned on the embedding) is left to the caller; the loss is that of Zhai et al.,
*Sigmoid Loss for Language Image Pre-Training*, 2023.

To change the weights of networks of several architectures by one shared graph network, as Pala and Rekik,
*GNN-based Unified Deep Learning*, 2025, do, take an :class:`~..metanetwork.Editor` of this method and
:func:`.edit_batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..graph_batch.heads import GraphPool
from ..graph_batch.parameter_graph import ParameterGraph
from ..graph_batch.plan import Sizes
from .graph_metanetwork import GraphMetanetwork
from .registry import register_method

TABLE_SIZES = Sizes(chunk=32, positions=64, ends=512)
"""Tables are cut in chunks of 32 entries, unless they are smaller than two of them."""


@register_method("nerf_encoder")
def nerf_encoder(
    spec: Spec, channels: int, layers: int, *, sizes: Sizes = TABLE_SIZES, **options: Any
) -> GraphMetanetwork:
    """The trunk of a graph metanetwork for networks with large tables; see :class:`.GraphMetanetwork`."""
    return GraphMetanetwork(spec, channels, layers, sizes=sizes, **options)


class NerfEncoder(eqx.Module):
    """Networks of any architectures to embeddings of one space, of length one.

    Attributes:
        trunk, pool, head: weights to features, to a vector, to an embedding.
        scale, shift: of the products of embeddings in :meth:`loss`; ``exp(scale)`` is their factor.

    Example:
        >>> from wsljax import symmetry
        >>> plain, tall = {"w": jnp.ones((3, 8))}, {"w": jnp.ones((3, 5)), "v": jnp.ones((5, 4))}
        >>> a = symmetry.parse(plain, {"w": "_ h"})
        >>> b = symmetry.parse(tall, {"w": "_ h", "v": "h g"})
        >>> encoder = NerfEncoder(a, 8, 2, 16, key=jax.random.key(0))
        >>> jax.jit(lambda p, q: (encoder(p), encoder(q, b)))(plain, tall)[1].shape
        (16,)
    """

    trunk: GraphMetanetwork
    pool: GraphPool
    head: eqx.nn.MLP
    scale: jax.Array
    shift: jax.Array

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        size: int,
        *,
        key: jax.Array,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw an encoder.

        Args:
            spec: annotation of the networks that are meant where a call names none.
            channels, layers, activation, dtype, options: of the trunk; see :class:`.GraphMetanetwork`.
            size: of the embeddings.
            key: of the initial weights.
        """
        key_trunk, key_head = jax.random.split(key)
        self.trunk = nerf_encoder(
            spec, channels, layers, key=key_trunk, activation=activation, dtype=dtype, **options
        )
        self.pool = GraphPool(statistics=("mean", "square"))
        self.head = eqx.nn.MLP(
            self.pool.size(channels), size, 4 * channels, 1, activation, key=key_head, dtype=dtype
        )
        self.scale, self.shift = jnp.log(jnp.asarray(10.0, dtype)), jnp.asarray(-10.0, dtype)

    def __call__(self, params: Any, spec: Spec | None = None) -> jax.Array:
        """The embedding of one network, ``(size,)``; ``spec`` where it is not the encoder's own."""
        blocks = (self.trunk.spec if spec is None else spec).blocks(params)
        return self._embed(self.pool(self.trunk(blocks, spec)))

    def each(self, graph: ParameterGraph) -> jax.Array:
        """The embeddings of all networks of a batch, ``(networks, size)``.

        Args:
            graph: of :func:`.batch_graphs`, laid out with the trunk's sizes (:data:`TABLE_SIZES`).
        """
        return jax.vmap(self._embed)(self.pool.each(self.trunk.read(graph)))

    def loss(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """How badly embeddings tell which networks show the same scene, a number.

        Args:
            a, b: embeddings of the same scenes in the same order, ``(scenes, size)``, of different
                architectures (or trainings).
        """
        scores = jnp.exp(self.scale).astype(a.dtype) * (a @ b.T) + self.shift.astype(a.dtype)
        signs = 2 * jnp.eye(len(a), dtype=a.dtype) - 1
        return -jnp.sum(jax.nn.log_sigmoid(signs * scores)) / len(a)

    def _embed(self, pooled: jax.Array) -> jax.Array:
        dtype = pooled.dtype
        head = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, self.head)
        x = head(pooled)
        return x / jnp.sqrt(jnp.sum(jnp.square(x)) + 1e-12)
