"""Drawn networks as a population."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..zoo.population import Population
from .fitting import find_condition
from .generator import Generator


def sample_population(
    generator: Generator,
    key: jax.Array,
    n: int,
    *,
    like: Population,
    condition: Any = None,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> Population:
    """Draw networks into a population with the spec and the function of another.

    Its columns are `generated`, true for all; those that the function reads, if all networks of `like` have
    the same there; the condition, where it is named; and what is given.

    Args:
        generator: of any family.
        key: a typed key.
        n: how many.
        like: the population that the generator was fitted to.
        condition: a tree of arrays `(n, ...)`.
        columns: further columns `(n, ...)`.
        **options: of `generator.sample`.

    Returns:
        The new population.

    Raises:
        ValueError: the function reads a column that differs between the networks of `like`; pass it.

    Example:
        >>> from wsljax.generation.baselines import LeafGaussian
        >>> zoo = Population({"w": jnp.arange(6.0).reshape(3, 2)}, {"loss": jnp.zeros(3)})
        >>> new = sample_population(LeafGaussian(zoo), jax.random.key(0), 4, like=zoo)
        >>> len(new), new.columns["generated"].all().item()
        (4, True)
    """
    params = generator.sample(key, n, condition=find_condition(None, condition), **options)
    found: dict[str, Any] = {"generated": jnp.ones(n, bool)}
    if isinstance(condition, Mapping):
        found |= {name: value for name, value in condition.items() if hasattr(value, "shape")}
    found |= dict(columns or {})
    for name in getattr(like.function, "reads", ()):
        if name not in found and name in like.columns:
            values = np.asarray(like.columns[name])
            if (values != values[:1]).any():
                raise ValueError(
                    f"the function reads column {name!r}, in which the networks of `like` differ; pass "
                    f"`columns={{{name!r}: ...}}` with a row for each of the {n} networks."
                )
            found[name] = jnp.asarray(np.repeat(values[:1], n, axis=0))
    labels = {name: words for name, words in like.labels if name in found}
    roles = {name: role for name, role in like.roles if name in found}
    return Population(params, found, like.spec, labels, like.function, roles)
