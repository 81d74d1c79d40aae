"""What an index says of the networks in it, and whether others may join them."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from wsljax.zoo.population import ROLES, Population
from wsljax.zoo.store.index import Column, Index
from wsljax.zoo.store.structure import describe, same_structure
from wsljax.zoo.store.tensor_file import CODES, dtype_name


class Given(NamedTuple):
    """What a writer was told of all its populations."""

    function: Any = None
    spec: Any = None
    labels: dict[str, tuple[str, ...]] = {}
    roles: dict[str, str] = {}


def add_given(index: Index, given: Given) -> Index:
    """The index with what a writer was told.

    Raises:
        ValueError: it contradicts the index, or a role is unknown.
    """
    unknown = {name: role for name, role in given.roles.items() if role not in ROLES}
    if unknown:
        raise ValueError(f"roles of columns are {', '.join(ROLES)}; not {unknown}.")
    index = _with_function(index, given.function)
    index = _with_spec(index, given.spec)
    if index.structure is None:
        return index
    columns = dict(index.columns)
    for name in {**given.labels, **given.roles}:
        if name not in columns:
            raise ValueError(f"labels or roles of {name!r}; the columns are {sorted(columns)}.")
        labels, role = _meaning(given, name)
        columns[name] = _same_meaning(name, columns[name], labels, role)
    return replace(index, columns=tuple(columns.items()))


def describe_population(index: Index, population: Population, given: Given) -> Index:
    """The index that tells of a population; that of a zoo which has networks changes little.

    Raises:
        ValueError: it does not fit the networks that are there, or cannot be stored.
    """
    structure = describe(population.params)
    columns = _columns(population)
    labels, roles = dict(population.labels), dict(population.roles)
    if index.structure is None:
        for name in {**given.labels, **given.roles}:
            if name not in columns:
                raise ValueError(f"labels or roles of {name!r}; the columns are {sorted(columns)}.")
        if not structure.arrays and not columns:
            raise ValueError("the population has neither arrays nor columns: nothing to write.")
        index = replace(index, structure=structure)
    else:
        same_structure(index.structure, structure)
        _same_columns(dict(index.columns), columns)
        columns = dict(index.columns)
    for name, column in columns.items():
        first, role = _meaning(given, name)
        column = _same_meaning(name, column, first, role)
        columns[name] = _same_meaning(name, column, labels.get(name), roles.get(name))
    index = _with_function(index, population.function)
    index = _with_spec(index, population.spec)
    return replace(index, columns=tuple(columns.items()))


def check_evaluation(index: Index) -> None:
    """Refuse an evaluation that cannot be repeated when the zoo is opened.

    Raises:
        ValueError: there is no function to run, or no column to compare with.
    """
    if index.evaluation is None:
        return
    if index.function is None:
        raise ValueError(
            "the evaluation cannot be repeated: neither the population nor the writer has a "
            "`function` (`zoo.Function`, `zoo.export_function`)."
        )
    own = index.evaluation["own_targets"]
    wanted = {*index.evaluation["columns"], *([own] if own is not None else [])}
    missing = sorted(wanted - {name for name, _ in index.columns})
    if missing:
        raise ValueError(f"the evaluation is of columns {missing}, which the population lacks.")


def _meaning(given: Given, name: str) -> tuple[Any, str | None]:
    return given.labels.get(name), given.roles.get(name)


def _columns(population: Population) -> dict[str, Column]:
    found = {}
    for name, column in population.columns.items():
        dtype = dtype_name(column.dtype)
        if dtype is None:
            raise ValueError(
                f"column {name!r} has dtype {column.dtype}, which cannot be stored; words are kept as "
                f"integer codes with `labels`, other data as one of {', '.join(CODES)}."
            )
        found[name] = Column(dtype, tuple(np.shape(column)[1:]))
    return found


def _same_columns(stored: dict[str, Column], found: dict[str, Column]) -> None:
    missing, extra = sorted(set(stored) - set(found)), sorted(set(found) - set(stored))
    if missing or extra:
        what = f"lack the columns {missing}" if missing else f"have other columns {extra}"
        raise ValueError(f"these networks {what}; the zoo has {sorted(stored)}. All need the same.")
    for name, column in found.items():
        a, b = (stored[name].dtype, stored[name].shape), (column.dtype, column.shape)
        if a != b:
            raise ValueError(
                f"column {name!r} is {b[0]} {b[1]} here, and {a[0]} {a[1]} in the zoo; convert it."
            )


def _same_meaning(name: str, column: Column, labels: Any, role: str | None) -> Column:
    """The column with labels and role added, or refused where it has others."""
    labels = None if labels is None else tuple(map(str, labels))
    for what, old, new in (("labels", column.labels, labels), ("role", column.role, role)):
        if old is not None and new is not None and old != new:
            raise ValueError(f"column {name!r} has {what} {new!r} here, and {old!r} in the zoo.")
    return Column(column.dtype, column.shape, column.role or role, column.labels or labels)


def _with_function(index: Index, function: Any) -> Index:
    if function is None:
        return index
    data = _function_json(function)
    if index.function is None:
        return replace(index, function=data)
    if index.function != data:
        raise ValueError(
            f"these networks compute another function than those in the zoo: {function!r}, there "
            f"{_short(index.function)}. Keep one folder for each function."
        )
    return index


def _with_spec(index: Index, spec: Any) -> Index:
    if spec is None:
        return index
    text = _spec_json(spec)
    if index.spec is None:
        return replace(index, spec=text)
    if index.spec != text and not _equal_specs(index.spec, spec):
        raise ValueError(
            "these networks have another spec than those in the zoo; give the same to all, or none."
        )
    return index


@functools.lru_cache(maxsize=8)
def _function_json(function: Any) -> Any:
    return json.loads(json.dumps(function.to_json(), allow_nan=False))


@functools.lru_cache(maxsize=8)
def _spec_json(spec: Any) -> str:
    return spec.to_json()


def _equal_specs(stored: str, spec: Any) -> bool:
    """By what counts as equality of specs: not why an axis is pinned."""
    from wsljax.symmetry import Spec

    return Spec.from_json(stored) == spec


def _short(data: Any) -> str:
    text = str(data)
    return text if len(text) < 300 else text[:300] + "..."


def row_bytes(index: Index) -> int:
    """Bytes of one network with its columns."""
    assert index.structure is not None
    leaves = [*index.structure.arrays, *(column for _, column in index.columns)]
    return sum(
        int(np.prod(leaf.shape, dtype=object)) * jnp.dtype(leaf.dtype).itemsize for leaf in leaves
    )
