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
from .ports import Port, cut
from .values import Entry, Index, Link, Variable, View

FOLDED = 1024
MAX_RUNS = 64
_CLOSED_OVER = "a constant that is not uniform along it"


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
        return walk.fixed(shape, _CLOSED_OVER)
    if 0 in shape:
        return View([(0,) if n == 0 else ((n,) if n > 1 else ()) for n in shape])
    cuts: list[np.ndarray | None] = []
    for k, n in enumerate(shape):
        a = np.moveaxis(comparable, k, 0).reshape(n, -1)
        change = np.any(a[1:] != a[:-1], axis=1)
        cuts.append(np.flatnonzero(change) + 1 if change.any() else None)
    const = array if array.size <= FOLDED and array.dtype.kind in "biuf" else None
    busy = [k for k, c in enumerate(cuts) if c is not None]
    if len(busy) == 2 and _is_diagonal(comparable, busy):
        return _diagonal(walk, shape, busy, const)
    view = walk.array([shape[k] for k in busy])
    axes: list = [(n,) if n > 1 else () for n in shape]
    index = None
    for items, k in zip(view.axes, busy, strict=True):
        axes[k] = items
        if len(busy) == 1 and array.dtype.kind in "iu" and _is_count(array, k):
            index = Index(items, token=walk.fresh())
        elif not _cut_runs(walk, items, cuts[k], shape[k]):
            walk.pin_items(items, _CLOSED_OVER)
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


def _cut_runs(walk, items, cuts: np.ndarray, n: int) -> bool:
    """Cut an axis at the ends of runs of equal values: within a run coordinates are exchangeable."""
    if len(cuts) > n // 2 or len(cuts) > MAX_RUNS:
        return False
    (factor,) = items
    for c in cuts:
        if cut(factor.port, int(c)) is None:
            return False
    walk.barriers += [(factor, int(c)) for c in cuts]
    return True


def _select(params, which, *cases):
    shape = np.broadcast_shapes(*(np.shape(c) for c in cases))
    which = np.broadcast_to(np.asarray(which, int), shape)
    return np.choose(which, [np.broadcast_to(c, shape) for c in cases])


_FOLD = {
    "add": lambda p, a, b: a + b,
    "sub": lambda p, a, b: a - b,
    "mul": lambda p, a, b: a * b,
    "neg": lambda p, a: -a,
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
    "not": lambda p, a: ~a,
    "clamp": lambda p, lo, x, hi: np.clip(x, lo, hi),
    "select_n": _select,
    "convert_element_type": lambda p, a: a,
    "squeeze": lambda p, a: np.squeeze(a, tuple(p["dimensions"])),
    "reshape": lambda p, a: np.reshape(a, p["new_sizes"]),
    "concatenate": lambda p, *a: np.concatenate(a, p["dimension"]),
    "transpose": lambda p, a: np.transpose(a, p["permutation"]),
    "broadcast_in_dim": lambda p, a: _broadcast(a, p["shape"], p["broadcast_dimensions"]),
}
_FOLD_TO_FLOAT = {
    "convert_element_type",
    "select_n",
    "reshape",
    "squeeze",
    "transpose",
    "broadcast_in_dim",
}


def _broadcast(a: np.ndarray, shape: Sequence[int], dims: Sequence[int]) -> np.ndarray:
    laid = [1] * len(shape)
    for n, d in zip(np.shape(a), dims, strict=True):
        laid[d] = n
    return np.broadcast_to(np.reshape(a, laid), shape)


def fold(walk, eqn: Any, views: Sequence[View]) -> View | None:
    """The value of an equation on small known integers, or masks of them; None if it is not one."""
    if len(eqn.outvars) != 1:
        return None
    aval = eqn.outvars[0].aval
    shape, kind = aval.shape, getattr(aval.dtype, "kind", None)  # a random key has none
    if kind not in tuple("biuf") or any(v.const is None for v in views) or prod(shape) > FOLDED:
        return None
    name = eqn.primitive.name
    if name == "iota":
        k = eqn.params["dimension"]
        counted = np.arange(shape[k]).reshape([-1 if i == k else 1 for i in range(len(shape))])
        value = np.broadcast_to(counted, shape)
    elif name in _FOLD and (kind != "f" or name in _FOLD_TO_FLOAT):
        value = _FOLD[name](eqn.params, *[v.const for v in views])
    else:
        return None
    return view_of_constant(walk, np.asarray(value).astype(aval.dtype))
