"""Alignment under the whole group of a spec: permutations, signs, scalings, linear maps, rotations, shifts.

First both networks are brought to a common gauge (:mod:`.gauge`): then what is left of the group moves weights
without stretching them. There permutations, signs and turns are found by coordinate ascent, each step exact:
assignments with signs decided inside of them, heads from the inside out (a Procrustes problem for each pair
of heads, an assignment over their values), residual streams by Procrustes on all readers and writers stacked
(A. Theus et al., "Generalized linear mode connectivity for transformers", NeurIPS 2025, where heads are
replaced by products of their matrices; here the architecture stays). The element

    ``gauge(a)^-1  ∘  what was found  ∘  gauge(b)``

brings ``b`` into the gauge of ``a`` itself, and what is continuous is then adjusted there (:mod:`.nearest`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import enable_x64
from wsljax.symmetry import Orthogonal, Spec

from . import traced
from .comparison import Comparison, comparison_of
from .gauge import to_gauge
from .group_ascent import ascend_group
from .nearest import apart, nearest, squares

KINDS = tuple[tuple[str, Any], ...]


class GroupMatch(NamedTuple):
    """Attributes:
    element: aligns ``b`` to ``a``.
    objective, before: ``<a, act(element, b)>`` and ``<a, b>``.
    distance, distance_before: of the same.
    """

    element: dict[str, jax.Array]
    objective: jax.Array
    before: jax.Array
    distance: jax.Array
    distance_before: jax.Array


def part_of_spec(spec: Spec, kinds: tuple[str, ...] | None) -> Spec:
    """The spec with the generators of some kinds only."""
    if kinds is None:
        return spec
    return replace(spec, generators=tuple(g for g in spec.generators if g.kind in kinds))


def match_on_host(
    spec: Spec, a: Any, b: Any, many: tuple[bool, bool], pairs: int, *, permute: bool, init: Any, others: list,
    seed: np.ndarray, restarts: int, sweeps: int, start: str, refine: int,
) -> GroupMatch:  # fmt: skip
    """Pairs of networks, in float64 and with assignments by SciPy.

    Args:
        spec: with the generators to use.
        a, b: trees, with a leading axis where ``many`` says so.
        many: whether ``a``, and ``b``, are stacks.
        pairs: how many.
        permute: whether units may be exchanged.
        init: an element to start from, or none.
        others: elements of ``b``, with a leading axis if there is a stack, that are tried as well.
        seed, restarts, sweeps, start, refine: as for :func:`.weight_matching`.
    """
    compare = comparison_of(spec, permute, _dtypes(spec, a))
    single, dtype = not any(many), element_dtype(b)
    with enable_x64():
        stacks = [
            jax.tree.map(lambda x, m=m: _widened(x) if m else _widened(x)[None], t)
            for t, m in zip((a, b), many, strict=True)
        ]
        first = _stacked_element(spec, init, pairs)
        x, y = stacks
        if first is not None:
            y = _moved(spec, first, _spread_over(y, pairs))
        (ga, xs), (gb, ys) = _prepared(spec, compare, x), _prepared(spec, compare, y)
        found: Mapping[str, Any] = {}
        if compare.problem.units:
            cells = ({n: np.asarray(v) for n, v in z.items()} for z in (xs, ys))
            found = ascend_group(
                compare.problem, *cells, seed=seed, restarts=restarts, sweeps=sweeps, start=start
            )
        ga, gb, x, y = (_spread_over(t, pairs) for t in (ga, gb, *stacks))
        tried = _joined(spec, compare, ga, gb, jax.tree.map(jnp.asarray, dict(found)), first)
        whole = [_stacked_element(spec, e, pairs) for e in (tried, {}, *others)]  # compiled once
        best = _nearest_of([_finished(spec, refine, x, y, e) for e in whole])
        best = jax.tree.map(lambda x: np.asarray(x[0] if single else x), best)
    floats = lambda x: jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else None)  # noqa: E731
    return jax.tree.map(floats, best)


def match_on_device(
    fixed: tuple, a: Any, b: Any, many: tuple[bool, bool], key: jax.Array, init: Any, others: list
) -> GroupMatch:
    """Pairs of networks, by one program in the precision of the weights; as :func:`match_on_host`.

    ``fixed`` are the spec, whether units may be exchanged, options, and the number of steps at the end.
    """
    init = None if init is None else {n: jnp.asarray(x) for n, x in init.items()}
    if not any(many):
        return _match(fixed, a, b, key, init, others)
    at = tuple(0 if m else None for m in many)
    return jax.vmap(lambda a, b, e: _match(fixed, a, b, key, init, e), (*at, 0))(a, b, others)


@partial(jax.jit, static_argnums=0)
def _match(fixed, a, b, key, init, others) -> GroupMatch:
    spec, permute, options, refine = fixed
    dtype = element_dtype(b)
    compare = comparison_of(spec, permute, _dtypes(spec, a))
    a, b = (jax.tree.map(_at_least_single, t) for t in (a, b))
    moved = b if init is None else spec.act(init, b)
    (ga, x), (gb, y) = (_prepare(spec, compare, t) for t in (a, moved))
    found: dict[str, jax.Array] = {}
    if compare.problem.units:
        found, _ = traced.ascend(compare.problem, x, y, key=key, **dict(options))
    tried = _join(spec, compare, ga, gb, found, init)
    elements = [spec.identity() | dict(e) for e in (tried, {}, *others)]
    stack = {n: jnp.stack([e[n].astype(x.dtype) for e in elements]) for n, x in elements[0].items()}
    ends = jax.lax.map(lambda e: _finish(spec, refine, a, b, e), stack)
    best = jax.tree.map(lambda x: x[jnp.argmin(ends.distance)], ends)
    floats = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return jax.tree.map(floats, best)


# ------------------------------------------------------------------------------------ one pair
def _prepare(spec: Spec, compare: Comparison, params: Any):
    """The element that leads to the gauge, and what is compared there."""
    element, blocks = to_gauge(spec, spec.blocks(params))
    return element, compare.read(blocks)


def _join(spec: Spec, compare: Comparison, ga, gb, found, init) -> dict[str, jax.Array]:
    """Where ``b`` started, its gauge, what was found, and the way back from the gauge of ``a``."""
    problem = compare.problem
    perms = {u.name: found[u.name] for u in spec.units if u.name in found}
    signs = {f.name: f for f in problem.flips}
    moved: dict[str, jax.Array] = {}
    for name, x in found.items():
        if name in signs:
            flip = signs[name]
            if flip.bias is not None:  # steps come before the signs
                for other in problem.flips:
                    if flip.bias in other.at and other is not flip:
                        x = x * found[other.name]
            moved[name] = jnp.round(x).astype(jnp.int32)
        elif name in problem.turned:
            moved[name] = x
    element = spec.compose(moved, spec.compose(perms, gb))
    element = spec.compose(spec.inverse(ga), element)
    return element if init is None else spec.compose(element, init)


def _finish(spec: Spec, refine: int, a: Any, b: Any, element) -> GroupMatch:
    """Adjust what is continuous, and measure."""
    xs, ys = (_numbers(spec.blocks(t)) for t in (a, b))
    there = _numbers(spec.blocks(spec.act(element, b)))
    adjusted, there, square = nearest(spec, xs, there, refine)
    if adjusted:
        element = spec.compose(adjusted, element)
    element = {n: _in_group(spec, n, x) for n, x in (spec.identity() | element).items()}
    moved = _numbers(spec.blocks(spec.act(element, b)))
    parts = lambda z: [jnp.sum((jnp.conj(xs[n]) * x).real) for n, x in z.items()]  # noqa: E731
    inner = lambda z: jnp.stack(parts(z)).sum()  # noqa: E731
    return GroupMatch(
        element, inner(moved), inner(ys), jnp.sqrt(squares(apart(xs, moved))),
        jnp.sqrt(squares(apart(xs, ys))),
    )  # fmt: skip


def _in_group(spec: Spec, name: str, x: jax.Array) -> jax.Array:
    """Orthogonal matrices once more orthogonal: products of many lose digits."""
    gen = next((g for g in spec.generators if g.name == name), None)
    if not isinstance(gen, Orthogonal):
        return x
    one = jnp.eye(gen.size, dtype=x.dtype)
    for _ in range(2):  # Newton's iteration for the polar factor
        gram = jnp.matmul(jnp.swapaxes(x, -1, -2), x, precision="highest")
        x = jnp.matmul(x, 1.5 * one - 0.5 * gram, precision="highest")
    return x


def _numbers(blocks) -> dict[str, jax.Array]:
    return {n: x for n, x in blocks.items() if jnp.issubdtype(x.dtype, jnp.inexact)}


@jax.jit
def _nearest_of(results: list[GroupMatch]) -> GroupMatch:
    """For each pair the nearest."""
    distances = jnp.stack([r.distance for r in results])
    which = distances.argmin(0)

    def pick(*xs):
        index = which.reshape(1, *which.shape, *([1] * (xs[0].ndim - which.ndim)))
        stack = jnp.stack([x.astype(xs[0].dtype) for x in xs])
        return jnp.take_along_axis(stack, index, axis=0)[0]

    return jax.tree.map(pick, *results)


# ------------------------------------------------------------------------------------ stacks of pairs
@partial(jax.jit, static_argnums=(0, 1))
def _prepared(spec: Spec, compare: Comparison, stack):
    return jax.vmap(partial(_prepare, spec, compare))(stack)


@partial(jax.jit, static_argnums=(0, 1))
def _joined(spec: Spec, compare: Comparison, ga, gb, found, init):
    return jax.vmap(partial(_join, spec, compare))(ga, gb, found, init)


@partial(jax.jit, static_argnums=0)
def _moved(spec: Spec, element, stack):
    return jax.vmap(spec.act)(element, stack)


def _spread_over(stack: Any, pairs: int) -> Any:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (pairs, *x.shape[1:])), stack)


def _stacked_element(spec: Spec, element: Any, pairs: int) -> Any:
    """An element of each pair, whole; ``None`` stays."""
    if element is None:
        return None
    out = dict(spec.identity())
    for name, x in element.items():
        if name not in out:
            raise ValueError(f"`init` has {name!r}; the spec knows {tuple(out)}")
        x, shape = jnp.asarray(np.asarray(x)), out[name].shape
        if x.shape not in (shape, (pairs, *shape)):
            raise ValueError(f"init[{name!r}] has shape {x.shape}; expected {shape}")
        out[name] = x.astype(out[name].dtype)
    shapes = {n: x.shape for n, x in spec.identity().items()}
    return {n: jnp.broadcast_to(x, (pairs, *shapes[n])) for n, x in out.items()}


@partial(jax.jit, static_argnums=(0, 1))
def _finished(spec: Spec, refine: int, a, b, element):
    return jax.vmap(partial(_finish, spec, refine))(a, b, element)


def _dtypes(spec: Spec, params: Any) -> KINDS:
    leaves = dict(zip((leaf.path for leaf in spec.leaves), jax.tree.leaves(params), strict=True))
    return tuple((b.name, jnp.dtype(jnp.result_type(leaves[b.path]))) for b in spec.layout)


def _widened(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return x.astype(jnp.complex128)
    return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _at_least_single(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def element_dtype(params: Any) -> Any:
    """The dtype of the continuous entries of an element."""
    kinds = [jnp.result_type(x) for x in jax.tree.leaves(params)]
    floats = [jnp.finfo(k).dtype for k in kinds if jnp.issubdtype(k, jnp.inexact)]
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(jnp.float32, *floats)
