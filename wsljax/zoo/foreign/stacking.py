"""From state dicts to a population: the order of axes, equal shapes, and what is finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from wsljax._compat import leaf_paths
from wsljax.zoo.foreign.registry import ForeignZooError
from wsljax.zoo.foreign.tables import columns_of
from wsljax.zoo.population import Population

Params = Mapping[str, Any]


def jax_kernel(weight: np.ndarray) -> np.ndarray:
    """A kernel of torch in the order of jax: `(out, in)` -> `(in, out)`, `(out, in, kh, kw)` -> HWIO.

    Example:
        >>> jax_kernel(np.zeros((8, 3, 5, 7))).shape, jax_kernel(np.zeros((8, 3))).shape
        ((5, 7, 3, 8), (3, 8))
    """
    axes = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}.get(weight.ndim)
    return weight if axes is None else weight.transpose(axes)


def torch_kernel(kernel: np.ndarray) -> np.ndarray:
    """The inverse of `jax_kernel`."""
    axes = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}.get(kernel.ndim)
    return kernel if axes is None else kernel.transpose(axes)


def flatten_last(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The rows of a dense kernel after a flattened image, from channels first to channels last.

    torch flattens `(channels, height, width)`, jax `(height, width, channels)`; kernel `(in, out)`.
    """
    wide, out = kernel.shape
    if wide % channels:
        raise ForeignZooError(f"a dense layer of {wide} inputs after {channels} channels.")
    return kernel.reshape(channels, wide // channels, out).transpose(1, 0, 2).reshape(wide, out)


def layers_of(state: Mapping[str, Any], where: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The layers of a torch state dict in the order of the file: `(prefix, {"weight": …})`.

    Raises:
        ForeignZooError: it is no state dict, or holds something else than arrays.
    """
    if not isinstance(state, Mapping) or not state:
        raise ForeignZooError(f"{where} holds no state dict.")
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise ForeignZooError(f"{where}: {name!r:.80} is a {type(value).__name__}, no array.")
        prefix, _, kind = name.rpartition(".")
        layers.setdefault(prefix, {})[kind] = value
    return list(layers.items())


def dense_params(
    layers: Sequence[tuple[str, Mapping[str, np.ndarray]]], where: str
) -> dict[str, dict[str, np.ndarray]]:
    """Dense layers of torch as `{"dense_0": {"kernel": (in, out), "bias"}, …}`.

    Raises:
        ForeignZooError: a layer of another kind, or widths that do not fit; names it.
    """
    params, last = {}, None
    for i, (prefix, layer) in enumerate(layers):
        weight, bias = layer.get("weight"), layer.get("bias")
        if weight is None or weight.ndim != 2 or set(layer) - {"weight", "bias"}:
            raise ForeignZooError(f"{where}: {prefix!r} is no dense layer.")
        if last not in (None, weight.shape[1]):
            raise ForeignZooError(f"{where}: {prefix!r} has {weight.shape[1]} inputs, not {last}.")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ForeignZooError(f"{where}: {prefix!r} has a bias of shape {bias.shape}.")
        last = weight.shape[0]
        params[f"dense_{i}"] = {"kernel": jax_kernel(weight)}
        if bias is not None:
            params[f"dense_{i}"]["bias"] = bias
    return params


def widths_of(params: Params) -> tuple[int, ...]:
    """The widths of dense layers, one network's or a stack's."""
    shapes = [layer["kernel"].shape[-2:] for layer in params.values()]
    return (shapes[0][0], *(out for _, out in shapes))


def stack(networks: Sequence[Any], names: Sequence[str]) -> Any:
    """Networks of one architecture as a stack; each array is copied once.

    Raises:
        ForeignZooError: there are none, or one differs in structure, shape or dtype; names it.
    """
    if not networks:
        raise ForeignZooError("there are no networks to read.")
    first = networks[0]
    leaves, structure = jax.tree.flatten(first)
    out = [np.empty((len(networks), *leaf.shape), leaf.dtype) for leaf in leaves]
    for row, network in enumerate(networks):
        parts, other = jax.tree.flatten(network)
        if other != structure:
            raise ForeignZooError(f"{names[row]} has other layers than {names[0]}.")
        for path, place, part in zip(leaf_paths(first), out, parts):
            if part.shape != place.shape[1:] or part.dtype != place.dtype:
                raise ForeignZooError(
                    f"{names[row]}: {path} is {part.dtype}{part.shape}, but in {names[0]} "
                    f"{place.dtype}{place.shape[1:]}."
                )
            place[row] = part
    return jax.tree.unflatten(structure, out)


def population_of(
    params: Any,
    table: Mapping[str, Any],
    *,
    function: Any = None,
    roles: Mapping[str, str] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Population:
    """A population of stacked weights and lists of values, with its column `finite`.

    Args:
        params: stacked.
        table: name -> values, one a network.
        function: what the networks compute.
        roles: of columns; those not named are "other".
        labels: of columns that are codes already.
    """
    columns, words = columns_of(table)
    columns["finite"] = finite_models(params)
    roles = {name: (roles or {}).get(name, "other") for name in columns}
    return Population(params, columns, None, {**words, **(labels or {})}, function, roles)


def finite_models(params: Any) -> np.ndarray:
    """Which networks of a stack have finite weights throughout, `(models,)`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    finite = np.ones(len(leaves[0]), bool)
    for leaf in leaves:
        if leaf.dtype.kind in "iub":
            continue
        step = max(1, 2**24 // max(1, leaf[:1].size))
        for start in range(0, len(leaf), step):
            part = leaf[start : start + step]
            good = np.isfinite(part.astype(np.float32) if part.dtype.kind == "V" else part)
            finite[start : start + step] &= good.reshape(len(part), -1).all(axis=1)
    return finite


def by_architecture(items: Sequence[Any], key: Callable[[Any], str]) -> dict[str, Any]:
    """Items in groups of one key, groups in the order of their first."""
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
