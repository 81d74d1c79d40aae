"""All directions at one point: those that change no output, and those in which the generators move.

Dense matrices over all entries of all leaves, for small networks; they know nothing of how generators are
found.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from ..._compat import enable_x64
from .probe import CannotProbe, Probe

SMALL, GAP = 1e-9, 1e-3
TOGETHER = 16
"""Rows or columns of a Jacobian that are computed at a time."""


def numerical_rank(sizes: np.ndarray, small: float = SMALL) -> int:
    """Rank from singular values in falling order: cut at the first wide gap among what may be rounding
    (``small`` of the largest), if there is one."""
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return 0
    ratios = sizes[1:] / sizes[:-1]
    below = np.flatnonzero((sizes[1:] < small * sizes[0]) & (ratios < GAP))
    if len(below):
        return int(below[0]) + 1
    return int(np.sum(sizes > small * 1e-4 * sizes[0]))


def row_space(jacobian: np.ndarray, tolerance: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rows that span those of a matrix, and others that span its null space; ``tolerance``
    (`Probe.tolerance`) is what of it is rounding, where that is more than in float64."""
    if len(jacobian) > jacobian.shape[1]:
        jacobian = np.linalg.qr(jacobian, mode="r")  # pyright: ignore[reportAssignmentType]
    _, sizes, rows = np.linalg.svd(jacobian)
    n = numerical_rank(sizes, max(SMALL, tolerance))
    return rows[:n], rows[n:]


def jacobian(
    probe: Probe, leaves: Sequence[np.ndarray], draws: int | None = None, first: int = 0
) -> np.ndarray:
    """Rows: outputs over ``draws`` random inputs, at the given leaves; columns: all entries of all leaves.

    By default as many inputs as give three outputs for each entry; ``first`` is the number of the first one.
    """
    outputs = len(probe.draw(0)[2])
    size = sum(x.size for x in leaves)
    draws = draws or int(np.ceil(3 * size / outputs)) + 2
    return np.concatenate(
        [
            jacobian_at(probe, leaves, probe.inputs_at(k, leaves))
            for k in range(first, first + draws)
        ]
    )


def jacobian_at(probe: Probe, leaves: Sequence[np.ndarray], inputs: list) -> np.ndarray:
    """That of one input: row by row where outputs are fewer than entries, if the function allows; else column
    by column."""
    start = np.cumsum([0, *(x.size for x in leaves)])

    def of_flat(v, leaves, ins):
        parts = [v[a:b].reshape(x.shape) for a, b, x in zip(start[:-1], start[1:], leaves)]
        return probe.flat(parts, ins)

    def rows(leaves, ins):
        v = jnp.concatenate([jnp.ravel(x) for x in leaves])
        y, pull = jax.vjp(lambda v: of_flat(v, leaves, ins), v)
        return jax.lax.map(lambda e: pull(e)[0], jnp.eye(len(y)), batch_size=TOGETHER)

    def columns(leaves, ins):
        v = jnp.concatenate([jnp.ravel(x) for x in leaves])
        _, push = jax.linearize(lambda v: of_flat(v, leaves, ins), v)
        return jax.lax.map(push, jnp.eye(len(v)), batch_size=TOGETHER).T

    leaves = list(leaves)
    if len(probe.draw(0)[2]) < start[-1]:
        try:
            return np.asarray(probe.program("jacobian by rows", rows, leaves, inputs))
        except CannotProbe:
            pass
    return np.asarray(probe.program("jacobian by columns", columns, leaves, inputs))


def tangents(probe: Probe, spec, leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Rows: the directions in which the Lie algebra of ``spec`` moves the leaves."""
    with enable_x64():
        zero = {n: np.asarray(x) for n, x in spec.algebra().items()}
    if not zero:
        return np.zeros((0, sum(x.size for x in leaves)))

    def moved(v, leaves):
        out = spec.act(spec.exp(v), probe.treedef.unflatten(leaves))
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(out)])

    def all_of(v, leaves):
        _, push = jax.linearize(lambda w: moved(w, leaves), v)
        flat, unravel = jax.flatten_util.ravel_pytree(v)
        return jax.lax.map(lambda e: push(unravel(e)), jnp.eye(flat.size), batch_size=TOGETHER)

    return np.asarray(probe.program(f"tangents {hash(spec)}", all_of, zero, list(leaves)))


def spanned(rows: np.ndarray) -> int:
    """The dimension of what directions of any lengths span."""
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 1e-12 * np.max(lengths, initial=0)]
    if not rows.size:
        return 0
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return numerical_rank(np.linalg.svd(rows, compute_uv=False))
