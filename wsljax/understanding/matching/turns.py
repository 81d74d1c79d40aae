"""Turns: the orthogonal matrix that brings one set of directions closest to another.

The orthogonal Procrustes problem (P. H. Schönemann, Psychometrika 31, 1966): of all orthogonal ``Q`` the one
that makes ``<a, b Q>`` largest is ``V U^T``, where ``U S V^T`` is the singular value decomposition of
``a^T b``; the value is the sum of the singular values. All weights along an axis are stacked, the readers and
writers of a residual stream as in A. Theus et al., "Generalized linear mode connectivity for transformers",
NeurIPS 2025; what has to be decomposed is only as large as the axis. Where the mean of the coordinates
has to stay (LayerNorm), the rest is turned; where only planes may be turned (rotary positions), each has one
angle.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from wsljax.symmetry import Block

from .problem import Turn


def best_turn(xp, turn: Turn, gains: Any) -> tuple[Any, Any]:
    """The matrix that makes ``<a, b Q>`` largest.

    Args:
        xp: numpy or jax.numpy.
        turn: what may be turned.
        gains: ``(..., n, n)``: the products ``a^T b`` of coordinates, summed over all weights.

    Returns:
        ``(..., n, n)`` and its value ``(...)``.

    Example:
        >>> import numpy as np
        >>> a = np.array([[1.0, 0.0], [0.0, 2.0]])
        >>> b = np.array([[0.0, 1.0], [-2.0, 0.0]])
        >>> q, value = best_turn(np, Turn("d"), a.T @ b)
        >>> np.round(b @ q + 0.0, 6).tolist(), round(float(value), 6)
        ([[1.0, 0.0], [0.0, 2.0]], 5.0)
    """
    n = gains.shape[-1]
    if turn.pairs:
        return _turned_planes(xp, turn.pairs, gains)
    if not turn.centred:
        u, s, vt = xp.linalg.svd(gains)
        return xp.swapaxes(xp.matmul(u, vt), -1, -2), s.sum(-1)
    basis = xp.asarray(mean_free(n), gains.dtype)
    u, s, vt = xp.linalg.svd(xp.matmul(xp.matmul(basis.T, gains), basis))
    q = xp.matmul(xp.matmul(basis, xp.swapaxes(xp.matmul(u, vt), -1, -2)), basis.T)
    one = xp.asarray(1 / n, gains.dtype)
    return q + one, s.sum(-1) + gains.sum((-2, -1)) * one


def _turned_planes(xp, pairs: tuple[tuple[int, int], ...], gains: Any) -> tuple[Any, Any]:
    first, second = (np.asarray(c) for c in zip(*pairs, strict=True))
    along = gains[..., first, first] + gains[..., second, second]
    across = gains[..., second, first] - gains[..., first, second]
    length = xp.sqrt(along**2 + across**2)
    safe = xp.where(length > 0, length, 1)
    cos, sin = xp.where(length > 0, along / safe, 1), across / safe
    n = gains.shape[-1]
    rest = [i for i in range(n) if not any(i in p for p in pairs)]
    one = np.eye(n)
    patterns = [  # where cosines, and sines, of each plane stand
        (cos, [one[[f, s]].T @ one[[f, s]] for f, s in pairs]),
        (sin, [np.outer(one[f], one[s]) - np.outer(one[s], one[f]) for f, s in pairs]),
    ]
    q: Any = xp.asarray(one[rest].T @ one[rest], gains.dtype)
    for amount, pattern in patterns:
        q = q + xp.tensordot(amount, xp.asarray(np.stack(pattern), gains.dtype), ((-1,), (0,)))
    left = sum((gains[..., i, i] for i in rest), xp.zeros(gains.shape[:-2], gains.dtype))
    return q, length.sum(-1) + left


def turn_block(xp, block: Block, x: Any, k: int, matrix: Any) -> Any:
    """A block times ``matrix[*batch, *parents]`` from the right along its axis ``k``."""
    rank = len(block.axes)
    front = block.parents[k] if block.parents else ()
    rest = [j for j in range(rank) if j != k and j not in front]
    order = [*front, *rest, k]
    lead = x.ndim - rank
    batch = matrix.ndim - len(front) - 2
    if lead < batch:
        x = x.reshape((1,) * (batch - lead) + x.shape)
    elif batch < lead:
        matrix = matrix.reshape((1,) * (lead - batch) + matrix.shape)
    lead = x.ndim - rank
    y = x.transpose([*range(lead), *(lead + j for j in order)])
    shape = y.shape
    flat = y.reshape(*shape[: lead + len(front)], prod(block.shape[j] for j in rest), shape[-1])
    precise = {} if xp is np else {"precision": "highest"}
    y = xp.matmul(flat, matrix, **precise)
    y = y.reshape(*y.shape[:-2], *shape[lead + len(front) :])
    return y.transpose([*range(lead), *(lead + order.index(j) for j in range(rank))])


def mean_free(n: int) -> np.ndarray:
    """An orthonormal basis, ``(n, n - 1)``, of the vectors that sum to zero."""
    columns = np.zeros((n, n - 1))
    for k in range(n - 1):
        columns[: k + 1, k], columns[k + 1, k] = 1.0, -(k + 1.0)
    return columns / np.linalg.norm(columns, axis=0)
