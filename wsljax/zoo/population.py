"""A population: many networks of one shape, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import is_tracer
from wsljax.zoo.chunks import is_stacked, take_models

#: What a column can be: a hyperparameter, a measured value, the step of a checkpoint, where a network
#: comes from, or anything else.
ROLES = ("hyper", "metric", "step", "lineage", "other")


class Population(eqx.Module):
    """Stacked weights, their spec, the function they compute, and one row of metadata a network.

    A pytree of arrays throughout, so a population goes through `jit`, `tree.map`, checkpoints and
    `device_put` as it is.

    Attributes:
        params: a pytree whose arrays are `(models, ...)`; leaves that are not arrays are shared.
        columns: name -> array `(models, ...)`: hyperparameters, metrics, steps.
        spec: the symmetry of one network, or None.
        labels: for a column of integer codes, what each code is called.
        function: a `zoo.Function`, or None: everything needed to run the networks.
        roles: what a column is, where that is known: one of `ROLES`. "lineage" columns are `run`,
            the training run as an integer, and `parent`, the row of the network that this one was
            trained from, or -1.

    Example:
        >>> columns = {"accuracy": jnp.array([0.1, 0.9, 0.5])}
        >>> zoo = Population({"kernel": jnp.zeros((3, 4, 2))}, columns)
        >>> len(zoo), zoo[1]["kernel"].shape, len(zoo.take(zoo.columns["accuracy"] > 0.4))
        (3, (4, 2), 2)
    """

    params: Any
    columns: dict[str, jax.Array]
    spec: Any = None
    labels: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True, default=())
    function: Any = eqx.field(static=True, default=None)
    roles: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())

    def __init__(
        self,
        params: Any,
        columns: Mapping[str, Any],
        spec: Any = None,
        labels: Mapping[str, Sequence[str]] | Sequence[tuple[str, tuple[str, ...]]] = (),
        function: Any = None,
        roles: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ):
        """See the class; `labels` and `roles` may also be mappings.

        Raises:
            ValueError: an array or a column has another number of models, or an unknown role; names
                it.
        """
        self.params = params
        self.columns = {name: _as_column(column) for name, column in columns.items()}
        self.spec = spec
        self.labels = tuple((name, tuple(names)) for name, names in dict(labels).items())
        self.function = function
        self.roles = tuple((n, r) for n, r in dict(roles).items() if n in self.columns)
        unknown = {name: role for name, role in self.roles if role not in ROLES}
        if unknown:
            raise ValueError(f"roles of columns are {', '.join(ROLES)}; not {unknown}.")
        _check_counts(self)

    def __len__(self) -> int:
        return _count(self)

    def __getitem__(self, index: int) -> Any:
        """The weights of one network."""
        if isinstance(index, (int, np.integer)) and not -len(self) <= index < len(self):
            raise IndexError(f"network {index} of a population of {len(self)}")
        return take_models(self.params, index)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def take(self, index: Any) -> Population:
        """The networks at `index`: integers, a slice, or a mask of length `len(self)`."""
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.dtype == bool and index.shape != (len(self),):
                raise ValueError(f"the mask has shape {index.shape}, not ({len(self)},).")
            if index.size == 0:
                index = index.astype(np.int64)
        columns = {name: column[index] for name, column in self.columns.items()}
        return self._with(params=take_models(self.params, index), columns=columns)

    def with_columns(
        self,
        columns: Mapping[str, Any],
        labels: Mapping[str, Sequence[str]] | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> Population:
        """The same networks with columns added or replaced."""
        return self._with(
            columns={**self.columns, **columns},
            labels={**dict(self.labels), **(labels or {})},
            roles={**dict(self.roles), **(roles or {})},
        )

    def with_params(self, params: Any) -> Population:
        """Other weights, as many, with the same columns."""
        return self._with(params=params)

    def with_spec(self, spec: Any) -> Population:
        """The same networks, annotated with `spec`."""
        return self._with(spec=spec)

    def with_function(self, function: Any) -> Population:
        """The same networks, with what they compute."""
        return self._with(function=function)

    def row(self, index: int) -> dict[str, Any]:
        """The columns of one network."""
        return {name: column[index] for name, column in self.columns.items()}

    def apply(self, x: jax.Array) -> jax.Array:
        """What all networks say of one batch: `(models, n, ...)` from `(n, *input_shape)`.

        Raises:
            ValueError: the population has no function, or one that reads a column that is missing.
        """
        if self.function is None:
            raise ValueError(
                "this population does not say what it computes; give it `function=` "
                "(`zoo.Function`, `zoo.export_function`) or `population.with_function`."
            )
        return self.function.apply_all(self.params, x, self.columns)

    def _with(self, **changed: Any) -> Population:
        fields = ("params", "columns", "spec", "labels", "function", "roles")
        return Population(**{name: changed.get(name, getattr(self, name)) for name in fields})

    def label(self, name: str) -> list[str]:
        """A column of codes as words, e.g. `zoo.label("optimiser")`."""
        words = dict(self.labels).get(name)
        if words is None:
            raise KeyError(f"column {name!r} has no labels; those that do: {dict(self.labels)}.")
        return [words[int(code)] for code in np.asarray(self.columns[name])]

    def __repr__(self) -> str:
        size = sum(
            leaf[0].size for leaf in jax.tree.leaves(self.params) if is_stacked(leaf) and len(leaf)
        )
        lines = [f"Population of {len(self)} networks with {size} parameters each"]
        lines += [f"  {self.function!r}"] * (self.function is not None)
        for name, column in self.columns.items():
            lines.append(f"  {name:<20} {_describe(self, name, column)}")
        return "\n".join(lines)


def concatenate(populations: Sequence[Population]) -> Population:
    """One population out of several of the same architecture; columns that all have are kept.

    Raises:
        ValueError: no populations, parameters of different structure or shape, other functions, or
            other words behind the codes of a column.
    """
    if not populations:
        raise ValueError("`populations` is empty.")
    first = populations[0]
    structure = jax.tree.structure(first.params)
    for number, other in enumerate(populations):
        if jax.tree.structure(other.params) != structure:
            raise ValueError(f"population {number} has another tree of parameters than the first.")
        if other.function != first.function:
            raise ValueError(f"population {number} has another function than the first.")
        for name, codes in other.labels:
            if dict(first.labels).get(name, codes) != codes:
                raise ValueError(f"population {number} has other words for column {name!r}.")
    shared = [name for name in first.columns if all(name in p.columns for p in populations)]
    params = jax.tree.map(
        lambda *leaves: jnp.concatenate(leaves) if is_stacked(leaves[0]) else leaves[0],
        *(population.params for population in populations),
    )
    columns = {name: jnp.concatenate([p.columns[name] for p in populations]) for name in shared}
    labels = {name: codes for p in populations for name, codes in p.labels if name in columns}
    return Population(params, columns, first.spec, labels, first.function, first.roles)


def _as_column(column: Any) -> Any:
    return column if hasattr(column, "shape") else np.asarray(column)


def _named_leaves(population: Population) -> list[tuple[str, Any]]:
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(population.params)[0]:
        if is_stacked(leaf):
            found.append((jax.tree_util.keystr(path, simple=True, separator="/"), leaf))
    return found + [(f"column {name!r}", column) for name, column in population.columns.items()]


def _check_counts(population: Population) -> None:
    leaves = [(name, np.shape(leaf)) for name, leaf in _named_leaves(population)]
    for name, shape in leaves:
        if not shape or shape[0] != leaves[0][1][0]:
            raise ValueError(
                f"a population needs one leading model axis: {name} has shape {shape}, "
                f"but {leaves[0][0]} has shape {leaves[0][1]}."
            )


def _count(population: Population) -> int:
    leaves = _named_leaves(population)
    return leaves[0][1].shape[0] if leaves else 0


def _describe(population: Population, name: str, column: Any) -> str:
    words = dict(population.labels).get(name)
    values = np.asarray(column) if not is_tracer(column) else None
    if values is None or values.ndim != 1 or not values.size:
        return f"{np.shape(column)} {column.dtype}"
    if words is not None:
        return ", ".join(f"{word} {int((values == code).sum())}" for code, word in enumerate(words))
    if values.dtype == bool:
        return f"{int(values.sum())} true"
    return f"{values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}"
