"""Where each tensor of a foreign file lies in our tree of parameters, and in which order of axes.

A network that is read is a table of :class:`Tensor` rows: name in the file, path in the tree, layout.
Reading and writing go through the same rows, so that what was read is written back bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

#: Layouts, as they are written in a row. A number behind it is the number of channels C of images that
#: were flattened: (C, places) in the file, (places, C) here.
SAME, DENSE, CONV, FLAT_DENSE, FLAT_VECTOR = "same", "dense", "conv", "flat_dense", "flat_vector"


class Tensor(NamedTuple):
    """One tensor: where it is in the file, where in the tree, and how its axes are turned.

    Attributes:
        name: in the file, as in "features.0.weight".
        path: in the tree of parameters, as in ("features", "0", "kernel").
        layout: "same"; "dense", (out, in) there and (in, out) here; "conv", (out, in, *places) there and
            (*places, in, out) here; "flat_dense" and "flat_vector": as "dense" and "same", and the axis
            of inputs, which is (channels, places) there, is (places, channels) here.
        channels: of the images before they were flattened, for the last two.
        optional: may be missing, in the file and in the tree alike.
        shape: in the tree, where it is known without the file.
    """

    name: str
    path: tuple[str, ...]
    layout: str = SAME
    channels: int = 1
    optional: bool = False
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """A pure function ``(params, *inputs) -> outputs`` that knows the file it was read from.

    Attributes:
        apply: the function itself.
        tensors: where each tensor of the file is in ``params``.
        rest: what the file holds beyond weights (counters, masks), to be written back as it was.
        config: the settings that the function was made from; of a Hugging Face folder, its config.json.
    """

    apply: Callable[..., Any]
    tensors: tuple[Tensor, ...]
    rest: Mapping[str, np.ndarray] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, params: Any, *inputs: Any) -> Any:
        return self.apply(params, *inputs)


def kernel_rows(
    name: str, shape: tuple[int, ...] | None = None, *, bias: bool = True, layout: str = DENSE
) -> list[Tensor]:
    """Rows of a module with a kernel, of that shape in the tree, and perhaps a bias."""
    path = tuple(name.split("."))
    rows = [Tensor(f"{name}.weight", (*path, "kernel"), layout, shape=shape)]
    if bias:
        rows.append(Tensor(f"{name}.bias", (*path, "bias"), shape=shape and shape[-1:]))
    return rows


def norm_rows(name: str, size: int, *, bias: bool = True) -> list[Tensor]:
    """Rows of a norm with a scale and perhaps a bias."""
    path = tuple(name.split("."))
    rows = [Tensor(f"{name}.weight", (*path, "scale"), shape=(size,))]
    return rows + [Tensor(f"{name}.bias", (*path, "bias"), shape=(size,))] * bias


def as_numpy(name: str, value: Any) -> np.ndarray:
    """A numpy array of any tensor: numpy, jax, or torch (bfloat16 and tensors on a device included).

    Raises:
        TypeError: it is none.
    """
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu()
        if (
            str(value.dtype) == "torch.bfloat16"
        ):  # numpy has none: by way of float32, which is exact
            return value.float().numpy().astype(jnp.bfloat16)
        return value.numpy()
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"entry {name!r} is {type(value).__name__}, not a tensor; give the state dict itself, as in "
            "`checkpoint['state_dict']` or `model.state_dict()`"
        )
    return np.asarray(value)


def is_weight(array: np.ndarray) -> bool:
    """Whether an array is floating-point and has entries: what can be a parameter."""
    return bool(jnp.issubdtype(array.dtype, jnp.inexact)) and array.size > 0


def read_params(state: Mapping[str, np.ndarray], rows: Iterable[Tensor], dtype: Any = None) -> dict:
    """The tree of parameters that a table of rows describes, a nested dict of jax arrays.

    Args:
        state: name -> array.
        rows: what goes where.
        dtype: of all parameters; None keeps the dtype that each has in the file.

    Raises:
        ValueError: a tensor is missing, has another shape, or would lose precision.
    """
    params: dict[str, Any] = {}
    missing = [row.name for row in rows if row.name not in state and not row.optional]
    if missing:
        raise ValueError(
            f"missing tensors: {_some(missing)}; the file has {_some(state)}. It is of another architecture "
            "or not complete"
        )
    for row in rows:
        if row.name not in state:
            continue
        node = params
        for part in row.path[:-1]:
            node = node.setdefault(part, {})
        found = to_jax(row.name, _turn(row, state[row.name]), dtype)
        _check_shape(row, found)
        node[row.path[-1]] = found
    return params


def write_state(params: Any, rows: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Name -> array, the inverse of :func:`read_params`.

    Raises:
        ValueError: the tree lacks a parameter, has one that no row knows, or one of another shape.
    """
    state, known = {}, set()
    for row in rows:
        node: Any = params
        for part in row.path:
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is None:
            if row.optional:
                continue
            raise ValueError(
                f"params has no {'/'.join(row.path)!r}, which is {row.name!r} in the file; give the tree "
                "that was read, with new values"
            )
        known.add("/".join(row.path))
        _check_shape(row, node)
        state[row.name] = _turn_back(row, np.asarray(node))
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    if found - known:
        raise ValueError(
            f"params has {_some(sorted(found - known))}, for which the file has no place; give the tree "
            "that was read, with new values"
        )
    return state


def to_jax(name: str, array: np.ndarray, dtype: Any = None) -> jax.Array:
    """A jax array, refusing to round a float64 to float32 unasked."""
    wanted = jnp.dtype(dtype) if dtype is not None else array.dtype
    if wanted.itemsize == 8 and not jax.config.jax_enable_x64:  # pyright: ignore
        raise ValueError(
            f"tensor {name!r} is {wanted} and jax would round it to float32: pass dtype='float32' if that "
            "is meant, or call with `jax.enable_x64(True)`"
        )
    return jnp.asarray(array.astype(wanted, copy=False))


def _check_shape(row: Tensor, leaf: Any) -> None:
    if row.shape is not None and tuple(leaf.shape) != row.shape:
        raise ValueError(
            f"{'/'.join(row.path)!r} ({row.name!r} in the file) has shape {tuple(leaf.shape)}; by the config "
            f"it is {row.shape}"
        )


def _turn(row: Tensor, a: np.ndarray) -> np.ndarray:
    if row.layout == DENSE:
        return a.T
    if row.layout == CONV:
        return np.transpose(a, (*range(2, a.ndim), 1, 0))
    if row.layout == FLAT_DENSE:
        return _swap(_divided(row, a.T, a.shape[1]))
    if row.layout == FLAT_VECTOR:
        return _swap(_divided(row, a, a.shape[0]))
    return a


def _turn_back(row: Tensor, a: np.ndarray) -> np.ndarray:
    if row.layout == DENSE:
        a = a.T
    elif row.layout == CONV:
        a = np.transpose(a, (a.ndim - 1, a.ndim - 2, *range(a.ndim - 2)))
    elif row.layout in (FLAT_DENSE, FLAT_VECTOR):
        a = _swap(a.reshape(-1, row.channels, *a.shape[1:]))
        a = a.T if row.layout == FLAT_DENSE else a
    return np.ascontiguousarray(a).reshape(a.shape)  # which turns a scalar to (1,)


def _divided(row: Tensor, a: np.ndarray, size: int) -> np.ndarray:
    if size % row.channels:
        raise ValueError(
            f"tensor {row.name!r} reads {size} flattened inputs, which {row.channels} channels do not "
            "divide; see to the layers before `flatten`"
        )
    return a.reshape(row.channels, size // row.channels, *a.shape[1:])


def _swap(a: np.ndarray) -> np.ndarray:
    """(m, n, ...) -> (n * m, ...)."""
    return np.swapaxes(a, 0, 1).reshape(math.prod(a.shape[:2]), *a.shape[2:])


def _some(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
