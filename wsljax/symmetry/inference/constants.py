"""Constants: where a known array is uniform it ties nothing, where it is not it pins.

Also folds the small integer arithmetic that indexing leaves in a trace, so that ``x[-1]`` is seen as
the static slice that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..._compat import is_tracer
from .ports import Port
from .refine import partition
from .values import Entry, Index, Link, Variable, View

FOLDED = 1024
MAX_PARTS = 64
UNEVEN = "a constant that is not uniform along it"


def view_of_constant(walk, value: Any) -> View:
    """The view of a known array: wild where uniform, runs of equal values exchangeable, else pinned.

    Raises:
        TypeError: if the value is not known because the function closes over a tracer.
    """
    if is_tracer(value):
        raise TypeError(
            "the function closes over a value that is being traced by jit, grad, vmap or scan; pass "
            "that value as an argument, or call `infer` outside the transformation"
        )
    shape = tuple(np.shape(value))
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biufc" and array.dtype.itemsize > 8:
            raise TypeError
        comparable = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
        if comparable.dtype.kind not in "biufc":
            comparable = comparable.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):
        return walk.fixed(shape, UNEVEN)
    if 0 in shape:
        return View([(0,) if n == 0 else ((n,) if n > 1 else ()) for n in shape])
    rows: dict[int, np.ndarray] = {}
    for k, n in enumerate(shape):
        a = np.moveaxis(comparable, k, 0).reshape(n, -1)
        if (a[1:] != a[:-1]).any():
            rows[k] = a
    const = array if array.size <= FOLDED and array.dtype.kind in "biuf" else None
    busy = list(rows)
    if len(busy) == 2 and _is_diagonal(comparable, busy):
        return _diagonal(walk, shape, busy, const)
    view = walk.array([shape[k] for k in busy])
    axes: list = [(n,) if n > 1 else () for n in shape]
    index = None
    for items, k in zip(view.axes, busy, strict=True):
        axes[k] = items
        if len(busy) == 1 and array.dtype.kind in "iu" and _is_count(array, k):
            index = Index(items, token=walk.fresh())
        elif not _part(walk, items, rows[k]):
            walk.pin_items(items, UNEVEN)
    return View(axes, index=index, const=const)


def _is_diagonal(array: np.ndarray, busy: list[int]) -> bool:
    """Whether a matrix is ``a I + b``: unchanged when both axes are permuted alike."""
    n = array.shape[busy[0]]
    if array.shape[busy[1]] != n:
        return False
    matrix = np.moveaxis(array, busy, (0, 1)).reshape(n, n, -1)
    if not (matrix == matrix[:, :, :1]).all():
        return False
    matrix = matrix[:, :, 0]
    return bool(
        (np.diag(matrix) == matrix[0, 0]).all()
        and (matrix[~np.eye(n, dtype=bool)] == matrix[0, 1]).all()
    )


def _diagonal(walk, shape: tuple[int, ...], busy: list[int], const) -> View:
    port = Port(shape[busy[0]])
    one, two = walk.struct([port, port]).roots
    walk.links.append(Link(2, (Variable(port.size, (Entry(0, (one,)), Entry(1, (two,)))),)))
    axes: list = [(n,) if n > 1 else () for n in shape]
    axes[busy[0]], axes[busy[1]] = (one,), (two,)
    return View(axes, const=const)


def _is_count(array: np.ndarray, axis: int) -> bool:
    a = np.moveaxis(array, axis, 0)
    return bool(np.all(a == np.arange(a.shape[0]).reshape((-1,) + (1,) * (a.ndim - 1))))


def _part(walk, items, rows: np.ndarray) -> bool:
    """Part an axis by the values of a constant: coordinates of equal values are exchangeable.

    Values that stand once, and those beyond the most frequent, share one part, which is pinned.
    """
    n = len(rows)
    known: dict[bytes, int] = {}
    labels = np.array([known.setdefault(row.tobytes(), len(known)) for row in rows])
    many = np.bincount(labels)
    if many.max() < 2:
        return False
    often = np.argsort(-many, kind="stable")[: MAX_PARTS - 1]
    lone = np.ones(len(many), bool)
    lone[often[many[often] > 1]] = False
    parts = np.where(lone[labels], len(many), labels)
    runs = np.cumsum(np.concatenate([[0], parts[1:] != parts[:-1]]))
    if runs[-1] >= min(n // 2 + 1, MAX_PARTS):
        runs = _numbered(parts)  # else runs stay apart: arrays may be packed along them
    (factor,) = items
    if partition(factor.port, runs) is None:
        return False
    walk.colours.append((factor, labels))
    return True


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Labels numbered in the order they come in."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def _select(params, which, *cases):
    shape = np.broadcast_shapes(*(np.shape(c) for c in cases))
    which = np.broadcast_to(np.asarray(which, int), shape)
    return np.choose(which, [np.broadcast_to(c, shape) for c in cases])


def _divide(params, a, b):
    if np.issubdtype(np.result_type(a, b), np.floating):
        return a / b
    whole = np.abs(a) // np.maximum(np.abs(b), 1) * np.sign(a) * np.sign(b)
    return np.where(b == 0, -1, whole)  # as XLA has it


def _cumulative(params, a):
    out = np.cumsum(np.flip(a, params["axis"]) if params["reverse"] else a, params["axis"])
    return np.flip(out, params["axis"]) if params["reverse"] else out


_FOLD = {
    "add": lambda p, a, b: a + b,
    "sub": lambda p, a, b: a - b,
    "mul": lambda p, a, b: a * b,
    "div": _divide,
    "rem": lambda p, a, b: np.fmod(a, b),
    "neg": lambda p, a: -a,
    "abs": lambda p, a: np.abs(a),
    "sign": lambda p, a: np.sign(a),
    "floor": lambda p, a: np.floor(a),
    "ceil": lambda p, a: np.ceil(a),
    "integer_pow": lambda p, a: a ** p["y"] if p["y"] >= 0 else 1 / a ** -p["y"],
    "square": lambda p, a: a * a,
    "sqrt": lambda p, a: np.sqrt(a),
    "exp": lambda p, a: np.exp(a),
    "log": lambda p, a: np.log(a),
    "sin": lambda p, a: np.sin(a),
    "cos": lambda p, a: np.cos(a),
    "tanh": lambda p, a: np.tanh(a),
    "pow": lambda p, a, b: a**b,
    "max": lambda p, a, b: np.maximum(a, b),
    "min": lambda p, a, b: np.minimum(a, b),
    "lt": lambda p, a, b: a < b,
    "le": lambda p, a, b: a <= b,
    "gt": lambda p, a, b: a > b,
    "ge": lambda p, a, b: a >= b,
    "eq": lambda p, a, b: a == b,
    "ne": lambda p, a, b: a != b,
    "and": lambda p, a, b: a & b,
    "or": lambda p, a, b: a | b,
    "xor": lambda p, a, b: a ^ b,
    "not": lambda p, a: ~a,
    "clamp": lambda p, lo, x, hi: np.clip(x, lo, hi),
    "select_n": _select,
    "convert_element_type": lambda p, a: a,
    "copy": lambda p, a: a,
    "squeeze": lambda p, a: np.squeeze(a, tuple(p["dimensions"])),
    "reshape": lambda p, a: np.reshape(a, p["new_sizes"]),
    "rev": lambda p, a: np.flip(a, p["dimensions"]),
    "concatenate": lambda p, *a: np.concatenate(a, p["dimension"]),
    "transpose": lambda p, a: np.transpose(a, p["permutation"]),
    "slice": lambda p, a: a[
        tuple(map(slice, p["start_indices"], p["limit_indices"], p["strides"] or [1] * a.ndim))
    ],
    "cumsum": _cumulative,
    "broadcast_in_dim": lambda p, a: _broadcast(a, p["shape"], p["broadcast_dimensions"]),
}


def _broadcast(a: np.ndarray, shape: Sequence[int], dims: Sequence[int]) -> np.ndarray:
    laid = [1] * len(shape)
    for n, d in zip(np.shape(a), dims, strict=True):
        laid[d] = n
    return np.broadcast_to(np.reshape(a, laid), shape)


LAYOUT = {"broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "rev", "copy"}
"""Primitives under which a known array keeps the structure of its axes."""


def fold(eqn: Any, views: Sequence[View]) -> np.ndarray | None:
    """The value of an equation on small known arrays; None if it is not one."""
    if len(eqn.outvars) != 1 or any([v.const is None for v in views]):
        return None
    aval = eqn.outvars[0].aval
    shape, kind = aval.shape, getattr(aval.dtype, "kind", None)  # a random key has none
    if kind not in tuple("biuf") or prod(shape) > FOLDED:
        return None
    name = eqn.primitive.name
    if name == "iota":
        k = eqn.params["dimension"]
        counted = np.arange(shape[k]).reshape([-1 if i == k else 1 for i in range(len(shape))])
        value = np.broadcast_to(counted, shape)
    elif name in _FOLD:
        with np.errstate(all="ignore"):
            value = np.asarray(_FOLD[name](eqn.params, *[v.const for v in views]))
    else:
        return None
    with np.errstate(all="ignore"):
        return value.astype(aval.dtype)
