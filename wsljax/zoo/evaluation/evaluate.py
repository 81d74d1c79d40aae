"""Measuring every network of a population."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
from jax.sharding import Mesh

from wsljax.zoo.chunks import is_stacked, map_chunks
from wsljax.zoo.population import Population


def evaluate(
    population: Population,
    metrics: Callable[..., Mapping[str, Any]],
    *inputs: Any,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Population:
    """Add a column for each metric.

    Args:
        population: the networks.
        metrics: `metrics(params, row, *inputs)`, a dict of arrays, of one network; `row` is its
            row of columns.
        *inputs: shared by all networks.
        chunk: networks at once (default: all).
        mesh: split the networks over its axis `"zoo"`.

    Returns:
        The population with the new columns.

    Example:
        >>> import jax.numpy as jnp
        >>> zoo = Population({"w": jnp.arange(3.0)}, {"bias": jnp.ones(3)})
        >>> metrics = lambda params, row, x: {"output": params["w"] * x + row["bias"]}
        >>> evaluate(zoo, metrics, 2.0).columns["output"].tolist()
        [1.0, 3.0, 5.0]
    """
    arrays, static = eqx.partition(population.params, is_stacked)

    def run(models, *inputs):
        def one(params, row):
            return dict(metrics(eqx.combine(params, static), row, *inputs))

        return jax.vmap(one)(*models)

    columns = map_chunks(run, (arrays, population.columns), *inputs, chunk=chunk, mesh=mesh)
    return population.with_columns(columns)
