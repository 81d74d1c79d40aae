"""Orthogonal generators: the principal axes of the weights they turn.

The Gram matrix ``C = sum x^T x`` of all weights along the axis moves to ``Q^T C Q``. Its eigenvectors, in the
order of descending eigenvalues, are a basis that every network of the orbit has in common, up to signs.
Where eigenvalues tie the basis is arbitrary among them, which is noted; directions without weights do not
matter. Planes that may only be turned (rotary positions) are turned to their principal axes likewise.
"""

from __future__ import annotations

import jax
import numpy as np

from wsljax._compat import enable_x64
from wsljax.symmetry import Linear, Orthogonal

from .progress import Progress, rows

TIE, NOTHING = 1e-7, 1e-10


def turn(state: Progress) -> None:
    """Bring the axes of orthogonal generators, and planes of linear ones, to principal axes."""
    for gen in state.spec.generators:
        if isinstance(gen, Orthogonal):
            gram = sum(np.swapaxes(x, -1, -2) @ x for x in _all(gen, state))
            basis = frame(gen)
            gram = basis.T @ gram @ basis
            values, vectors = np.linalg.eigh(gram)
            values, vectors = values[..., ::-1], vectors[..., ::-1]
            _note_ties(state, gen.name, values)
            state.apply({gen.name: in_frame(gen, vectors)})
        elif isinstance(gen, Linear) and gen.pairs:
            first, second = (list(c) for c in zip(*gen.pairs, strict=True))
            z = [x[..., first] + 1j * x[..., second] for x in _all(gen, state)]
            total = sum((c**2).sum(-2) for c in z)
            size = sum((np.abs(c) ** 2).sum(-2) for c in z)
            if np.any((np.abs(total) < TIE * size) & (size > 0)):
                state.note(f"{gen.name!r}: a plane has no principal axis; its angle is arbitrary")
            angle = -np.angle(total) / 2
            with enable_x64():
                v = jax.numpy.asarray(np.stack([0 * angle, angle], -1))
                state.apply({gen.name: np.asarray(gen.exp(v))})


def frame(gen) -> np.ndarray:
    """Orthonormal columns: the directions that an orthogonal generator turns."""
    n = gen.size
    if not getattr(gen, "centred", False):
        return np.eye(n)
    columns = np.zeros((n, n - 1))
    for k in range(n - 1):
        columns[: k + 1, k], columns[k + 1, k] = 1.0, -(k + 1.0)
    return columns / np.linalg.norm(columns, axis=0)


def in_frame(gen, q: np.ndarray) -> np.ndarray:
    """The matrix that turns what the generator may turn by ``q``, and leaves the mean."""
    basis = frame(gen)
    rest = np.eye(gen.size) - basis @ basis.T
    return basis @ q @ basis.T + rest


def _all(gen, state: Progress) -> list[np.ndarray]:
    return [rows(gen, t, state.blocks) for t in gen.terms]


def _note_ties(state: Progress, name: str, values: np.ndarray) -> None:
    if values.shape[-1] < 2:
        return
    largest = values[..., :1]
    near = (values[..., :-1] - values[..., 1:]) < TIE * largest
    if np.any(near & (values[..., :-1] > NOTHING * largest)):
        state.note(f"{name!r}: eigenvalues tie, and the basis among them is arbitrary")
