"""Standardised weights: subtract a mean, divide by a deviation, and back.

What the mean and deviation are taken over decides what is kept of the symmetry. Permuting units and
normalising commute exactly if the numbers are the same for all units that may be exchanged:

==============  ============================================================  ===================
kind            one mean and deviation for                                    commutes
==============  ============================================================  ===================
`"leaf"`        each array                                                    yes
`"layer"`       the arrays of each layer together                             yes
`"block"`       each block of the spec (a gate of a packed array, say)        yes
`"fixed"`       each index of the fixed axes of each block                    yes
`"position"`    each kernel position, and each bias array                     where the spec fixes it
`"entry"`       each entry                                                    no
==============  ============================================================  ===================

`"entry"` is what most published pipelines do to INRs; it ties every later layer to one order of the
neurons. Scaling and sign symmetries commute with none of them but for a mean of zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import key_path_str
from wsljax.symmetry import Spec
from wsljax.symmetry.layout import decompose
from wsljax.zoo.chunks import is_stacked
from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.layers import arrays_by_path, layers

KINDS = ("leaf", "layer", "block", "fixed", "position", "entry")
FORMAT = "wsljax-normaliser-1"


class Normaliser(eqx.Module):
    """A mean and a deviation for every weight; a pytree, so it is stored and sharded as weights are.

    Attributes:
        mean, deviation: `{path: array}`, each broadcasting to its leaf.
        kind: what they were taken over; see the module.
        spec: the symmetry they are to be judged by, or None.

    Example:
        >>> stack = {"w": jnp.array([[1.0, 5.0], [3.0, 5.0]])}
        >>> normaliser = Normaliser.fit(stack, kind="entry")
        >>> normaliser.forward({"w": jnp.array([2.0, 5.0])})["w"].tolist()
        [0.0, 0.0]
        >>> normaliser.backward({"w": jnp.array([1.0, 1.0])})["w"].tolist()
        [3.0, 6.0]
    """

    mean: dict[str, jax.Array]
    deviation: dict[str, jax.Array]
    kind: str = eqx.field(static=True)
    spec: Spec | None = eqx.field(static=True, default=None)

    @staticmethod
    def fit(networks: Any, kind: str = "leaf", spec: Spec | None = None) -> Normaliser:
        """Take means and deviations (ddof 0) over networks: pass the training networks alone.

        A deviation of 0, or one that is rounding of a constant, becomes 1, so that constant weights
        are only shifted and come back exactly.

        Args:
            networks: a `Population` or a pytree of arrays `(models, ...)`, e.g.
                `population.take(parts.train)`.
            kind: a name in `KINDS`.
            spec: the symmetry of one network (default: the population's); `"block"` and `"fixed"` need
                it.

        Raises:
            ValueError: an unknown kind, a kind without its spec, no network, or networks that hold
                NaN or infinity.
        """
        params, spec = _unpack(networks, spec)
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; there are {KINDS}.")
        if kind in ("block", "fixed") and spec is None:
            raise ValueError(f"kind {kind!r} needs a `spec`: see `wsljax.symmetry.infer`.")
        _check(params)
        stack = {path: np.asarray(x) for path, x in arrays_by_path(params).items()}
        if kind in ("block", "fixed"):
            assert spec is not None
            mean, deviation = _by_block(params, spec, fixed=kind == "fixed")
        elif kind == "layer":
            mean, deviation = {}, {}
            for layer in layers(jax.tree.map(lambda x: x[0], params)):
                paths = (*layer.kernels, *layer.biases)
                both = _moments([(stack[path], tuple(range(stack[path].ndim))) for path in paths])
                for path in paths:
                    mean[path], deviation[path] = both
        else:
            found = {path: _moments([(x, _reduced(x, kind))]) for path, x in stack.items()}
            mean = {path: m for path, (m, _) in found.items()}
            deviation = {path: d for path, (_, d) in found.items()}
        return _make(mean, deviation, kind, spec, stack)

    @staticmethod
    def from_statistics(
        statistics: Mapping[str, Mapping[str, Sequence[Any]]],
        params: Any,
        *,
        spec: Spec | None = None,
        transposed: bool = False,
    ) -> Normaliser:
        """From published numbers, `{"weights" | "biases": {"mean" | "std": [one array a layer]}}`.

        Arrays are entry-wise, `(in, out)` or `(in, out, 1)` and `(out,)` or `(out, 1)`; per kernel
        position, `(kh, kw)`; or one number, `(1,)`.

        Args:
            statistics: anything numpy reads as arrays.
            params: one network that they are for, of layers in the published order.
            spec: its symmetry, for `equivariant`.
            transposed: whether `params` keep kernels as torch does, `(out, in)` and
                `(out, in, kh, kw)`, not `(in, out)` and `(kh, kw, in, out)`.

        Raises:
            ValueError: other words, another number of layers, or an array that fits no leaf.
        """
        try:
            pairs = {
                role: list(zip(statistics[role]["mean"], statistics[role]["std"], strict=True))
                for role in ("weights", "biases")
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                '`statistics` is {"weights" | "biases": {"mean" | "std": [one array a layer]}} with '
                f"as many means as deviations; reading it: {error!r}."
            ) from None
        found = layers(params)
        paths = {
            "weights": [path for layer in found for path in layer.kernels],
            "biases": [path for layer in found for path in layer.biases],
        }
        leaves = {path: np.asarray(x)[None] for path, x in arrays_by_path(params).items()}
        mean, deviation = {}, {}
        for role, names in paths.items():
            if len(names) != len(pairs[role]):
                raise ValueError(
                    f"`statistics` has {len(pairs[role])} {role}, the network {len(names)}: {names}."
                )
            for path, (m, d) in zip(names, pairs[role]):
                shape = leaves[path].shape[1:]
                mean[path] = _fit_shape(np.asarray(m), shape, path, transposed)
                deviation[path] = _fit_shape(np.asarray(d), shape, path, transposed)
        entry = all(mean[path].shape == leaves[path].shape[1:] for path in mean)
        return _make(mean, deviation, "entry" if entry else "position", spec, leaves)

    def forward(self, params: Any) -> Any:
        """Standardised weights of one network, in their dtype; `jax.vmap` for a stack.

        Raises:
            ValueError: arrays of other paths or shapes than those fitted.
        """
        return self._map(params, lambda x, mean, deviation: (x - mean) / deviation)

    def backward(self, params: Any) -> Any:
        """The inverse of `forward`, exact up to rounding."""
        return self._map(params, lambda x, mean, deviation: x * deviation + mean)

    @property
    def equivariant(self) -> bool | None:
        """Whether normalising commutes with every permutation of the spec's group.

        It does if the numbers are the same for all units that may be exchanged. Without a spec that is
        known where each leaf has one mean and one deviation (`True`) or each entry its own (`False`);
        else this is `None`.
        """
        if all(x.size == 1 for x in self.mean.values()):
            return True
        if self.spec is None:
            return False if self.kind == "entry" else None
        units = {u.name for u in self.spec.units}
        layout = iter(self.spec.layout)
        for leaf in self.spec.leaves:
            pair = [jnp.broadcast_to(n[leaf.path], leaf.shape) for n in (self.mean, self.deviation)]
            for parts in zip(*(decompose(x, leaf.trees) for x in pair)):
                for axis, name in enumerate(next(layout).axes):
                    if name in units and any(
                        (x != jnp.take(x, jnp.array([0]), axis)).any() for x in parts
                    ):
                        return False
        return True

    def to_json(self) -> dict[str, Any]:
        """As a dict of JSON values; `from_json` reads it back, numbers exactly."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "spec": None if self.spec is None else json.loads(self.spec.to_json()),
            "leaves": {
                path: {
                    "dtype": str(mean.dtype),
                    "shape": list(mean.shape),
                    "mean": np.asarray(mean, np.float64).reshape(-1).tolist(),
                    "deviation": np.asarray(self.deviation[path], np.float64).reshape(-1).tolist(),
                }
                for path, mean in self.mean.items()
            },
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Normaliser:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is not such a record.
        """
        try:
            if record["format"] != FORMAT or record["kind"] not in KINDS:
                raise KeyError(f"format {record['format']!r}, kind {record['kind']!r}")
            spec = record["spec"]
            spec = None if spec is None else Spec.from_json(json.dumps(spec))
            both = []
            for name in ("mean", "deviation"):
                both.append(
                    {
                        path: jnp.asarray(
                            np.array(leaf[name]).reshape(leaf["shape"]), leaf["dtype"]
                        )
                        for path, leaf in record["leaves"].items()
                    }
                )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a stored normaliser: {error}.") from None
        mean, deviation = both
        return Normaliser(mean, deviation, record["kind"], spec)

    def _map(self, params: Any, fn: Any) -> Any:
        flat, treedef = jax.tree_util.tree_flatten_with_path(params)
        named = [(key_path_str(path), x) for path, x in flat]
        known = {path for path, x in named if hasattr(x, "shape")}
        if known != set(self.mean):
            raise ValueError(
                f"`params` do not fit this normaliser: missing {sorted(set(self.mean) - known)[:5]}, "
                f"unknown {sorted(known - set(self.mean))[:5]}."
            )
        return jax.tree_util.tree_unflatten(
            treedef, [self._leaf(path, x, fn) if path in known else x for path, x in named]
        )

    def _leaf(self, path: str, x: Any, fn: Any) -> jax.Array:
        x, mean = jnp.asarray(x), self.mean[path]
        if mean.ndim and (
            x.ndim != mean.ndim or np.broadcast_shapes(x.shape, mean.shape) != x.shape
        ):
            raise ValueError(
                f"{path!r} has shape {x.shape}, the normaliser {mean.shape}; "
                "for a stack of networks use jax.vmap."
            )
        wide = jnp.result_type(x.dtype, mean.dtype)
        mean, deviation = mean.astype(wide), self.deviation[path].astype(wide)
        return fn(x.astype(wide), mean, deviation).astype(x.dtype)


def finite_members(networks: Any) -> np.ndarray:
    """Which networks hold no NaN and no infinity, as a mask `(models,)` for `population.take`.

    >>> finite_members({"w": jnp.array([[1.0], [jnp.nan]])}).tolist()
    [True, False]
    """
    params, _ = _unpack(networks, None)
    stack = [np.asarray(x) for x in jax.tree.leaves(params) if is_stacked(x)]
    return np.all([np.isfinite(x.reshape(len(x), -1)).all(axis=1) for x in stack], axis=0)


def _unpack(networks: Any, spec: Spec | None) -> tuple[Any, Spec | None]:
    if isinstance(networks, Population):
        return networks.params, networks.spec if spec is None else spec
    return networks, spec


def _check(params: Any) -> None:
    stack = arrays_by_path(params)
    lengths = {path: np.shape(x)[:1] for path, x in stack.items()}
    if not stack or () in lengths.values() or len(set(lengths.values())) != 1:
        raise ValueError(f"every array needs one leading model axis; they begin with {lengths}.")
    if (0,) in lengths.values():
        raise ValueError("there is no network to fit on: the model axis has length 0.")
    bad = np.flatnonzero(~finite_members(params))
    if len(bad):
        count = next(iter(lengths.values()))[0]
        raise ValueError(
            f"{len(bad)} of {count} networks hold NaN or infinity (the first: {bad[:5].tolist()}); "
            "leave them out: `population.take(finite_members(population))`."
        )


def _reduced(x: np.ndarray, kind: str) -> tuple[int, ...]:
    """The axes, with the model axis, that numbers are taken over."""
    if kind == "entry":
        return (0,)
    kept = range(1, x.ndim - 2) if kind == "position" else ()
    return tuple(k for k in range(x.ndim) if k not in kept)


def _moments(parts: Sequence[tuple[np.ndarray, tuple[int, ...]]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in float64 over the given axes of several arrays, taken as one.

    One array keeps its reduced axes at length one, without that of the models; several become scalars.
    """
    if len(parts) == 1:
        x, axes = np.asarray(parts[0][0], np.float64), parts[0][1]
        mean = x.mean(axis=axes, keepdims=True)
        deviation = np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True))
        scalar = len(axes) == x.ndim
        shape = () if scalar else mean.shape[1:]
        return mean.reshape(shape), deviation.reshape(shape)
    flat = np.concatenate([np.asarray(x, np.float64).reshape(-1) for x, _ in parts])
    return flat.mean(), flat.std()


def _by_block(params: Any, spec: Spec, *, fixed: bool) -> tuple[dict, dict]:
    """Numbers of blocks, put back together into leaves."""
    blocks = {name: np.asarray(x) for name, x in jax.vmap(spec.blocks)(params).items()}
    units = {u.name for u in spec.units}
    both: list[dict] = [{}, {}]
    for block in spec.layout:
        x = blocks[block.name]
        own = [k + 1 for k, name in enumerate(block.axes) if fixed and name not in units]
        found = _moments([(x, tuple(k for k in range(x.ndim) if k not in own))])
        for out, value in zip(both, found):
            out[block.name] = np.broadcast_to(value, block.shape)
    like = jax.tree.map(lambda x: x[0], params)
    whole = [spec.unblocks({n: jnp.asarray(x) for n, x in out.items()}, like=like) for out in both]
    mean, deviation = (
        {p: np.asarray(x) for p, x in arrays_by_path(tree).items()} for tree in whole
    )
    return mean, deviation


def _make(mean: Mapping, deviation: Mapping, kind: str, spec: Any, stack: Mapping) -> Normaliser:
    """Numbers in the dtype of their leaf, at least float32; no deviation of zero."""
    means, deviations = {}, {}
    for path, x in stack.items():
        dtype = jnp.result_type(x.dtype, jnp.float32)
        rounding = 4 * jnp.finfo(x.dtype).eps * np.abs(mean[path])
        constant = np.asarray(deviation[path]) <= rounding
        means[path] = jnp.asarray(mean[path], dtype)
        deviations[path] = jnp.asarray(np.where(constant, 1.0, deviation[path]), dtype)
    return Normaliser(means, deviations, kind, spec)


def _fit_shape(x: np.ndarray, shape: tuple[int, ...], path: str, transposed: bool) -> np.ndarray:
    """Published numbers as an array that broadcasts to a leaf."""
    rank = len(shape)
    if x.size == 1:
        return x.reshape(shape if np.prod(shape) == 1 else ())
    given = x.shape
    while x.ndim > rank and x.shape[-1] == 1:
        x = x[..., 0]
    if rank > 2 and x.ndim == rank - 2:  # kernel positions
        x = x[None, None] if transposed else x[..., None, None]
    elif transposed and rank > 1 and x.ndim == rank:
        x = x.transpose(rank - 1, rank - 2, *range(rank - 2))
    if x.ndim != rank or any(a not in (1, b) for a, b in zip(x.shape, shape)):
        raise ValueError(f"`statistics`: {path!r} has shape {shape}, its numbers {given}.")
    return x
