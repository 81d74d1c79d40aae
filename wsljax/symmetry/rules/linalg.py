"""Rules for decompositions of matrices: batches of matrices stay free, their rows and columns do not."""

from __future__ import annotations

from ..._compat import open_jaxpr
from ..inference.values import View
from ..inference.walk import RULES, Walk, register_rule

CORE = {
    **dict.fromkeys("cholesky cholesky_update eig eigh geqp3 geqrf hessenberg".split(), 2),
    **dict.fromkeys("householder_product lu ormqr qr schur svd tridiagonal".split(), 2),
    **dict.fromkeys("lu_pivots_to_permutation tridiagonal_solve".split(), 1),
}
"""Number of axes of the first operand that are not a batch."""


def _batch(n: int) -> list[str]:
    return [f"b{k}" for k in range(n)]


def _decompose(walk: Walk, eqn, *views: View) -> list[View]:
    """Everything but the batch is fixed."""
    reason = ("rows and columns of a matrix that is decomposed", eqn)
    n = len(views[0].axes) - CORE[eqn.primitive.name]
    words = []
    for r, view in enumerate(views):
        for k in range(n, len(view.axes)):
            walk.pin(view, k, reason)
        words.append([*_batch(n), *(f"{r}.{k}" for k in range(n, len(view.axes)))])
    out = []
    for var in eqn.outvars:
        sizes = {f"new{k}": size for k, size in enumerate(var.aval.shape) if k >= n}
        out.append(walk.einsum(views, words, [*_batch(n), *sizes], sizes, reason))
    return out


for _name in CORE:
    RULES[_name] = _decompose


@register_rule("svd")
def _svd(walk: Walk, eqn, x: View) -> list[View]:
    """Singular values alone do not depend on the order of rows, nor on that of columns."""
    if eqn.params["compute_uv"]:
        return _decompose(walk, eqn, x)
    n = len(x.axes) - 2
    size = {"value": eqn.outvars[0].aval.shape[-1]}
    reason = ("ranked by size", eqn)
    return [walk.einsum([x], [[*_batch(n), "row", "column"]], [*_batch(n), "value"], size, reason)]


@register_rule("triangular_solve")
def _triangular_solve(walk: Walk, eqn, a: View, b: View) -> View:
    """Right-hand sides are independent of each other."""
    reason = ("rows and columns of a triangular matrix", eqn)
    n = len(a.axes) - 2
    solved = n if eqn.params["left_side"] else n + 1
    for k in (n, n + 1):
        walk.pin(a, k, reason)
    walk.pin(b, solved, reason)
    right = [*_batch(n), "i", "right"] if solved == n else [*_batch(n), "right", "i"]
    return walk.einsum([a, b], [[*_batch(n), "i", "j"], right], right, reason=reason)


@register_rule("custom_linear_solve")
def _solve(walk: Walk, eqn, *views: View) -> list[View]:
    """What solves the system is walked; the other functions are there for gradients."""
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    rest = start + lengths.solve + lengths.transpose_solve
    jaxpr, consts = open_jaxpr(jaxprs.solve)
    return walk.run(jaxpr, consts, [*views[start : start + lengths.solve], *views[rest:]])
