"""Where values cannot tie: a rank, or an argument of a maximum, moves with what it ranks only if so.

After a comparison, a rounding, or a maximum with a constant, equal values are no accident, and the place
of an element decides what ``argmax`` or a sort with a payload returns. So every value says along which
of its axes its elements are distinct for almost all parameters (``View.distinct``), and what may tie is
pinned where it is ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from ..._compat import Literal, open_jaxpr, sub_jaxprs
from .values import View, reshape_runs

Flags = tuple[bool, ...]
RANKING = {"argmax", "argmin", "top_k", "sort", "approx_top_k"}
ONE_TO_ONE = set(
    """
    abs acos acosh asin asinh atan atanh bessel_i0e bessel_i1e cbrt conj copy copy_p cos cosh cumsum
    cumprod cumlogsumexp digamma erf erf_inv erfc exp exp2 expm1 imag integer_pow lgamma log log1p log2
    logistic neg one_minus_square optimization_barrier real reduce_precision rsqrt sharding_constraint
    sin sinh sort sqrt square stop_gradient tan tanh top_k dynamic_slice name polygamma
    """.split()
)


def with_ranks(jaxpr: Any, plain: Collection[str], seen: set[int] | None = None) -> bool:
    """Whether anything is ranked in a trace; ``plain`` primitives carry no trace of their own."""
    seen = set() if seen is None else seen
    if id(jaxpr) in seen:
        return False
    seen.add(id(jaxpr))
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in RANKING:
            return True
        if name in plain:
            continue
        for _, inner in sub_jaxprs(eqn):
            if with_ranks(open_jaxpr(inner)[0], plain, seen):
                return True
    return False


def ties_along(view: View, axis: int) -> bool:
    """Whether elements along an axis may be equal."""
    return not (view.distinct and view.distinct[axis])


def distinct_axes(eqn: Any, views: Sequence[View]) -> Flags | None:
    """Along which axes a result is distinct; None for what its rule has said itself."""
    name = eqn.primitive.name
    if name in ONE_TO_ONE:
        return views[0].distinct
    rule = _RULES.get(name)
    if rule is None:
        return None
    if not any(v.distinct for v in views):
        return ()
    rank = len(eqn.outvars[0].aval.shape)
    return rule(eqn, views, rank)


def _flags(view: View, rank: int) -> Flags:
    return view.distinct or (False,) * rank


def _add(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    if len(eqn.invars) == 2 and eqn.invars[0] is eqn.invars[1] and eqn.primitive.name == "sub":
        return ()
    return tuple(map(any, zip(*(_flags(v, rank) for v in views if v.distinct), strict=True)))


def _multiply(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    if eqn.invars[0] is eqn.invars[1] and eqn.primitive.name != "mul":
        return ()
    generic = []
    for atom, view in zip(eqn.invars, views, strict=True):
        scalar = not atom.aval.shape and not (isinstance(atom, Literal) and not np.any(atom.val))
        generic.append(scalar or any(view.distinct))
    if not all(generic):
        return ()
    return _add(eqn, views, rank)


def _convert(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    kinds = {eqn.invars[0].aval.dtype.kind, eqn.outvars[0].aval.dtype.kind}
    return views[0].distinct if kinds <= {"f", "c", "V"} else ()  # V: bfloat16 and the like


def _select(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    return tuple(map(all, zip(*(_flags(v, rank) for v in views[1:]), strict=True)))


def _concatenate(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    return tuple(map(all, zip(*(_flags(v, rank) for v in views), strict=True)))


def _transpose(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    return tuple(views[0].distinct[d] for d in eqn.params["permutation"])


def _squeeze(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    gone = {d % len(views[0].distinct) for d in eqn.params["dimensions"]}
    return tuple(f for k, f in enumerate(views[0].distinct) if k not in gone)


def _reduce(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    return tuple(f for k, f in enumerate(views[0].distinct) if k not in eqn.params["axes"])


def _broadcast(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    out = [False] * rank
    for k, d in enumerate(eqn.params["broadcast_dimensions"]):
        if eqn.invars[0].aval.shape[k] == eqn.params["shape"][d]:
            out[d] = _flags(views[0], rank)[k]
    return tuple(out)


def _reshape(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if 0 in new:
        return ()
    flags, out = views[0].distinct, [False] * rank
    for i0, i1, j0, j1 in reshape_runs(old, new):
        out[j0:j1] = [all(flags[k] for k in range(i0, i1) if old[k] > 1)] * (j1 - j0)
    return tuple(out)


def _dot_general(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    x, y = views
    (cx, cy), (bx, by) = eqn.params["dimension_numbers"]
    fx = _flags(x, len(eqn.invars[0].aval.shape))
    fy = _flags(y, len(eqn.invars[1].aval.shape))
    batch = [fx[a] or fy[b] for a, b in zip(bx, by, strict=True)]
    free = [f for k, f in enumerate(fx) if k not in (*cx, *bx)]
    return (*batch, *free, *(f for k, f in enumerate(fy) if k not in (*cy, *by)))


def _conv(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    lhs, rhs, out = eqn.params["dimension_numbers"]
    x, w = (_flags(v, rank) for v in views)
    flags = [False] * rank
    for a, b in zip(lhs, out, strict=True):
        flags[b] = x[a]
    flags[out[1]] = w[rhs[0]]
    return tuple(flags)


def _gather(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    return (all(views[0].distinct),) * rank


def _first(eqn: Any, views: Sequence[View], rank: int) -> Flags:
    return views[0].distinct


_RULES: dict[str, Callable[[Any, Sequence[View], int], Flags]] = {
    "add": _add,
    "add_any": _add,
    "sub": _add,
    "mul": _multiply,
    "div": _multiply,
    "atan2": _multiply,
    "pow": _first,
    "convert_element_type": _convert,
    "select_n": _select,
    "concatenate": _concatenate,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "reduce_sum": _reduce,
    "reduce_prod": _reduce,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
    "gather": _gather,
}
