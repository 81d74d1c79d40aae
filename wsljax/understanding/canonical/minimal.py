"""Scalings and general linear maps: the weights of smallest norm in the orbit.

Source: G. Kempf, L. Ness, "The length of vectors in representation spaces", 1979: in the orbit of a
reductive group (scalings, ``GL(n)``) that has a shortest vector, the shortest vectors differ by the compact
part of the group alone (signs, permutations, orthogonal maps). Balancing is the case of scalings; for a
pair of matrices ``X A``, ``Y A^-T`` the shortest are ``U sqrt(S)``, ``V sqrt(S)`` with
``X Y^T = U S V^T``, found from two QR decompositions and the SVD of a small matrix, so that nothing of the size
of ``X Y^T`` is ever made. All generators are taken in turn, which lowers one (geodesically) convex function,
until none moves.

Gains through which other generators act are brought to one first. What has no shortest vector is noted: a
bottleneck whose ways in and out have different ranks, say.
"""

from __future__ import annotations

import jax
import numpy as np

from wsljax._compat import enable_x64
from wsljax.symmetry import Generator, Linear, Scale, Sign, Uniform

from ..optimisers.scaling import offsets
from ..optimisers.shortest import solve
from .progress import Progress, rows

SWEEPS, STILL = 300, 1e-12
SMALL, TIE = 1e-9, 1e-7


def fold_gains(state: Progress) -> None:
    """Bring the gains through which generators act to one, by scalings and signs that move them."""
    spec = state.spec
    gains = {b for g in spec.generators for t in g.terms for b in (*t.through, *t.under)}
    for gain in sorted(gains):
        for kind in (Scale, Sign):
            movers = [
                (g, t)
                for g in spec.generators
                if isinstance(g, kind) and g.name not in state.fixed
                for t in g.terms
                if t.block == gain and not (t.through or t.under)
            ]
            if not movers:
                if np.any(np.abs(state.blocks[gain] - 1) > 1e-6) and kind is Scale:
                    state.note(f"gain {gain!r} has no scaling of its own and was left as it is")
                continue
            gen, term = movers[0]
            x = state.blocks[gain].transpose(term.where)
            if kind is Scale and not np.all(x):
                state.note(f"gain {gain!r} is zero for some units, whose weights stay as they are")
            if kind is Scale:
                amount = np.where(
                    x == 0, 1.0, np.abs(np.where(x == 0, 1, x)) ** (-1 / term.exponent)
                )
            else:
                amount = np.where(x < 0, -1, 1)
            state.apply({gen.name: amount})
            state.fixed.add(gen.name)


def shorten(state: Progress) -> None:
    """Move to a shortest vector of the orbit, under scalings and general linear maps together."""
    spec = state.spec
    scales = tuple(
        g for g in spec.generators if isinstance(g, (Scale, Uniform)) and g.name not in state.fixed
    )
    linear = [g for g in spec.generators if isinstance(g, Linear)]
    skipped: set[str] = set()
    for _ in range(SWEEPS):
        moved = 0.0
        if scales:
            t, gap = _scale_step(state, scales)
            moved = max([moved, *(float(np.max(np.abs(x), initial=0)) for x in t.values())])
            if gap > 1e-7:
                state.note(
                    f"scalings {[g.name for g in scales]} have no balance (imbalance {gap:.1e}): the "
                    "norm has no minimum on the orbit"
                )
                skipped |= {g.name for g in scales}
                scales = ()
        for gen in linear:
            if gen.name in skipped:
                continue
            step = _pairs_step(gen, state) if gen.pairs else _linear_step(gen, state)
            if isinstance(step, str):
                state.note(step)
                skipped.add(gen.name)
                continue
            gram = np.swapaxes(step, -1, -2) @ step
            moved = max(moved, float(np.max(np.abs(gram - np.eye(gen.size)))))
            state.apply({gen.name: step})
        if moved < STILL:
            break
    else:
        state.note(
            f"scalings and linear maps had not settled after {SWEEPS} rounds (last step {moved:.1e})"
        )


def _scale_step(state: Progress, scales) -> tuple[dict[str, np.ndarray], float]:
    names = {t.block for g in scales for t in g.terms}
    shift = offsets(scales)
    with enable_x64():
        blocks = {n: state.blocks[n] + shift.get(n, 0.0) for n in sorted(names)}
        t, gap, _ = solve(scales, blocks, 2.0, anchored=True, steps=200, tol=1e-13)
    t = {n: np.asarray(x) for n, x in t.items()}
    state.apply({n: np.exp(x) for n, x in t.items()})
    return t, float(gap)


def _stacked(gen: Generator, blocks, sign: int) -> np.ndarray | None:
    found = [rows(gen, t, blocks) for t in gen.terms if (t.exponent > 0) == (sign > 0)]
    return np.concatenate(found, -2) if found else None


def _linear_step(gen: Linear, state: Progress) -> np.ndarray | str:
    """The matrices that bring both sides to ``U sqrt(S)`` and ``V sqrt(S)``; or why there are none."""
    x, y = _stacked(gen, state.blocks, 1), _stacked(gen, state.blocks, -1)
    if x is None or y is None:
        return f"{gen.name!r} has one side only: no shortest weights"
    copies, n = x.shape[:-2], gen.size
    out = np.zeros((int(np.prod(copies, dtype=int)), n, n))
    ties = False
    for i, (a, b) in enumerate(zip(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]))):
        r1, r2 = np.linalg.qr(a)[1], np.linalg.qr(b)[1]
        u, s, vt = np.linalg.svd(r1 @ r2.T)
        rank = _rank(s)
        if (
            not rank
            == _rank(np.linalg.svd(r1, compute_uv=False))
            == _rank(np.linalg.svd(r2, compute_uv=False))
        ):
            return (
                f"{gen.name!r}: the weights going in, those coming out, and their product have "
                "different ranks, so the orbit has no shortest weights; left as they are"
            )
        s = s[:rank]
        ties |= bool(rank > 1 and np.min(s[:-1] - s[1:]) < TIE * s[0])
        into = r2.T @ vt[:rank].T / np.sqrt(s)
        if rank < n:
            null = np.linalg.svd(r1)[2][rank:].T
            into = np.concatenate([into, null], 1)
        out[i] = into
    if ties:
        state.note(f"{gen.name!r}: singular values tie, and the basis among them is arbitrary")
    return out.reshape(*copies, n, n)


def _rank(s: np.ndarray) -> int:
    return int(np.sum(s > SMALL * s[0])) if s.size and s[0] > 0 else 0


def _pairs_step(gen: Linear, state: Progress) -> np.ndarray | str:
    """Planes that are only rotated and scaled: their scaling by balance."""
    first, second = (list(c) for c in zip(*gen.pairs, strict=True))
    sums = []
    for sign in (1, -1):
        x = _stacked(gen, state.blocks, sign)
        if x is None:
            return f"{gen.name!r} has one side only: no shortest weights"
        square = (x**2).sum(-2)
        sums.append(square[..., first] + square[..., second])
    alive = (sums[0] > 0) & (sums[1] > 0)
    log_s = np.where(
        alive, np.log(np.where(alive, sums[1], 1) / np.where(alive, sums[0], 1)) / 4, 0
    )
    with enable_x64():
        return np.asarray(gen.exp(jax.numpy.asarray(np.stack([log_s, 0 * log_s], -1))))
