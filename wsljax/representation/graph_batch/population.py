"""Several populations of different architectures as one set of networks, in batches of a few sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, log
from typing import Any

import jax
import numpy as np

from ...train.data import Source
from ...zoo.population import Population
from .batch import Budget, batch_graphs
from .lay import plan_of
from .parameter_graph import ParameterGraph, put
from .plan import DEFAULT_SIZES, Plan, Sizes

GROWTH = 1.5
"""Each size that batches come in is so much larger than the one before it."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["graph", "columns", "mask", "population", "row"],
    meta_fields=[],
)
@dataclass(frozen=True)
class GraphBatch:
    """Networks of any of the architectures, and what is known of them.

    Attributes:
        graph: all of them packed.
        columns: ``{name: (networks, ...)}``, those that all populations have.
        mask: which places hold a network; in the last batch of an epoch some may be empty.
        population, row: where each network comes from.
    """

    graph: ParameterGraph
    columns: dict[str, Any]
    mask: Any
    population: Any
    row: Any


class HeterogeneousPopulation:
    """Populations of different specs side by side, network after network.

    Weights are kept in main memory, once, as rows of edge values; nodes and edges are made once a spec.

    Attributes:
        plans: the graph of each population.
        columns: ``{name: (networks, ...)}``: those that all populations have, with the words behind codes
            in ``labels``.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> populations = []
        >>> for width in (5, 8):
        ...     params = {"w": jnp.ones((3, 2, width)), "b": jnp.zeros((3, width))}
        ...     one = jax.tree.map(lambda x: x[0], params)
        ...     spec = symmetry.parse(one, {"w": "_ h", "b": "h"})
        ...     populations.append(Population(params, {"loss": jnp.arange(3.0)}, spec))
        >>> networks = HeterogeneousPopulation(populations)
        >>> batches = networks.batches(4, key=jax.random.key(0))
        >>> [(b.graph.topology.graphs, int(b.mask.sum())) for b in batches]
        [(4, 4), (4, 2)]
    """

    plans: tuple[Plan, ...]
    columns: dict[str, np.ndarray]
    labels: dict[str, tuple[str, ...]]

    def __init__(self, populations: Sequence[Population], *, sizes: Sizes = DEFAULT_SIZES):
        """See the class.

        Args:
            populations: with a spec each.
            sizes: as the metanetwork was drawn with; see :class:`.Sizes`.

        Raises:
            ValueError: no populations, one without a spec, or different words behind a column's codes.
        """
        if not populations:
            raise ValueError("`populations` is empty")
        for number, population in enumerate(populations):
            if population.spec is None:
                raise ValueError(
                    f"population {number} has no spec; give it one: "
                    "`population.with_spec(symmetry.infer(fn, population[0], *inputs))`"
                )
        self.sizes = sizes
        self.plans = tuple(plan_of(p.spec, sizes) for p in populations)
        self._values = [_values(plan, p) for plan, p in zip(self.plans, populations, strict=True)]
        self.columns, self.labels = _columns(populations)
        counts = [len(p) for p in populations]
        self._population = np.repeat(np.arange(len(counts)), counts)
        self._row = np.concatenate([np.arange(n) for n in counts])
        self._need = np.array([[p.nodes, p.scalars, p.edges - p.scalars] for p in self.plans])
        self._mean = (
            np.average(self._need, axis=0, weights=counts) if sum(counts) else 0 * self._need[0]
        )

    def __len__(self) -> int:
        return len(self._row)

    def pack(
        self, rows: Sequence[int] | np.ndarray, *, batch: int | None = None, largest: bool = False
    ) -> GraphBatch:
        """The networks at ``rows`` as one batch, numbered through all populations.

        The arrays have one of a few sizes: steps of :data:`GROWTH` around what ``batch`` networks need on
        average.

        Args:
            rows: at most ``batch`` of them.
            batch: for how many networks there is room, by default as many as there are rows.
            largest: make the arrays so large that any ``batch`` networks would go in: one size for all.
        """
        rows = np.asarray(rows)
        batch = len(rows) if batch is None else batch
        if not 0 < len(rows) <= batch:
            raise ValueError(f"{len(rows)} networks for a batch of {batch}")
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} networks")
        graphs = []
        for p, row in zip(self._population[rows], self._row[rows], strict=True):
            values, chunks = (x[row] for x in self._values[p])
            graphs.append(ParameterGraph(values, chunks, self.plans[p].topology))
        empty = batch - len(rows)
        source = np.concatenate([rows, np.repeat(rows[:1], empty)])
        return GraphBatch(
            batch_graphs(graphs, self._budget(rows, batch, largest)),
            {name: column[source] for name, column in self.columns.items()},
            np.arange(batch) < len(rows),
            self._population[source],
            self._row[source],
        )

    def batches(
        self, batch: int, *, key: jax.Array | None = None, drop_last: bool = False
    ) -> Iterator[GraphBatch]:
        """All networks once.

        Args:
            batch: networks a batch.
            key: of the order, in which all architectures are mixed; without one they come in turn.
            drop_last: leave out what does not fill a batch, rather than leave places empty.
        """
        if not 1 <= batch:
            raise ValueError(f"`batch` must be positive; got {batch}")
        order = np.arange(len(self))
        if key is not None:
            order = np.asarray(jax.random.permutation(key, len(self)))
        stop = len(order) // batch * batch if drop_last else len(order)
        for start in range(0, stop, batch):
            yield self.pack(order[start : min(start + batch, stop)], batch=batch)

    def source(self, batch: int) -> Source:
        """For :func:`wsljax.train.fit` with ``batch_size=batch``: batches of one size, read by index."""
        return Source(len(self), lambda rows: self.pack(rows, batch=batch, largest=True))

    def _budget(self, rows: np.ndarray, batch: int, largest: bool) -> Budget:
        edge_types = sum(len(p.topology.edge_rows) for p in _different(self.plans)) + 1
        node_types = sum(len(p.topology.node_rows) for p in _different(self.plans)) + 1
        if largest:
            each = np.sort(self._need[self._population], axis=0)[::-1]
            room = each[:batch].sum(0) + each[-1] * max(0, batch - len(each))
        else:
            need = self._need[self._population[rows]].sum(0)
            usual = np.maximum(self._mean * batch, 1)
            level = ceil(log(max((need / usual).max(), 1e-9)) / log(GROWTH) - 1e-9)
            room = np.ceil(usual * GROWTH**level) * (self._mean > 0)
        nodes, edges, chunks = (int(n) for n in room)
        return Budget(nodes + 1, edges, chunks, edge_types, node_types, batch)


def _values(plan: Plan, population: Population) -> tuple[np.ndarray, np.ndarray]:
    """Values of the edges of all networks of a population, in numpy."""

    def one(params: Any) -> tuple[jax.Array, jax.Array]:
        graph = put(plan, plan.spec.blocks(params))
        return graph.values, graph.chunks

    values, chunks = jax.jit(jax.vmap(one))(population.params)
    return np.asarray(values), np.asarray(chunks)


def _columns(
    populations: Sequence[Population],
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    names = [n for n in populations[0].columns if all(n in p.columns for p in populations)]
    labels: dict[str, tuple[str, ...]] = {}
    for number, population in enumerate(populations):
        words: Mapping[str, tuple[str, ...]] = dict(population.labels)
        for name in names:
            if number and words.get(name) != labels.get(name):
                raise ValueError(f"population {number} has other words for column {name!r}")
            if name in words:
                labels[name] = words[name]
    columns = {n: np.concatenate([np.asarray(p.columns[n]) for p in populations]) for n in names}
    return columns, labels


def _different(plans: Sequence[Plan]) -> list[Plan]:
    return list({id(p.topology): p for p in plans}.values())
