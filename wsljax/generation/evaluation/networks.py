"""What is compared: stacks of networks as populations, and their weights as rows of a matrix."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...zoo.chunks import is_stacked, take_models
from ...zoo.population import Population

RUN = "run"


def as_population(
    networks: Any, like: Population | None = None, what: str = "samples"
) -> Population:
    """A population of them; a bare stack has the spec and the function of `like`.

    Raises:
        ValueError: no networks, or other arrays than those of `like`; names the first that differs.
    """
    if not isinstance(networks, Population):
        networks = Population(
            networks,
            {},
            spec=None if like is None else like.spec,
            function=None if like is None else like.function,
        )
    if not len(networks):
        raise ValueError(f"`{what}` holds no networks.")
    if like is not None:
        _check_same(networks.params, like.params, what)
    return networks


def _check_same(params: Any, wanted: Any, what: str) -> None:
    found, expected = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.shape(leaf)[1:]
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
            if is_stacked(leaf)
        }
        for tree in (params, wanted)
    )
    for name in [*expected, *found]:
        if found.get(name) != expected.get(name):
            raise ValueError(
                f"`{what}`: {name!r} has shape {found.get(name)} in a network, but "
                f"{expected.get(name)} in those that were trained; compare networks of one architecture."
            )


def weight_rows(params: Any) -> np.ndarray:
    """The floating weights of each network in one row, `(models, size)` in float64.

    Example:
        >>> weight_rows({"b": jnp.ones((2, 1)), "steps": jnp.arange(2), "w": jnp.zeros((2, 1, 2))})
        array([[1., 0., 0.],
               [1., 0., 0.]])
    """
    rows = [
        np.asarray(leaf, np.float64).reshape(len(leaf), -1)
        for leaf in jax.tree.leaves(params)
        if is_stacked(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    if not rows:
        raise ValueError("the networks have no floating weights to compare.")
    return np.concatenate(rows, axis=1)


def runs_of(population: Population) -> np.ndarray:
    """The training run of each network, by the column `run`; without it each is a run of its own."""
    if RUN in population.columns:
        return np.asarray(population.columns[RUN])
    return np.arange(len(population))


def finite_rows(params: Any) -> np.ndarray:
    """Which networks have no NaN and no infinite weight, `(models,)`."""
    return np.asarray(np.isfinite(weight_rows(params)).all(axis=1))


def host(params: Any) -> Any:
    """The same networks as numpy arrays, so that rows can be taken without a program for each."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if is_stacked(leaf) else leaf, params)


def taken(params: Any, index: Any) -> Any:
    """The networks at `index`."""
    chosen: Any = index if isinstance(index, slice | int) else np.asarray(index)
    return take_models(params, chosen)
