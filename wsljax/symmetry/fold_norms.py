"""``fold_norms``: LayerNorm rewritten as RMSNorm, exactly, by moving its mean, gain and shift into neighbours.

LayerNorm takes the mean of what it reads, divides by the root mean square of the rest, multiplies by a gain
and adds a shift. All of it but the division is linear, and may be done by other weights (Ashkboos et al.
2024, "SliceGPT", section 3.2; Theus et al. 2025, "Generalized linear mode connectivity for transformers"):

* what writes into the stream is centred, ``W (I - 11^T/D)``: then there is no mean to be taken;
* the gain goes into what reads the normalised stream, ``diag(gain) W``, and is one;
* the shift goes through the readers into their biases, ``b + shift W``, and is zero.

What is left, an RMSNorm without a gain, commutes with every rotation of the stream. Which leaves write, which
are gains, shifts, readers and biases is not told by names: it is found by how the function responds to
directions in them, and the result is compared with the original at random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import is_tracer, key_path_str, source_line
from .generators.probe import CannotProbe, Probe
from .infer import infer
from .norm_plan import DRAWS, Plan
from .rewrite import Places, plain, run


@dataclass(frozen=True)
class Folded:
    """What :func:`fold_norms` gives.

    Attributes:
        fn: ``fn(params, *inputs)`` without the means, gains and shifts; it takes what the original takes,
            other shapes and dtypes too as long as the function runs through the same sums, and may be
            jitted, differentiated and vmapped. It is the original only at folded weights.
        params: the weights folded; a tree as before. Gains are one and shifts zero in it, and ``fn`` does
            not read them.
        fold: ``weights -> folded weights``, for others of the same architecture; it may be jitted and
            vmapped. Where a shift is ``left``, it is divided by its gain.
        folded: what was done, one line each.
        left: what could not be, and why.
    """

    fn: Callable
    params: Any
    fold: Callable[[Any], Any]
    folded: tuple[str, ...]
    left: tuple[str, ...]


def fold_norms(fn: Callable, params: Any, *inputs: Any) -> Folded:
    """The same function with RMSNorms in place of LayerNorms.

    Args:
        fn: the function ``fn(params, *inputs)``, whose means are sums (``jnp.mean``, ``jnp.sum``, a product
            with a constant vector), in loops and calls or not.
        params: concrete weights; gains may be zero or negative.
        *inputs: concrete examples of the inputs.

    Returns:
        :class:`Folded`. ``symmetry.infer(folded.fn, folded.params, *inputs)`` finds the rotations of the
        stream.

    Raises:
        ValueError: if no mean of the function vanishes by centring weights (there is no LayerNorm, or
            something that cannot be centred writes into the streams of all), or the function cannot be
            evaluated in float64. It says what was looked at.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> def fn(p, x):
        ...     h = x @ p["a"]
        ...     h = (h - h.mean(-1, keepdims=True)) / (h.std(-1, keepdims=True) + 1e-5)
        ...     return jnp.tanh((h * p["gain"] + p["shift"]) @ p["b"] + p["c"]).sum(-1)
        >>> k = jax.random.split(jax.random.key(0), 6)
        >>> shapes = {"a": (3, 4), "gain": (4,), "shift": (4,), "b": (4, 5), "c": (5,)}
        >>> p = {n: jax.random.normal(k, s) for k, (n, s) in zip(k, shapes.items())}
        >>> x = jax.random.normal(k[5], (8, 3))
        >>> folded = fold_norms(fn, p, x)
        >>> for line in folded.folded:
        ...     print(line)
        a is centred along axis 1
        shift goes through b into c
        gain goes into b
        2 sums vanish
        >>> folded.params["gain"]
        Array([1., 1., 1., 1.], dtype=float32)
        >>> bool(jnp.allclose(folded.fn(folded.params, x), fn(p, x), atol=1e-5))
        True
    """
    for what, tree in (("params", params), ("inputs", inputs)):
        for path, x in jax.tree_util.tree_leaves_with_path(tree):
            if isinstance(x, jax.ShapeDtypeStruct) or is_tracer(x):
                raise ValueError(
                    f"{what}: {key_path_str(path)!r} is a {type(x).__name__}; `fold_norms` measures how the "
                    "function responds and needs values, outside of `jit`. For other weights of the same "
                    "architecture use `folded.fold`, which may be traced"
                )
    spec = infer(fn, params, *inputs, kinds=("permutation", "scale", "shift"))
    try:
        probe = Probe(fn, spec, params, inputs)
        plan = Plan(spec, probe)
        sums = _vanishing(fn, plan, probe)
        if not sums.paths:
            raise ValueError(_nothing(plan, sums))
        new = _without(fn, sums, plan)
        _compare(new, plan, probe)
    except CannotProbe as e:
        raise ValueError(f"`fn` cannot be evaluated in float64: {e}") from e
    count = f"{len(sums.paths)} sum{'s vanish' if len(sums.paths) > 1 else ' vanishes'}"
    left = (*plan.left, *(f"{where}: does not vanish" for where in sums.others))
    return Folded(new, plan(params), plan, (*plan.folded, count), left)


# ---------------------------------------------------------------------------------- the function
@dataclass(frozen=True)
class _Sums:
    """Equations whose results are zero, in a function traced with these at these places."""

    places: Places
    paths: frozenset
    signature: tuple
    """Of the whole function: another trace must have the same."""
    others: tuple[str, ...]
    """Where there are sums as long as these, of both signs, that are not zero; of any length if there are
    none that are."""


def _is_sum(eqn) -> bool:
    name, out = eqn.primitive.name, eqn.outvars[0].aval
    return name in ("reduce_sum", "dot_general") and jnp.issubdtype(out.dtype, jnp.floating)


def _vanishing(fn: Callable, plan: Plan, probe: Probe) -> _Sums:
    """The sums that are zero whatever the weights are, if only they are folded."""
    places = Places(_is_sum)
    lengths: dict[tuple, tuple[int, str]] = {}
    signature: list[tuple] = []
    order: list[tuple] = []

    def measure(path, eqn, values):
        out = plain(eqn, values)
        most = plain(eqn, [jnp.abs(v) for v in values])
        length = values[0].size // max(out[0].size, 1) if eqn.primitive.name == "reduce_sum" else 0
        lengths[path] = length, f"a sum of {length} at {source_line(eqn)}"
        sizes = [jnp.max(jnp.abs(y[0]), initial=0).astype(jnp.float64) for y in (out, most)]
        return out, jnp.stack(sizes)

    def measured(leaves, ins):
        params = plan(probe.treedef.unflatten(leaves))
        inputs = probe.in_tree.unflatten(ins)
        jaxpr = jax.make_jaxpr(fn)(params, *inputs)
        signature.append(places.signature(jaxpr))
        _, notes = run(jaxpr, jax.tree.leaves((params, inputs)), places, measure)
        order.extend(notes)
        return list(notes.values())

    ratios = []
    for k in range(DRAWS):
        leaves, inputs, _ = probe.draw(k)
        sizes = np.array(probe.program("sums", measured, leaves, inputs)).reshape(-1, 2)
        ratios.append([y / size if size > 0 else 1.0 for y, size in sizes])
    largest = dict(zip(order, np.max(ratios, 0), strict=True))
    limit = 1e-11 if probe.exact else 1e-4
    zero = frozenset(p for p, r in largest.items() if r <= limit)
    like = {lengths[p][0] for p in zero}
    others = dict.fromkeys(
        lengths[p][1]
        for p, r in largest.items()
        if limit < r < 1 - limit and lengths[p][0] > 1 and (not like or lengths[p][0] in like)
    )
    return _Sums(places, zero, signature[0], tuple(others))


def _without(fn: Callable, sums: _Sums, plan: Plan) -> Callable:
    """The function with these sums left out, and the gains and shifts that were folded."""

    def zeros(path, eqn, values):
        return [jnp.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars], None

    def folded(params, *inputs):
        params = plan.bare(params)
        jaxpr, shapes = jax.make_jaxpr(fn, return_shape=True)(params, *inputs)
        if sums.places.signature(jaxpr) != sums.signature:
            raise ValueError(
                "with these inputs the function runs through other sums than it did when its norms were "
                "folded; call `fold_norms` with inputs of these shapes"
            )
        args = jax.tree.leaves((params, inputs))
        out, _ = run(jaxpr, args, sums.places, zeros, sums.paths)
        return jax.tree.unflatten(jax.tree.structure(shapes), out)

    return folded


def _compare(new: Callable, plan: Plan, probe: Probe) -> None:
    """Both functions at random weights, and at the given ones.

    Raises:
        ValueError: if they differ.
    """

    def moved(leaves, ins):
        folded = jax.tree.leaves(plan(probe.treedef.unflatten(leaves)))
        y = new(probe.treedef.unflatten(folded), *probe.in_tree.unflatten(ins))
        parts = [jnp.ravel(v) for v in jax.tree.leaves(y) if jnp.issubdtype(v.dtype, jnp.inexact)]
        parts = [p for v in parts for p in ((v.real, v.imag) if jnp.iscomplexobj(v) else (v,))]
        return jnp.concatenate([p.astype(jnp.float64) for p in parts])

    cases = [probe.draw(k) for k in range(DRAWS)]
    inputs = probe.inputs_at(0)
    cases.append((probe.given, inputs, probe.evaluate([probe.given], inputs)[0]))
    for leaves, inputs, y in cases:
        gap = probe.apart(np.asarray(probe.program("folded", moved, leaves, inputs)), y)
        if not gap <= (1e-8 if probe.exact else 1e-2):
            raise ValueError(
                f"folded, the outputs change by {gap:.1e} of their spread, so nothing was done; the "
                f"weights that were moved: {'; '.join(plan.folded)}"
            )


def _nothing(plan: Plan, sums: _Sums) -> str:
    done = "; ".join(plan.folded) or "no leaf that may be centred along the axis of a stream"
    others = "; ".join(sums.others[:4]) or "no sum of both signs"
    return (
        "no mean in the function vanishes by centring weights: it has no LayerNorm, or something that "
        "cannot be centred (inputs, tied readers, another norm's output) writes what it reads. Untie or "
        f"project it first. Found: {done}; in the function: {others}"
    )
