"""The distance between two networks up to the symmetries of a spec.

Both networks are brought to weights of smallest norm in their orbits (see :func:`canonicalise`). What is left of
the group then is compact and moves weights without stretching them: permutations, signs, rotations. The
quotient distance is the smallest Euclidean distance over that group,

    ``d(a, b) = min_k || k a' - b' ||``,

a metric on orbits of networks that have such weights (G. Kempf, L. Ness 1979 for the shortest vectors; for
the metric on a quotient by isometries, P. W. Michor, "Topics in Differential Geometry", 2008, section 29). It
is bounded from above here: from the canonical forms, and from a greedy matching layer by layer, the
alignment is improved one set of units or one generator at a time, each step optimal with the others held:
assignments for permutations (S. Ainsworth, J. Hayase, S. Srinivasa, "Git Re-Basin", ICLR 2023, weight
matching), with signs decided along; orthogonal Procrustes for rotations. The minimum over permutations of
several layers at once is NP-hard: what is found is an upper bound, exact where nothing but one set of units,
or one rotation, is to be found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from wsljax._compat import enable_x64
from wsljax.symmetry import Linear, Orthogonal, Sign, Spec

from .canonicalise import canonical_state
from .progress import Progress, rows
from .rotations import frame, in_frame

BETTER = 1e-12


class QuotientAlignment(NamedTuple):
    """Two networks brought together; all in float64 on the host.

    Attributes:
        distance: upper bound of the quotient distance.
        canonical_distance: between the canonical forms, before they are aligned further.
        raw_distance: between the weights as given.
        first, second: representatives of the two orbits, ``distance`` apart; trees of numpy arrays.
        notes: what the canonical forms left open, in words.
    """

    distance: float
    canonical_distance: float
    raw_distance: float
    first: Any
    second: Any
    notes: tuple[str, ...]


def quotient_distance(a: Any, b: Any, spec: Spec, *, sweeps: int = 20) -> float:
    """An upper bound of the distance between two networks up to symmetry; see the module.

    Zero, up to rounding, for networks of one orbit; symmetric.

    Args:
        a, b: weights that match the spec; values, not tracers.
        spec: the group.
        sweeps: rounds of alignment, at most; with 0 the distance of the canonical forms.

    Raises:
        ValueError: for params that do not match, are not finite, or are tracers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k3, (8, 3)), kinds=("permutation", "scale"))
        >>> moved = spec.act(spec.sample(jax.random.key(1)), p)
        >>> quotient_distance(p, moved, spec) < 1e-4
        True
    """
    return quotient_alignment(a, b, spec, sweeps=sweeps).distance


def quotient_alignment(a: Any, b: Any, spec: Spec, *, sweeps: int = 20) -> QuotientAlignment:
    """As :func:`quotient_distance`, with the aligned networks and the distances on the way.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k3, (8, 3)), kinds=("permutation", "sign"))
        >>> other = jax.tree.map(lambda x: x + 0.01, p)
        >>> found = quotient_alignment(p, spec.act(spec.sample(jax.random.key(1)), other), spec)
        >>> found.raw_distance > 1, round(found.distance, 4) <= round(0.01 * 20**0.5, 4)
        (True, True)
    """
    if sweeps < 0:
        raise ValueError(f"`sweeps` must not be negative, got {sweeps}")
    x, y = canonical_state(a, spec), canonical_state(b, spec)
    given = _distance(_host(spec.flatten(a)), _host(spec.flatten(b)))
    canonical = _distance(x.blocks, y.blocks)
    found = [(canonical, x.params, y.params)]
    if sweeps:
        for one, other, swapped in ((x, y, False), (y, x, True)):
            for greedy in (False, True):
                moving = one.copy()
                distance = _align(moving, other.blocks, sweeps, greedy)
                pair = (other.params, moving.params) if swapped else (moving.params, other.params)
                found.append((distance, *pair))
    distance, first, second = min(found, key=lambda f: f[0])
    host = lambda tree: jax.tree.map(np.asarray, tree)  # noqa: E731
    notes = tuple(dict.fromkeys([*x.notes, *y.notes]))
    return QuotientAlignment(distance, canonical, given, host(first), host(second), notes)


def _host(leaves) -> dict[str, np.ndarray]:
    return {str(i): np.asarray(x, np.float64) for i, x in enumerate(leaves)}


def _distance(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum((a[n] - b[n]) ** 2) for n in a)))


# ------------------------------------------------------------------------------------ improving
def _align(state: Progress, target: Mapping[str, np.ndarray], sweeps: int, greedy: bool) -> float:
    """Move towards the target, one set of units or one generator at a time."""
    if greedy:
        _match_in_order(state, target)
    distance = _distance(state.blocks, target)
    for _ in range(sweeps):
        before = distance
        for element in _moves(state, target):
            with enable_x64():
                moved = state.spec.blocks(state.moved(element))
            there = _distance({n: np.asarray(v) for n, v in moved.items()}, target)
            if there < distance * (1 - BETTER):
                state.apply(element)
                distance = there
        if distance >= before * (1 - 1e-9):
            break
    return distance


def _moves(state: Progress, target: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """For each set of units and each generator the best element, the others held."""
    for u in state.spec.units:
        yield _assignment(state, target, u)
    for gen in state.spec.generators:
        if isinstance(gen, Orthogonal) or (isinstance(gen, Linear) and not gen.pairs):
            yield {gen.name: _procrustes(gen, state, target)}
        elif isinstance(gen, Linear):
            yield {gen.name: _turn_planes(gen, state, target)}
        elif isinstance(gen, Sign) and gen.name not in state.fixed:
            gain = sum(np.einsum("...rn,...rn->...n", x, y) for x, y in _sides(gen, state, target))
            yield {gen.name: np.where(gain < 0, -1, 1)}


def _match_in_order(state: Progress, target: Mapping[str, np.ndarray]) -> None:
    """Assignments from blocks alone whose other units are matched already."""
    waiting = list(state.spec.units)
    open_names = {u.name for u in waiting}
    while waiting:
        scores = []
        for u in waiting:
            usable = [
                b.name
                for b in state.spec.layout
                if list(b.axes).count(u.name) == 1
                and not (set(b.axes) - {u.name, *u.over}) & open_names
            ]
            ready = not set(u.over) & open_names
            scores.append((ready, sum(state.blocks[n].size for n in usable), usable))
        best = max(range(len(waiting)), key=lambda i: scores[i][:2])
        u, usable = waiting.pop(best), scores[best][2]
        open_names.discard(u.name)
        if usable:
            state.apply(_assignment(state, target, u, usable))


def _assignment(state: Progress, target, u, names=None) -> dict[str, np.ndarray]:
    """The permutation, and the signs of the same units, that match best."""
    spec = state.spec
    flips = [
        g
        for g in spec.generators
        if isinstance(g, Sign)
        and g.units == u.name
        and g.over == u.over
        and not g.carries
        and g.name not in state.fixed
    ]
    flip = flips[0] if len(flips) == 1 else None
    signed = {t.block for t in flip.terms} if flip else set()
    copies = [spec.size_of(o) for o in u.over]
    even = np.zeros((*copies, u.size, u.size))
    odd = np.zeros_like(even)
    for b in spec.layout:
        if names is not None and b.name not in names:
            continue
        for k, name in enumerate(b.axes):
            if name == u.name:
                where = (*b.parents[k], k)
                x, y = (_in_rows(v[b.name], where) for v in (state.blocks, target))
                score = odd if b.name in signed else even
                score += np.swapaxes(x, -1, -2) @ y
    score = even + np.abs(odd)
    perm = _assign(-np.swapaxes(score, -1, -2).reshape(-1, u.size, u.size))
    perm = perm.reshape(*copies, u.size)
    element = {u.name: perm}
    if flip is not None:
        picked = np.take_along_axis(np.swapaxes(odd, -1, -2), perm[..., None], -1)[..., 0]
        signs = np.ones(flip.shape, np.int64)
        np.put_along_axis(signs, perm, np.where(picked < 0, -1, 1), -1)
        element[flip.name] = signs
    return element


def _in_rows(x: np.ndarray, where: tuple[int, ...]) -> np.ndarray:
    rest = [k for k in range(x.ndim) if k not in where]
    x = x.transpose([*where[:-1], *rest, where[-1]])
    return x.reshape(*x.shape[: len(where) - 1], -1, x.shape[-1])


@jax.jit
def _hungarian(costs):
    def one(cost):
        i, j = optax.assignment.hungarian_algorithm(cost)
        return jax.numpy.zeros_like(j).at[i].set(j)

    return jax.lax.map(one, costs)


def _assign(costs: np.ndarray) -> np.ndarray:
    """For each matrix the column given to each row, at least cost."""
    if costs.shape[-1] == 1:
        return np.zeros(costs.shape[:-1], np.int64)
    with enable_x64():
        return np.asarray(_hungarian(jax.numpy.asarray(costs)))


def _sides(gen, state: Progress, target):
    return [(rows(gen, t, state.blocks), rows(gen, t, target)) for t in gen.terms]


def _procrustes(gen, state: Progress, target) -> np.ndarray:
    """The orthogonal matrix that brings all weights along the axis closest to the target's."""
    basis = frame(gen)
    m = sum(np.swapaxes(x, -1, -2) @ y for x, y in _sides(gen, state, target))
    u, _, vt = np.linalg.svd(basis.T @ m @ basis)
    return in_frame(gen, u @ vt)


def _turn_planes(gen: Linear, state: Progress, target) -> np.ndarray:
    first, second = (list(c) for c in zip(*gen.pairs, strict=True))
    total: Any = 0.0
    for x, y in _sides(gen, state, target):
        z, w = (v[..., first] + 1j * v[..., second] for v in (x, y))
        total = total + (np.conj(z) * w).sum(-2)
    angle = np.angle(total)
    with enable_x64():
        return np.asarray(gen.exp(jax.numpy.asarray(np.stack([0 * angle, angle], -1))))
