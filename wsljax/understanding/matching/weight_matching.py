"""``weight_matching``: the exchange of units that brings one network closest to another.

What is maximised is ``<a, act(g, b)>``, the same as minimising the Euclidean distance, over all
permutations ``g`` of a spec (S. Ainsworth, J. Hayase, S. Srinivasa, "Git Re-Basin", ICLR 2023, section 3.2:
weight matching by coordinate ascent). Three things are different here:

* **The start.** From the identity, units tied to many blocks (a residual stream) are first matched against
  noise and stay there. Here nothing is assumed about units that were not matched yet: of their axes only
  sums are compared, which no exchange changes. This is the gradient of the relaxed objective at the centre
  of all doubly stochastic matrices, the start of the Frank-Wolfe method for graph matching (J. Vogelstein et
  al., PLoS ONE 10, 2015). The units of which most is known go first.
* **Any spec.** Nested units (heads and what is inside, experts, stacks of layers) are matched from the inside
  out; units that meet themselves in a block are moved on the linearised problem, where that is a gain.
* **Many pairs at once.** Stacks of networks are matched side by side.
* **The whole group.** Where a spec has generators, signs, scalings, linear maps, rotations and shifts are found
  together with the permutations (:mod:`.whole_group`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import is_tracer
from wsljax.symmetry import Spec
from wsljax.symmetry.spec import KINDS

from . import host, traced, whole_group
from .problem import Problem
from .stacks import check_finite, matching_problem, pair_count, stacked
from .whole_group import part_of_spec

STARTS = ("averages", "identity")
WHERE = ("auto", "host", "device")


class Matching(NamedTuple):
    """What was found; for stacks of models every array has their axis first.

    Attributes:
        element: ``spec.act(element, b)`` is ``b`` aligned to ``a``.
        objective: ``<a, act(element, b)>``, the sum over all weights. Under scalings and linear maps it may
            grow without end, and what is small is the distance.
        before: ``<a, b>``.
        distance: ``|| a - act(element, b) ||``, over all weights; ``None`` where a method does not measure it.
        distance_before: ``|| a - b ||``.
    """

    element: dict[str, jax.Array]
    objective: jax.Array
    before: jax.Array
    distance: Any = None
    distance_before: Any = None


def weight_matching(
    a: Any,
    b: Any,
    spec: Spec,
    *,
    key: jax.Array,
    kinds: Sequence[str] | None = None,
    restarts: int = 1,
    sweeps: int = 100,
    start: str = "averages",
    init: Mapping[str, Any] | None = None,
    refine: int = 10,
    where: str = "auto",
) -> Matching:
    """The element of a spec's group that aligns the weights of ``b`` to those of ``a``.

    For a spec with permutations only, these. With generators, the whole group: ``b`` is brought into the gauge
    of ``a`` and, up to what can be found, as near to it as the function allows. The distance is never larger
    than what permutations alone, found in the same way, and no alignment at all leave.

    Args:
        a, b: weights that match the spec. Either may be a stack (each leaf with one more axis in front, of
            one length); the pairs are then matched side by side, a single network with each of the
            other stack. Under ``jit`` and ``vmap`` pass single networks.
        spec: whose group to use.
        kinds: of the group, as for ``spec.sample``: by default all that the spec has; ``("permutation",)``
            leaves its generators alone.
        key: decides the order of visits.
        restarts: how often to try; from the second on, half of the units of the best so far are
            matched anew. The best is kept; on the host it stops where every unit is nearer to the one in
            its place than any other unit is.
        sweeps: visits of all units, at most; it ends when no exchange is a gain.
        start: ``"averages"`` (see the module), or ``"identity"`` (from where the units are, or ``init``).
        init: an element to start from; it may leave units out.
        refine: Gauss-Newton steps, at most, that adjust what is continuous in the end.
        where: ``"host"`` for numpy and SciPy, which is fastest on CPUs, ``"device"`` for one jitted program,
            ``"auto"`` for the host if the default device is a CPU and the weights are no tracers. On the
            host all that is continuous is done in float64.

    Returns:
        :class:`Matching`.

    Raises:
        ValueError: for weights that do not match the spec or are not finite, unknown options, or
            ``where="host"`` with tracers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> b = {"w": jax.random.normal(k1, (3, 5)), "v": jax.random.normal(k2, (5, 2))}
        >>> spec = symmetry.infer(fn, b, jnp.ones((1, 3)), kinds=("permutation",))
        >>> g = spec.sample(jax.random.key(1))
        >>> a = spec.act(g, b)
        >>> m = weight_matching(a, b, spec, key=jax.random.key(2))
        >>> bool(jnp.all(m.element["h0"] == g["h0"]))
        True

        With scalings of the hidden units as well:

        >>> spec = symmetry.infer(fn, b, jax.random.normal(k1, (8, 3)), kinds=("permutation", "scale"))
        >>> m = weight_matching(spec.act(spec.sample(k2), b), b, spec, key=jax.random.key(2))
        >>> bool(m.distance < 1e-5 * m.distance_before)
        True
    """
    if start not in STARTS:
        raise ValueError(f"`start` must be one of {STARTS}, got {start!r}")
    if where not in WHERE:
        raise ValueError(f"`where` must be one of {WHERE}, got {where!r}")
    if restarts < 1 or sweeps < 0 or refine < 0:
        raise ValueError(
            "`restarts` must be positive, `sweeps` and `refine` not negative, got "
            f"{restarts}, {sweeps}, {refine}"
        )
    wanted = None if kinds is None else tuple(kinds)
    unknown = [k for k in wanted or () if k not in KINDS]
    if unknown or isinstance(kinds, str) or wanted == ():
        raise ValueError(f"`kinds` must be some of {KINDS}, got {kinds!r}")
    is_traced = any(is_tracer(x) for x in (*jax.tree.leaves((a, b, init)), key))
    if where == "host" and is_traced:
        raise ValueError(
            "`where='host'` needs values, not tracers: call outside of jit and vmap, or leave `where` out"
        )
    on_host = not is_traced and (
        where == "host" or (where == "auto" and jax.default_backend() == "cpu")
    )
    options = {"restarts": restarts, "sweeps": sweeps, "start": start}
    group = part_of_spec(spec, wanted)
    permute = wanted is None or "permutation" in wanted
    if group.generators or not permute:
        return _whole_group(a, b, group, permute, key, init, options, refine, on_host)
    if on_host:
        return _on_host(a, b, spec, key, init, options)
    return _on_device(a, b, spec, key, init, options)


def _on_host(a, b, spec: Spec, key, init, options) -> Matching:
    (xs, many_a), (ys, many_b) = (stacked(np, t, spec, w) for t, w in ((a, "a"), (b, "b")))
    pairs = pair_count(xs, ys, many_a, many_b)
    problem = matching_problem(spec, a)
    rest = [b for b in xs if b not in {x.name for x in problem.blocks}]
    part = {b.name for b in problem.blocks}
    x, y = ({n: z for n, z in blocks.items() if n in part} for blocks in (xs, ys))
    check_finite(x, y)
    element = None
    if init is not None:
        full = {n: v for n, v in init.items() if n in problem.by_name}
        element = {n: _element_stack(np.asarray(v), problem, n, pairs) for n, v in full.items()}
        element = host.identity(np, problem, (pairs,)) | element
    seed = np.asarray(jax.random.key_data(key) if _is_key(key) else key)
    found = host.ascend(problem, x, y, seed=seed, element=element, **options)
    fixed = sum(_inner(xs[n], ys[n]) for n in rest) + np.zeros(pairs)
    before = host.agreement(np, problem, x, y) + fixed
    single = not (many_a or many_b)
    out = spec.identity()
    out = {u.name: out[u.name] for u in spec.units}
    if not single:
        out = {n: jnp.broadcast_to(v, (pairs, *v.shape)) for n, v in out.items()}
    out |= {n: jnp.asarray(v[0] if single else v) for n, v in found.element.items()}
    part, there = problem.blocks, found.moved
    beside = sum(_squares(xs[n], ys[n]) for n in rest) + np.zeros(pairs)
    apart = [sum((_squares(x[b.name], z[b.name]) for b in part), beside) for z in (there, y)]
    numbers = [found.value + fixed, before, *map(np.sqrt, apart)]
    numbers = [jnp.asarray(v[0] if single else v, jnp.result_type(float)) for v in numbers]
    return Matching(out, *numbers)


def _on_device(a, b, spec: Spec, key, init, options) -> Matching:
    (xs, many_a), (ys, many_b) = (stacked(jnp, t, spec, w) for t, w in ((a, "a"), (b, "b")))
    pair_count(xs, ys, many_a, many_b)
    problem = matching_problem(spec, a)
    one = partial(_match_on_device, problem, tuple(sorted(options.items())))
    if init is not None:
        init = host.identity(jnp, problem) | {
            n: jnp.asarray(v) for n, v in init.items() if n in problem.by_name
        }
    if not (many_a or many_b):
        squeeze = lambda blocks: {n: z[0] for n, z in blocks.items()}  # noqa: E731
        element, *numbers = one(squeeze(xs), squeeze(ys), key, init)
    else:
        axes = [{n: 0 if many else None for n in z} for z, many in ((xs, many_a), (ys, many_b))]
        flat = [
            z if m else {n: v[0] for n, v in z.items()} for z, m in ((xs, many_a), (ys, many_b))
        ]
        element, *numbers = jax.vmap(one, (*axes, None, None))(*flat, key, init)
    pairs = jnp.shape(numbers[0])
    identity = spec.identity()
    out = {
        u.name: jnp.broadcast_to(identity[u.name], (*pairs, *identity[u.name].shape))
        for u in spec.units
    }
    return Matching(out | element, *numbers)


def _whole_group(
    a, b, spec: Spec, permute: bool, key, init, options, refine: int, on_host: bool
) -> Matching:
    """As :func:`_on_host` and :func:`_on_device`, with the generators of the spec."""
    (xs, many_a), (ys, many_b) = (stacked(jnp, t, spec, w) for t, w in ((a, "a"), (b, "b")))
    pairs, many = pair_count(xs, ys, many_a, many_b), (many_a, many_b)
    units = {u.name for u in spec.units}
    plain = replace(spec, generators=())
    others: list[dict[str, Any]] = []
    if permute and units:
        first = None if init is None else {n: x for n, x in init.items() if n in units}
        run = _on_host if on_host else _on_device
        others.append(run(a, b, plain, key, first, options).element)
    if on_host:
        check_finite(
            {n: np.asarray(x) for n, x in xs.items()}, {n: np.asarray(y) for n, y in ys.items()}
        )
        seed = np.asarray(jax.random.key_data(key) if _is_key(key) else key)
        found = whole_group.match_on_host(
            spec, a, b, many, pairs, permute=permute, init=init, others=others, seed=seed,
            refine=refine, **options,
        )  # fmt: skip
    else:
        fixed = (spec, permute, tuple(sorted(options.items())), refine)
        found = whole_group.match_on_device(fixed, a, b, many, key, init, others)
    return Matching(*found)


@partial(jax.jit, static_argnums=(0, 1))
def _match_on_device(problem: Problem, options, xs, ys, key, init):
    part = {b.name for b in problem.blocks}
    x, y = ({n: z for n, z in blocks.items() if n in part} for blocks in (xs, ys))
    rest = [n for n in xs if n not in part and jnp.issubdtype(xs[n].dtype, jnp.floating)]
    fixed = sum((jnp.sum(xs[n] * ys[n]) for n in rest), jnp.zeros(()))
    beside = sum((jnp.sum((xs[n] - ys[n]) ** 2) for n in rest), jnp.zeros(()))
    if not problem.units:
        return {}, fixed, fixed, jnp.sqrt(beside), jnp.sqrt(beside)
    element, value = traced.ascend(problem, x, y, key=key, element=init, **dict(options))
    there = host.exchange(jnp, problem, y, element)
    apart = [jnp.sqrt(beside + sum(jnp.sum((x[n] - z[n]) ** 2) for n in x)) for z in (there, y)]
    return element, value + fixed, host.agreement(jnp, problem, x, y) + fixed, *apart


def _element_stack(v: np.ndarray, problem: Problem, name: str, pairs: int) -> np.ndarray:
    shape = (*problem.copies(name), problem.by_name[name].size)
    if v.shape not in (shape, (pairs, *shape)):
        raise ValueError(f"init[{name!r}] has shape {v.shape}; expected {shape}")
    return np.broadcast_to(v, (pairs, *shape)).astype(np.int32)


def _inner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return np.zeros(1)
    flat = lambda z: z.reshape(len(z), -1).astype(np.float64)  # noqa: E731
    return (flat(x) * flat(y)).sum(-1)


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The squared distance of each pair."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return np.zeros(1)
    return ((x - y) ** 2).reshape(max(len(x), len(y)), -1).sum(-1, dtype=np.float64)


def _is_key(key: Any) -> bool:
    return jnp.issubdtype(getattr(key, "dtype", np.dtype(int)), jax.dtypes.prng_key)
