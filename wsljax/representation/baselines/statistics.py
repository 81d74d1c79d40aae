"""Weight statistics: a few numbers about each tensor of a network, from which much can be predicted.

Four definitions were published under one name, and they differ: in the quantiles, in standard
deviation against variance and its divisor, in the order of a layer's tensors. `DEFINITIONS` has all
four and the seven numbers over all weights at once; none of them sees the order of the neurons.

References: T. Unterthiner et al., "Predicting neural network accuracy from weights" (2020): `google`.
K. Schürholt et al., "Self-supervised representation learning on neural network weights" (NeurIPS 2021)
and "Model zoos" (NeurIPS 2022): `modelzoos`. A. Zhou et al., "Permutation equivariant neural
functionals" (NeurIPS 2023), StatNet: `statnet`. K. Schürholt et al., "Towards scalable and versatile
weight space learning" (ICML 2024): `sane`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.layers import arrays_by_path, layers, leaf_order
from wsljax.zoo.preprocessing.tokens import channel_tokens

from .order_statistics import moments, quantiles

CHUNK = 128
"""Networks at once: their weights should stay in a core's cache while they are searched."""

SMALL = 256
"""Entries up to which tensors of all sizes are searched together, padded to the longest of them."""


class Definition(NamedTuple):
    """What is computed of each group of weights, in order.

    `columns` are `"mean"`, `"var"`, `"std"`, and quantiles as numbers; `ddof` is that of variance and
    deviation; `per` is `"tensor"`, `"layer"` (its channel tokens, their zeros included) or
    `"network"`; `bias_first` says which tensor of a layer comes first.
    """

    columns: tuple[str | float, ...]
    ddof: int = 0
    per: str = "tensor"
    bias_first: bool = False


_QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_PERCENTILES = (0.01, 0.25, 0.5, 0.75, 0.99)

DEFINITIONS: Mapping[str, Definition] = {
    "google": Definition((*_QUARTILES, "std", "mean"), bias_first=True),
    "modelzoos": Definition(("mean", "var", *_PERCENTILES)),
    "statnet": Definition(("mean", "var", *_QUARTILES), ddof=1),
    "sane": Definition(("mean", "var", *_PERCENTILES), per="layer"),
    "global": Definition((*_QUARTILES, "std", "mean"), per="network"),
}
"""The published definitions by name, and `"global"`: the numbers of `"google"` over all weights."""


def statistics(
    networks: Any,
    definition: str = "google",
    *,
    order: Sequence[str] | None = None,
    mask: Any = None,
    token_width: int | None = None,
    chunk: int = CHUNK,
) -> jax.Array:
    """Weight statistics of every network of a population.

    Compiled once for each architecture and definition; quantiles are exact and found without sorting
    (see `order_statistics`). Traceable and differentiable. A deviation of one entry is NaN where
    `ddof` is 1, as in numpy and torch.

    Args:
        networks: a `Population`, a pytree of arrays `(models, ...)`, or a sequence of populations of
            different architectures: their rows follow each other and are padded with zeros to the
            longest, as Kofinas et al. (2024) do it.
        definition: a name in `DEFINITIONS`.
        order: paths of the tensors, or of the layers for `"sane"`, where the definition's own order
            (layers as they stand in the tree; see `wsljax.zoo.preprocessing.layers`) is not that of the network.
            Those left out are left out.
        mask: a pytree of the structure of the weights, `True` where an entry is one, `(...)` or
            `(models, ...)`: for networks that are padded to one shape. Not for `"sane"`.
        token_width: for `"sane"`: zeros pad each channel to a multiple of it (default: the longest
            channel of the network).
        chunk: networks at once.

    Returns:
        `(models, features)` in float32, or float64 for such weights; the columns are `feature_names`.

    Raises:
        ValueError: an unknown definition or path, or no weights.

    Example:
        >>> stack = {"dense": {"kernel": jnp.arange(8.0).reshape(1, 4, 2), "bias": jnp.ones((1, 2))}}
        >>> statistics(stack, "statnet")[0, :7].tolist()
        [3.5, 6.0, 0.0, 1.75, 3.5, 5.25, 7.0]
        >>> statistics(stack).shape, statistics(stack, "global").shape
        ((1, 14), (1, 7))
    """
    if _several(networks):
        if order is not None or mask is not None:
            raise ValueError("`order` and `mask` are for one architecture, not for a sequence.")
        rows = [
            statistics(one, definition, token_width=token_width, chunk=chunk) for one in networks
        ]
        width = max(row.shape[1] for row in rows)
        return jnp.concatenate([jnp.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])
    if chunk < 1:
        raise ValueError(f"`chunk` is {chunk}; it is a number of networks, 1 or more.")
    params = _params(networks)
    plan = _plan(params, definition, order, token_width)
    stack = arrays_by_path(params)
    _check_stack(stack)
    masks = None if mask is None else _masks(mask, stack, plan)
    return _compute(plan, {p: stack[p] for p in plan.paths}, masks, chunk)


def feature_names(
    networks: Any,
    definition: str = "google",
    *,
    order: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """What the columns of `statistics` are, e.g. `"dense/bias q25"`.

    >>> feature_names({"w": jnp.ones((3, 2))}, "modelzoos")
    ('w mean', 'w var', 'w q1', 'w q25', 'w q50', 'w q75', 'w q99')
    """
    if _several(networks):
        return max((feature_names(one, definition) for one in networks), key=len)
    plan = _plan(_params(networks), definition, order, None)
    words = [c if isinstance(c, str) else f"q{100 * c:g}" for c in plan.definition.columns]
    return tuple(f"{name} {word}" for name, _, _ in plan.groups for word in words)


class _Plan(NamedTuple):
    """Static: each group of weights by name, its leaves' paths, and how many zeros pad its tokens."""

    definition: Definition
    groups: tuple[tuple[str, tuple[str, ...], int], ...]

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for _, paths, _ in self.groups for path in paths))


def _plan(params: Any, name: str, order: Sequence[str] | None, width: int | None) -> _Plan:
    if name not in DEFINITIONS:
        raise ValueError(f"unknown definition {name!r}; there are {sorted(DEFINITIONS)}.")
    definition = DEFINITIONS[name]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), _arrays(params))
    if definition.per == "tensor":
        paths = leaf_order(shapes, bias_first=definition.bias_first)
        groups = [(path, (path,), 0) for path in paths]
    elif definition.per == "network":
        groups = [("all", leaf_order(shapes), 0)]
    else:
        tokens = channel_tokens(shapes, width=width)
        zeros = np.bincount(tokens.positions[:, 1], weights=(~tokens.mask).sum(axis=1))
        groups = [
            (layer.path, (*layer.kernels, *layer.biases), int(zeros[number]))
            for number, layer in enumerate(layers(shapes))
        ]
    if not groups or not groups[0][1]:
        raise ValueError("there are no weights: the tree holds no array.")
    if order is not None:
        known = {group[0]: group for group in groups}
        if definition.per == "network":
            raise ValueError(f"`order` has no meaning for {name!r}, which is over all weights.")
        if unknown := [path for path in order if path not in known]:
            raise ValueError(f"`order` names {unknown}; the network has {list(known)}.")
        groups = [known[path] for path in order]
    return _Plan(definition, tuple(groups))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _compute(plan: _Plan, stack: dict[str, Any], masks: Any, chunk: int) -> jax.Array:
    count = len(next(iter(stack.values())))
    chunk = min(chunk, count)
    if chunk == count:
        return _features(plan, stack, masks)
    # the last chunk begins early enough to be full: what it repeats is dropped
    starts = np.minimum(np.arange(0, count, chunk), count - chunk)

    def piece(start):
        part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, chunk), (stack, masks))
        return _features(plan, *part)

    out = jax.lax.map(piece, jnp.asarray(starts))
    rest = count - (len(starts) - 1) * chunk
    whole = out[:-1].reshape(-1, out.shape[-1])
    return jnp.concatenate([whole, out[-1, chunk - rest :]])


def _features(plan: _Plan, stack: dict[str, jax.Array], masks: Any) -> jax.Array:
    """All groups of one chunk; those of one size are searched together."""
    dtype = jnp.result_type(jnp.float32, *(x.dtype for x in stack.values()))
    flat = {path: x.reshape(len(x), -1).astype(dtype) for path, x in stack.items()}
    kept = None if masks is None else {p: m.reshape(len(m), -1) for p, m in masks.items()}
    rows = [_rows(flat, paths, zeros) for _, paths, zeros in plan.groups]
    keep = [None if kept is None else _rows(kept, paths, 0) for _, paths, _ in plan.groups]
    alike: dict[int, list[int]] = {}
    for number, x in enumerate(rows):
        alike.setdefault(max(x.shape[1], SMALL), []).append(number)
    out: dict[int, jax.Array] = {}
    for numbers in alike.values():
        x, m = _stacked([rows[k] for k in numbers], [keep[k] for k in numbers])
        found = _columns(plan.definition, x, m)
        out |= dict(zip(numbers, jnp.split(found, len(numbers)), strict=True))
    return jnp.concatenate([out[k] for k in range(len(rows))], axis=1)


def _rows(flat: Mapping[str, jax.Array], paths: Sequence[str], zeros: int) -> jax.Array:
    parts = [flat[path] for path in paths]
    parts += [jnp.zeros((len(parts[0]), zeros), parts[0].dtype)] if zeros else []
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _stacked(rows: list[jax.Array], keep: list) -> tuple[jax.Array, jax.Array | None]:
    """Groups of about one size under each other, and a mask if any entry does not count."""
    width = max(x.shape[1] for x in rows)
    same = all(x.shape[1] == width for x in rows)
    if not same or keep[0] is not None:
        keep = [jnp.ones(x.shape, bool) if m is None else m for x, m in zip(rows, keep)]
        keep = [jnp.pad(m, ((0, 0), (0, width - m.shape[1]))) for m in keep]
    rows = [jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in rows]
    return jnp.concatenate(rows), None if keep[0] is None else jnp.concatenate(keep)


def _columns(definition: Definition, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    known = moments(x, mask)
    probabilities = tuple(c for c in definition.columns if not isinstance(c, str))
    found: dict[str | float, jax.Array] = {}
    found |= zip(probabilities, quantiles(x, probabilities, mask, known).T, strict=True)
    n, ddof = known.count[:, 0], definition.ddof
    variance = known.variance[:, 0]
    if ddof:
        variance = jnp.where(n > ddof, variance * n / jnp.maximum(n - ddof, 1), jnp.nan)
    found["mean"], found["var"] = known.mean[:, 0], variance
    found["std"] = known._replace(variance=variance).deviation
    return jnp.stack([found[column] for column in definition.columns], axis=1)


def _several(networks: Any) -> bool:
    return (
        isinstance(networks, Sequence)
        and len(networks) > 0
        and all(isinstance(one, Population) for one in networks)
    )


def _params(networks: Any) -> Any:
    return networks.params if isinstance(networks, Population) else networks


def _arrays(params: Any) -> Any:
    return jax.tree.map(lambda x: x if hasattr(x, "shape") else None, params)


def _check_stack(stack: Mapping[str, Any]) -> None:
    shapes = {path: np.shape(x) for path, x in stack.items()}
    if any(not shape for shape in shapes.values()) or len({s[0] for s in shapes.values()}) != 1:
        raise ValueError(
            f"every array needs one leading model axis; shapes are {shapes}. For one network: "
            "`jax.tree.map(lambda x: x[None], params)`."
        )
    if next(iter(shapes.values()))[0] == 0:
        raise ValueError("there is no network: the model axis has length 0.")


def _masks(mask: Any, stack: Mapping[str, Any], plan: _Plan) -> dict[str, jax.Array]:
    if plan.definition.per == "layer":
        raise ValueError("`mask` cannot be used with tokens, whose zeros count by definition.")
    given, out = arrays_by_path(mask), {}
    for path in plan.paths:
        if path not in given:
            raise ValueError(f"`mask` has no {path!r}; it has {list(given)}.")
        try:
            out[path] = jnp.broadcast_to(jnp.asarray(given[path], bool), stack[path].shape)
        except ValueError:
            raise ValueError(
                f"`mask`: {path!r} has shape {given[path].shape}, the weights {stack[path].shape}."
            ) from None
    return out
