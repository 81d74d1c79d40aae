"""``cycle_consistent_matching``: many networks aligned at once, so that going around a circle leads back.

Aligned by pairs, three networks disagree: from the first to the second to the third is not from the first to
the third. Here every network gets one element ``P_i``, into a *universe* that all share, and the element
that aligns ``j`` to ``i`` is ``P_i^-1 P_j``: consistent by construction. What is maximised is the agreement of
all pairs, ``sum_{i<j} <act(P_i, x_i), act(P_j, x_j)>`` (D. Crisostomi et al., "C2M3: Cycle-Consistent
Multi-Model Merging", NeurIPS 2024, equation 4), over all units of all networks jointly, by the Frank-Wolfe
method on doubly stochastic matrices. With ``s`` the sum of all networks it is ``(|s|^2 - sum |x_i|^2) / 2``, so a
step costs as much as there are networks, not pairs.

Different here: any spec; a search along each line that is exact (the objective is a polynomial there); a
start that knows one network from another (between equal matrices all gradients are equal); and at the end
coordinate ascent, each network against the sum of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.symmetry import Spec

from .exchange import Arrays
from .problem import Problem
from .relaxed import centre, matrices, mix
from .stacks import floating, matching_problem
from .traced import assign
from .weight_matching import weight_matching

GRID = 128
"""Points of a line that are looked at, and again between the neighbours of the best."""
CALM = 1e-6
"""Ends where a step gains less, relatively."""


class CycleConsistent(NamedTuple):
    """What was found, for ``n`` networks.

    Attributes:
        element: ``{units: (n, *copies, size)}``, into the universe: ``spec.act(element of i, network i)``
            are aligned to each other.
        objective: the sum over all pairs of ``<x_i, x_j>`` of the aligned networks, over all weights.
        before: the same of the networks as given.
    """

    element: dict[str, jax.Array]
    objective: jax.Array
    before: jax.Array

    def of(self, i: int) -> dict[str, jax.Array]:
        """The element of one network."""
        return {n: x[i] for n, x in self.element.items()}

    def between(self, spec: Spec, i: int, j: int) -> dict[str, jax.Array]:
        """The element that aligns network ``j`` to network ``i``."""
        return spec.compose(spec.inverse(self.of(i)), self.of(j))


def cycle_consistent_matching(
    networks: Any,
    spec: Spec,
    *,
    key: jax.Array,
    steps: int = 100,
    sweeps: int = 50,
    restarts: int = 1,
) -> CycleConsistent:
    """One element for each of many networks, which align all of them to each other.

    Args:
        networks: two or more of one spec, a sequence, or a stack (each leaf with one more axis in front).
        spec: whose permutations to use; its generators are left alone.
        key: draws which networks starts are made from, and orders of visits.
        steps: of the Frank-Wolfe method, at most; 0 for coordinate ascent alone.
        sweeps: rounds of coordinate ascent through all networks at the end, at most.
        restarts: how often to try, each time from another network; the best is kept.

    Returns:
        :class:`CycleConsistent`.

    Raises:
        ValueError: for fewer than two networks, weights that do not match the spec or are not finite, or
            counts that are negative.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> p = {"w": jax.random.normal(k1, (3, 5)), "v": jax.random.normal(k2, (5, 2))}
        >>> spec = symmetry.infer(fn, p, jnp.ones((1, 3)), kinds=("permutation",))
        >>> networks = [spec.act(spec.sample(jax.random.key(n)), p) for n in range(3)]
        >>> found = cycle_consistent_matching(networks, spec, key=jax.random.key(2))
        >>> aligned = [spec.act(found.of(i), x) for i, x in enumerate(networks)]
        >>> bool(jnp.allclose(aligned[0]["w"], aligned[2]["w"]))
        True
        >>> around = [found.between(spec, i, j) for i, j in ((0, 1), (1, 2), (2, 0))]
        >>> spec.compose(around[0], spec.compose(around[1], around[2]))["h0"].tolist()
        [0, 1, 2, 3, 4]
    """
    if steps < 0 or sweeps < 0 or restarts < 1:
        raise ValueError(
            "`steps` and `sweeps` must not be negative and `restarts` positive, got "
            f"{steps}, {sweeps}, {restarts}"
        )
    members = unstacked(networks, spec)
    problem = matching_problem(spec, members[0])
    stack = _stack(problem, spec, members)
    key_first, key = jax.random.split(key)
    firsts = np.asarray(jax.random.permutation(key_first, len(members)))
    best: Any = None
    for attempt in range(min(restarts, len(members))):
        own = jax.random.fold_in(key, attempt)
        first = int(firsts[attempt])
        found = _start(members, spec, first, own)
        if problem.units and steps:
            started = {n: found[n] for n in problem.by_name}
            other = found | _follow(problem, steps, stack, started, jnp.asarray(first))
            gained = _objective(members, spec, other) > _objective(members, spec, found)
            found = other if gained else found
        found = _ascend(members, spec, found, own, sweeps)
        value = _objective(members, spec, found)
        if best is None or value > best[1]:
            best = found, value
    still = _repeat(spec, len(members))
    numbers = (jnp.asarray(v) for v in (best[1], _objective(members, spec, still)))
    return CycleConsistent(best[0], *numbers)


def unstacked(networks: Any, spec: Spec) -> list[Any]:
    """The networks of a sequence or of a stack, one by one.

    Raises:
        ValueError: naming the network that does not match the spec, or for fewer than two.
    """
    shapes = [leaf.shape for leaf in spec.leaves]
    leaves = jax.tree.leaves(networks)
    lead = {np.shape(x)[:1] for x in leaves}
    if len(leaves) == len(shapes) and all(np.shape(x)[1:] == s for x, s in zip(leaves, shapes)):
        if len(lead) != 1:
            raise ValueError(f"`networks` is a stack whose leaves hold {sorted(lead)} networks")
        count = next(iter(lead))[0]
        members = [jax.tree.map(lambda x: jnp.asarray(x)[i], networks) for i in range(count)]  # noqa: B023
    elif isinstance(networks, Sequence):
        members = [jax.tree.map(jnp.asarray, x) for x in networks]
    else:
        raise ValueError(
            "`networks` must be a sequence of networks, or a stack: the tree of one with one more axis "
            "in front of each leaf"
        )
    if len(members) < 2:
        raise ValueError(f"`networks` must hold at least 2 networks, got {len(members)}")
    for i, member in enumerate(members):
        try:
            flat = spec.flatten(member)
        except ValueError as e:
            raise ValueError(f"network {i}: {e}") from None
        for leaf, x in zip(spec.leaves, flat):
            if jnp.issubdtype(x.dtype, jnp.inexact) and not bool(jnp.all(jnp.isfinite(x))):
                raise ValueError(f"network {i}: {leaf.path!r} has NaN or infinite weights")
    return members


# ------------------------------------------------------------------------------------ starts
def _repeat(spec: Spec, count: int) -> dict[str, jax.Array]:
    one = spec.identity()
    return {u.name: jnp.stack([one[u.name]] * count) for u in spec.units}


def _start(members, spec: Spec, first: int, key: jax.Array) -> dict[str, jax.Array]:
    """Every network matched to one of them."""
    others = [i for i in range(len(members)) if i != first]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *(members[i] for i in others))
    only = ("permutation",)
    found = weight_matching(members[first], stack, spec, key=key, kinds=only).element
    order = jnp.asarray(np.argsort([first, *others]))
    one = spec.identity()
    return {n: jnp.concatenate([one[n][None], x])[order] for n, x in found.items()}


# ------------------------------------------------------------------------------------ Frank-Wolfe
def _stack(problem: Problem, spec: Spec, members) -> dict[str, jax.Array]:
    keep = {b.name for b in problem.blocks}
    every = [spec.blocks(m) for m in members]
    return {n: floating(jnp, jnp.stack([x[n] for x in every])) for n in every[0] if n in keep}


def agreement_of_all(problem: Problem, stack: Arrays, mats: Arrays) -> jax.Array:
    """The sum over all pairs of ``<x_i, x_j>``, of networks mixed by matrices; not more work than mixing."""
    moved = jax.vmap(partial(mix, problem))(stack, mats)
    shares = [jnp.sum(jnp.square(jnp.sum(x, 0))) - jnp.sum(jnp.square(x)) for x in moved.values()]
    return sum(shares[1:], shares[0]) / 2


@partial(jax.jit, static_argnums=(0, 1))
def _follow(problem: Problem, steps: int, stack: Arrays, started: Arrays, first: jax.Array):
    """From half-way between the centre and a start, to where no vertex promises a gain; rounded."""
    dtype = jnp.result_type(*jax.tree.leaves(stack))
    value = partial(agreement_of_all, problem, stack)
    middle = centre(problem, dtype)
    count = len(next(iter(started.values())))
    share = jnp.where(jnp.arange(count) == first, 1.0, 0.5).astype(dtype)
    blend = lambda p, c: jax.vmap(lambda p, s: s * p + (1 - s) * c)(p, share)  # noqa: E731
    mats = {n: blend(p, middle[n]) for n, p in matrices(started, dtype).items()}
    most = max(sum(axis in problem.by_name for axis in b.axes) for b in problem.blocks)
    top = exact_maximum(2 * most, dtype)

    def step(state):
        mats, _, turn = state
        gradient = jax.grad(value)(mats)
        vertex = matrices({n: assign(g) for n, g in gradient.items()}, dtype)
        at = lambda t: jax.tree.map(lambda p, q: (1 - t) * p + t * q, mats, vertex)  # noqa: E731
        share, gain, size = top(lambda t: value(at(t)))
        better = gain > CALM * size
        return at(jnp.where(better, share, 0)), better, turn + 1

    state = (mats, jnp.asarray(True), 0)
    mats = jax.lax.while_loop(lambda s: s[1] & (s[2] < steps), step, state)[0]
    return {n: assign(m).astype(jnp.int32) for n, m in mats.items()}


def exact_maximum(degree: int, dtype: Any = jnp.float32):
    """A function that finds where in [0, 1] a polynomial of this degree is largest.

    Its Chebyshev coefficients come from ``degree + 1`` values; a grid, and one more around its best
    point, of the polynomial find the place to ``1 / GRID^2``.

    Returns:
        ``polynomial -> (place, gain over 0, largest absolute value)``.

    Example:
        >>> place, gain, _ = exact_maximum(4)(lambda t: t - t**4)
        >>> round(float(place), 3), round(float(gain), 4)
        (0.63, 0.4725)
    """
    k = np.arange(degree + 1)
    nodes = np.cos(np.pi * (k + 0.5) / (degree + 1))
    basis = lambda s: jnp.cos(jnp.asarray(k, dtype) * jnp.arccos(jnp.clip(s, -1, 1))[..., None])  # noqa: E731
    fit = np.linalg.inv(np.cos(k * np.arccos(nodes)[:, None]))

    def find(polynomial):
        values = jax.lax.map(polynomial, jnp.asarray((nodes + 1) / 2, dtype))
        zero = polynomial(jnp.zeros((), dtype))
        coefficients = jnp.asarray(fit, dtype) @ (values - zero).astype(dtype)
        at = lambda s: basis(s) @ coefficients  # noqa: E731
        s = jnp.linspace(-1, 1, GRID + 1, dtype=dtype)
        best = s[jnp.argmax(at(s))]
        near = jnp.clip(best + s * (2 / GRID), -1, 1)
        best = near[jnp.argmax(at(near))]
        return (best + 1) / 2, at(best), jnp.max(jnp.abs(values))

    return find


# ------------------------------------------------------------------------------------ coordinate ascent
def _ascend(members, spec: Spec, element, key: jax.Array, sweeps: int) -> dict[str, jax.Array]:
    """Each network in turn is matched to the sum of the others, until none moves."""
    moved = [spec.act({n: x[i] for n, x in element.items()}, m) for i, m in enumerate(members)]
    element = {n: list(x) for n, x in element.items()}
    for sweep in range(sweeps):
        own, still = jax.random.fold_in(key, sweep), True
        for i in map(int, np.asarray(jax.random.permutation(own, len(members)))):
            rest = jax.tree.map(_sum, *(m for j, m in enumerate(moved) if j != i))
            found = weight_matching(
                rest, moved[i], spec, key=jax.random.fold_in(own, i), kinds=("permutation",),
                start="identity",
            )  # fmt: skip
            if float(found.objective) <= float(found.before) + 1e-6 * abs(float(found.before)):
                continue
            still = False
            moved[i] = spec.act(found.element, moved[i])
            now = spec.compose(found.element, {n: x[i] for n, x in element.items()})
            for n, x in now.items():
                element[n][i] = x
        if still:
            break
    return {n: jnp.stack(x) for n, x in element.items()}


def _sum(*leaves: jax.Array) -> jax.Array:
    if not jnp.issubdtype(leaves[0].dtype, jnp.inexact):
        return leaves[0]
    return sum(leaves[1:], leaves[0])


def _objective(members, spec: Spec, element) -> float:
    """In float64, over all weights."""
    sums, squares = None, 0.0
    for i, m in enumerate(members):
        leaves = spec.flatten(spec.act({n: x[i] for n, x in element.items()}, m))
        leaves = [np.asarray(x) for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
        wide = [x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) for x in leaves]
        squares += sum(float(np.sum(np.abs(x) ** 2)) for x in wide)
        sums = wide if sums is None else [x + y for x, y in zip(sums, wide)]
    return (sum(float(np.sum(np.abs(x) ** 2)) for x in sums or ()) - squares) / 2
