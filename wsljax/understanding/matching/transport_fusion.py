"""``transport_fusion``: one network in the shapes of another, by optimal transport between their units.

Units of ``b`` are transported to units of ``a``, and the weights of ``b`` along with them: every unit of ``a`` gets an
average of units of ``b``. Plans may be exact (for equal widths they are permutations, as in weight
matching) or soft, and widths may differ (S. P. Singh, M. Jaggi, "Model fusion via optimal transport", NeurIPS
2020; for transformers M. Imfeld et al., "Transformer fusion with optimal transport", ICLR 2024).

Three things are different here. Any spec will do: units that are tied over many places, as a residual stream,
have one map that all of these decide together, and heads are transported with what is inside of them.
Maps depend on each other, so they are found again until none gains, instead of once from the inputs on. And
what reads units is added up, not averaged, so that networks widened by splitting units
(T. Chen et al., "Net2Net", ICLR 2016) are fused back to exactly what they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.symmetry import Spec, trace_activations

from .open_units import anchored_order
from .problem import Problem
from .stacks import floating, matching_problem
from .summed_axes import summed_axes
from .transport import transport_plan
from .unequal import (
    Pair,
    agreement_of_maps,
    check_same_structure,
    element_maps,
    map_block,
    pair_gains,
    uniform_maps,
)
from .weight_matching import weight_matching

COSTS = ("weights", "activations")


class Fusion(NamedTuple):
    """Attributes:
    params: ``b`` in the shapes of ``a``; to be averaged with it.
    maps: ``{units: (*pairs, size in a, size in b)}``: the shares of the units of ``b`` in each unit of
        ``a``; rows sum to one. Nested units have a map for every pair of their parents, see
        :mod:`.unequal`.
    """

    params: Any
    maps: dict[str, jax.Array]


def transport_fusion(
    a: Any,
    b: Any,
    spec_a: Spec,
    spec_b: Spec | None = None,
    *,
    key: jax.Array,
    temperature: float = 0.0,
    marginals: str = "uniform",
    cost: str = "weights",
    fn: Callable | None = None,
    fn_b: Callable | None = None,
    inputs: tuple = (),
    sweeps: int = 20,
) -> Fusion:
    """Express ``b`` in the units of ``a``, of which there may be more or fewer.

    Args:
        a, b: weights, of the same structure; units may differ in number.
        spec_a, spec_b: their annotations, with the same names; one will do for equal widths.
        key: for the order of visits.
        temperature: 0 for exact plans; otherwise soft ones, relative to the spread of what units gain.
        marginals: ``"uniform"``, all units of both are used alike; ``"free"``, units of the larger
            network go wherever they fit best, as long as all of the smaller one are used.
        cost: by what units are compared, their ``"weights"``, or their ``"activations"`` on ``inputs``
            (units that are not seen in any go by weights).
        fn, fn_b: ``fn(params, *inputs)``; needed where widths differ, to find which weights add up over
            units, and for activations. ``fn_b`` is that of ``b`` if it is another.
        inputs: one batch, a tuple; for activations of values, otherwise shapes are enough.
        sweeps: visits of all units, at most.

    Returns:
        :class:`Fusion`. Leaves that are not floating are those of ``a``.

    Raises:
        ValueError: for specs of different structure, unknown options, or without a function where
            one is needed.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> a = {"w": jax.random.normal(k1, (3, 4)), "v": jax.random.normal(k2, (4, 2))}
        >>> b = {"w": jnp.repeat(a["w"], 2, 1), "v": jnp.repeat(a["v"], 2, 0) / 2}  # units split
        >>> x = jax.random.normal(k3, (5, 3))
        >>> specs = [symmetry.infer(fn, p, x, kinds=("permutation",)) for p in (a, b)]
        >>> fused = transport_fusion(a, b, *specs, key=k3, fn=fn, inputs=(x,))
        >>> fused.params["w"].shape, bool(jnp.allclose(fn(fused.params, x), fn(b, x), atol=1e-5))
        ((3, 4), True)
    """
    if cost not in COSTS:
        raise ValueError(f"`cost` must be one of {COSTS}, got {cost!r}")
    if sweeps < 0:
        raise ValueError(f"`sweeps` must not be negative, got {sweeps}")
    spec_b = spec_a if spec_b is None else spec_b
    check_same_structure(spec_a, spec_b)
    ours, theirs = matching_problem(spec_a, a), matching_problem(spec_b, b)
    sizes = {u.name: (u.size, theirs.by_name[u.name].size) for u in ours.units}
    unequal = {n: s for n, s in sizes.items() if s[0] != s[1]}
    if fn is None and (unequal or cost == "activations"):
        why = "activations are compared" if cost == "activations" else f"widths differ ({unequal})"
        raise ValueError(f"{why}: pass `fn=` and `inputs=`, so that the function can be traced")
    if not unequal and not temperature and cost == "weights":
        transport_plan(np.zeros((1, 1)), marginals=marginals)  # the options are checked
        found = weight_matching(a, b, spec_a, key=key, kinds=("permutation",))
        maps = element_maps(ours, found.element)
        return Fusion(_fused(a, b, spec_a, spec_b, maps, {}), _arrays(maps))
    other = fn if fn_b is None else fn_b
    sums = _sums(fn, other, a, b, spec_a, spec_b, inputs, sizes) if unequal else {}
    pair = Pair(
        ours,
        theirs,
        _blocks(spec_a, a, ours),
        _blocks(spec_b, b, theirs),
        sums,
        marginals == "free",
    )
    evidence = {n: pair for n in sizes}
    if cost == "activations":
        seen = _activations(fn, other, a, b, spec_a, spec_b, inputs)
        evidence |= {n: seen for n in seen.ours.by_name if seen.ours.places(n)}
    plan = lambda gains: transport_plan(gains, temperature=temperature, marginals=marginals)  # noqa: E731
    maps = _search(
        pair, evidence, plan, key, sweeps, exact=not temperature, free=marginals == "free"
    )
    return Fusion(_fused(a, b, spec_a, spec_b, maps, sums), _arrays(maps))


# ------------------------------------------------------------------------------------ the search
def _search(pair: Pair, evidence, plan, key, sweeps: int, exact: bool, free: bool):
    """Units one after the other get their best maps, first from what is known without each other."""
    problem = pair.ours
    maps = uniform_maps(pair.ours, pair.theirs)
    order = _inside_out(problem, anchored_order(problem))
    for name in order:
        maps[name] = plan(pair_gains(evidence[name], maps, name))
    guarded = [n for n in order if exact or not problem.linear(n)]
    guarded = [n for n in guarded if evidence[n] is pair]
    worth = agreement_of_maps(pair, maps, free)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    for _ in range(sweeps):
        moved, roots = False, [u.name for u in problem.roots]
        for name in _inside_out(problem, [roots[i] for i in rng.permutation(len(roots))]):
            new = plan(pair_gains(evidence[name], maps, name))
            if np.abs(new - maps[name]).max() < 1e-4:
                continue
            if name in guarded:
                there = agreement_of_maps(pair, {**maps, name: new}, free)
                if there <= worth + 1e-6 * abs(worth):
                    continue
                worth = there
            maps[name], moved = new, True
        if not moved:
            break
    return maps


def _inside_out(problem: Problem, roots) -> list[str]:
    """Each root after what is nested in it."""
    out: list[str] = []
    for root in roots:
        nested = sorted(problem.nested(root), key=lambda m: -len(m.over))
        out += [n for n in (*(m.name for m in nested), root) if n not in out]
    return out + [u.name for u in problem.units if u.name not in out]


# ------------------------------------------------------------------------------------ what is compared
def _blocks(spec: Spec, params: Any, problem: Problem) -> dict[str, np.ndarray]:
    keep = {b.name for b in problem.blocks}
    blocks = {n: floating(np, np.asarray(x)) for n, x in spec.blocks(params).items() if n in keep}
    for n, x in blocks.items():
        if not np.all(np.isfinite(x)):
            raise ValueError(f"{n!r} has NaN or infinite weights")
    return blocks


def _sums(fn, other, a, b, spec_a, spec_b, inputs, sizes) -> dict[tuple[str, int], float]:
    sums = summed_axes(other, b, spec_b, *inputs)
    if any(n > 1 and m == 1 for n, m in sizes.values()):  # of one unit a sum looks like a mean
        of_a = summed_axes(fn, a, spec_a, *inputs)
        axes = {b.name: b.axes for b in spec_b.layout}
        sums |= {at: s for at, s in of_a.items() if sizes.get(axes[at[0]][at[1]], (0, 0))[1] == 1}
    return sums


def _activations(fn, other, a, b, spec_a, spec_b, inputs) -> Pair:
    """Values inside of both functions, each unit's with mean zero and deviation one."""
    traced = [
        trace_activations(f, p, s, *inputs) for f, p, s in ((fn, a, spec_a), (other, b, spec_b))
    ]
    check_same_structure(*(t.spec for t in traced))
    problems, values = [], []
    for t, p in zip(traced, (a, b)):
        blocks = t.spec.blocks(t(p, *inputs)[1])
        layout = tuple(
            x for x in t.spec.layout if jnp.issubdtype(blocks[x.name].dtype, jnp.inexact)
        )
        names = {axis for x in layout for axis in x.axes}
        problem = Problem(layout, tuple(u for u in t.spec.units if u.name in names))
        problems.append(problem)
        values.append({x.name: _standard(np.asarray(blocks[x.name]), x, problem) for x in layout})
    return Pair(problems[0], problems[1], values[0], values[1], {})


def _standard(x: np.ndarray, block, problem: Problem) -> np.ndarray:
    x = np.abs(x) if np.iscomplexobj(x) else x.astype(np.promote_types(x.dtype, np.float32))
    rest = tuple(k for k, axis in enumerate(block.axes) if axis not in problem.by_name)
    if not rest:
        return x
    x = x - x.mean(rest, keepdims=True)
    deviation = x.std(rest, keepdims=True)
    count = np.prod([x.shape[k] for k in rest])
    return x / np.where(deviation > 1e-12, deviation * count**0.5, 1)


# ------------------------------------------------------------------------------------ what comes out
def _fused(a: Any, b: Any, spec_a: Spec, spec_b: Spec, maps, sums) -> Any:
    ours, theirs = spec_a.blocks(a), spec_b.blocks(b)
    out = {}
    for block in spec_a.layout:
        x = theirs[block.name]
        if jnp.issubdtype(x.dtype, jnp.inexact):
            wide = np.asarray(x)
            wide = wide if np.iscomplexobj(wide) else wide.astype(np.float64)
            own = {n: m for n, m in maps.items() if n in block.axes}
            out[block.name] = jnp.asarray(map_block(block, wide, own, sums), x.dtype)
        else:
            out[block.name] = ours[block.name]
    return spec_a.unblocks(out, like=a)


def _arrays(maps) -> dict[str, jax.Array]:
    return {n: jnp.asarray(m, jnp.result_type(float)) for n, m in maps.items()}
