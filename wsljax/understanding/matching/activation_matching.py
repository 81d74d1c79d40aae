"""``activation_matching``: units are matched that respond alike to the same inputs.

Two units belong together if their activations on data are correlated (Y. Li et al., "Convergent learning",
ICLR 2016; S. Ainsworth, J. Hayase, S. Srinivasa, "Git Re-Basin", ICLR 2023, section 3.1). Which values
inside a function belong to which units is found by :func:`wsljax.symmetry.trace_activations`; a value with
units on several axes (heads and what is inside, a stack of layers) is compared as a block is. Batches are
streamed: what is kept of them are sums over their entries of products, first and second moments.

All units are matched independently of each other but for nesting, in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Activations, Spec, trace_activations

from .exchange import Arrays, identity, rows
from .family import picked
from .problem import Place, Problem
from .traced import assign

MEASURES = ("correlation", "product")


def activation_matching(
    fn: Callable,
    a: Any,
    b: Any,
    spec: Spec,
    batches: Iterable[tuple],
    *,
    measure: str = "correlation",
) -> dict[str, jax.Array]:
    """Match units by their activations.

    Args:
        fn: ``fn(params, *inputs)``.
        a, b: weights that match the spec.
        spec: the annotation of the weights, as inferred from ``fn``.
        batches: tuples of inputs, all of the same shapes.
        measure: ``"correlation"`` (of deviations, over all inputs and positions), or ``"product"`` (of the
            values, so that units which are seldom active count little).

    Returns:
        The element for which ``spec.act(element, b)`` responds like ``a``. Units whose activations are not
        seen as such (see :func:`.trace_activations`) stay where they are.

    Raises:
        ValueError: without batches, if the spec is not the function's, or for an unknown measure.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> b = {"w": jax.random.normal(k1, (3, 5)), "v": jax.random.normal(k2, (5, 2))}
        >>> x = jax.random.normal(k3, (4, 16, 3))
        >>> spec = symmetry.infer(fn, b, x[0], kinds=("permutation",))
        >>> g = spec.sample(jax.random.key(1))
        >>> found = activation_matching(fn, spec.act(g, b), b, spec, [(batch,) for batch in x])
        >>> bool(jnp.all(found["h0"] == g["h0"]))
        True
    """
    if measure not in MEASURES:
        raise ValueError(f"`measure` must be one of {MEASURES}, got {measure!r}")
    traced: Activations | None = None
    sums = None
    for inputs in batches:
        if traced is None:
            traced = trace_activations(fn, a, spec, *inputs)
        sums = _add(Watched(traced), sums, a, b, inputs)
    if traced is None:
        raise ValueError("`batches` is empty; activations need at least one batch of inputs")
    return _match(Watched(traced), spec, measure, sums)


class Watched:
    """The values of a traced function as blocks; equal, for ``jit``, if the trace is the same."""

    def __init__(self, traced: Activations):
        self.traced = traced
        layout = traced.spec.layout
        names = {axis for b in layout for axis in b.axes}
        self.problem = Problem(layout, tuple(u for u in traced.spec.units if u.name in names))

    def __hash__(self) -> int:
        return id(self.traced)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Watched) and other.traced is self.traced

    def places(self) -> list[Place]:
        """Places of units that are nested at most over fixed axes and over each other, in blocks."""
        return [p for u in self.problem.units for p in self.problem.places(u.name)]

    def blocks(self, params: Any, inputs: tuple) -> dict[str, jax.Array]:
        values = self.traced(params, *inputs)[1]
        blocks = self.traced.spec.blocks(values)
        return {n: x.astype(jnp.promote_types(x.dtype, jnp.float32)) for n, x in blocks.items()}


@partial(jax.jit, static_argnums=0)
def _add(watched: Watched, sums, a: Any, b: Any, inputs: tuple):
    """First and second moments of the units of both networks, and their products, added up.

    For units nested over others there is a product for each pair of outer units: the inner units of one
    are compared with those of any other.
    """
    xs, ys = watched.blocks(a, inputs), watched.blocks(b, inputs)
    new = {}
    for place in watched.places():
        x, y = (_entries(watched.problem, place, z[place.block.name]) for z in (xs, ys))
        count = jnp.asarray(x.shape[-1], x.dtype)
        new[place.name] = {
            "count": count,
            "xy": jnp.einsum("cir,cjr->cij", x, y),
            "x": x.sum(-1), "y": y.sum(-1),
            "xx": jnp.square(x).sum(-1), "yy": jnp.square(y).sum(-1),
        }  # fmt: skip
    return new if sums is None else jax.tree.map(jnp.add, sums, new)


def _entries(problem: Problem, place: Place, x: jax.Array) -> jax.Array:
    """``(copies, units, entries)``: outer units (but not fixed axes) and nested ones as one index."""
    r = rows(jnp, x, place)
    over = problem.by_name[place.block.axes[place.axis]].over
    copies = [k for k, o in enumerate(over) if o not in problem.by_name]
    joint = [k for k, o in enumerate(over) if o in problem.by_name]
    r = r.transpose([*copies, *joint, len(over), len(over) + 1])
    lead = 1
    for k in range(len(copies)):
        lead *= r.shape[k]
    return r.reshape(lead, -1, r.shape[-1])


@partial(jax.jit, static_argnums=(0, 1, 2))
def _match(watched: Watched, spec: Spec, measure: str, sums) -> dict[str, jax.Array]:
    problem = watched.problem
    likeness: dict[str, jax.Array] = {}
    for u in problem.units:
        inside = {m.name for m in problem.nested(u.name)}
        likeness[u.name] = jnp.zeros(())
        for place in problem.places(u.name):
            if inside & set(place.block.axes):
                continue  # compared pair by pair, with what is nested in them
            alike = _likeness(sums[place.name], measure)
            likeness[u.name] = likeness[u.name] + alike
    whole = spec.identity()
    out = {u.name: whole[u.name] for u in spec.units}
    for u in problem.roots:
        out |= _best(problem, u.name, likeness)
    return out


def _likeness(s: dict[str, jax.Array], measure: str) -> jax.Array:
    if measure == "product":
        return s["xy"] / s["count"]
    n = s["count"]
    covariance = s["xy"] / n - s["x"][..., :, None] * s["y"][..., None, :] / n**2
    deviation = [jnp.sqrt(jnp.maximum(s[2 * z] / n - jnp.square(s[z] / n), 0)) for z in ("x", "y")]
    size = deviation[0][..., :, None] * deviation[1][..., None, :]
    return jnp.where(size > 1e-12, covariance / jnp.where(size > 1e-12, size, 1), 0)


def _best(problem: Problem, name: str, likeness: Arrays) -> dict[str, jax.Array]:
    """A root, and what is nested in it, from the inside out."""
    u = problem.by_name[name]
    copies = problem.copies(name)
    gains = _shaped(likeness[name], (*copies, u.size, u.size))
    inside: dict[str, jax.Array] = {}
    for m in problem.nested(name):
        if m.over not in ((*u.over, name), (name, *u.over)):
            continue
        four = _shaped(likeness[m.name], (*copies, u.size, m.size, u.size, m.size))
        pairs = jnp.moveaxis(four, -2, len(copies) + 1)  # (*copies, outer, outer, inner, inner)
        inside[m.name] = assign(pairs)
        gains = gains + picked(jnp, pairs, inside[m.name]).sum(-1)
    move = assign(gains)
    out = {name: move}
    still = identity(jnp, problem)
    for m in problem.nested(name):
        if m.name not in inside:
            out[m.name] = still[m.name]
            continue
        index = move[..., None, None]
        chosen = jnp.take_along_axis(inside[m.name], index, axis=len(copies) + 1)
        chosen = chosen.squeeze(len(copies) + 1)
        if m.over == (*u.over, name):
            out[m.name] = chosen
        else:
            out[m.name] = jnp.moveaxis(chosen, len(copies), 0)
    return out


def _shaped(likeness: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Units that are not seen are alike in nothing."""
    return likeness.reshape(shape) if likeness.ndim else jnp.zeros(shape)
