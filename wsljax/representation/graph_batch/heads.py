"""Behind message passing: one vector a network, or new values for its weights."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..universal.initial import normals
from .lay import plan_of
from .message_passing import GraphFeatures, mean_of_edges, mean_of_nodes
from .parameter_graph import take
from .plan import Sizes
from .topology import SPREAD

STATISTICS = {"mean": lambda x: x, "square": jnp.square}
"""What the average is taken of."""


class GraphPool(eqx.Module):
    """The state of a graph, the mean of its nodes and the mean of its edges, side by side.

    Every set of units counts as one, and so does every block.

    Attributes:
        statistics: ``"mean"`` averages the features, ``"square"`` their squares; any of both.
    """

    statistics: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, *, statistics: tuple[str, ...] = ("mean",)):
        unknown = [s for s in statistics if s not in STATISTICS]
        if unknown or not statistics:
            raise ValueError(f"`statistics` must be among {tuple(STATISTICS)}; got {statistics}")
        self.statistics = tuple(statistics)

    def size(self, channels: int) -> int:
        """How many numbers come out for one network."""
        return (1 + 2 * len(self.statistics)) * channels

    def __call__(self, x: GraphFeatures) -> jax.Array:
        """The vector of the first network, ``(size,)``."""
        return self.each(x)[0]

    def each(self, x: GraphFeatures) -> jax.Array:
        """The vectors of all networks, ``(networks, size)``."""
        found = [x.graphs]
        for statistic in self.statistics:
            of = STATISTICS[statistic]
            found += [
                mean_of_nodes(of(x.nodes), x.topology),
                mean_of_edges(of(x.edges), x.topology),
            ]
        return jnp.concatenate(found, -1)


class GraphReadout(eqx.Module):
    """A number for every weight, from the features of its edge; times the typical size of the weight.

    Attributes:
        value: ``(channels,)``, for edges of single weights.
        chunk: ``(channels, chunk)``, for edges of chunks.
    """

    value: jax.Array
    chunk: jax.Array
    spec: Spec = eqx.field(static=True)
    sizes: Sizes = eqx.field(static=True)
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        sizes: Sizes,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        drawn = normals(key, ((channels,), (channels, sizes.chunk)), dtype)
        self.value, self.chunk = (w / channels**0.5 for w in drawn)
        self.spec, self.sizes = spec, sizes
        self.scales = tuple(sorted((scales or {}).items()))

    def __call__(self, x: GraphFeatures, spec: Spec | None = None) -> dict[str, jax.Array]:
        """``{block: array of the block's shape}`` of one network, of any spec."""
        own = spec is None or spec == self.spec
        plan = plan_of(
            self.spec if spec is None else spec, self.sizes, dict(self.scales) if own else None
        )
        return take(plan, *self.values(x))

    def values(self, x: GraphFeatures) -> tuple[jax.Array, jax.Array]:
        """New values of all edges, ``(E,)``, and of all chunks, ``(E_chunks, chunk)``."""
        dtype, t = x.edges.dtype, x.topology
        size = jnp.asarray(t.edge_shares)[:, SPREAD][t.edge_type].astype(dtype)
        values = x.edges[: x.scalars] @ self.value.astype(dtype)
        chunks = x.edges[x.scalars :] @ self.chunk.astype(dtype)
        return values * size[: x.scalars], chunks * size[x.scalars :, None]
