"""Group elements: pytrees ``{units name: permutation array}`` that sample, compose, invert and act.

A permutation of units ``u`` nested over ``p, q`` is an integer array of shape
``(size of p, size of q, size of u)``: one permutation for each index of its parents. It acts on a
block by gathering at the *new* parents' coordinates,

    ``new[.., h, .., j, ..] = old[.., pi[h], .., sigma[h, j], ..]``,

so that ``act(compose(g2, g1), x) == act(g2, act(g1, x))``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from .axes import Alt, Axis, Fixed, Prod, Reorder, Sum, Unit, atoms, order_of, plain
from .layout import decompose, fused_order, pieces, recompose, seat
from .reindex import inverse_order

Element = Mapping[str, jax.Array]


def act_on_leaf(spec, g: Element, trees: tuple[Axis, ...], x: jax.Array) -> jax.Array:
    """The element ``g`` acting on one array with the given axis trees."""
    moved = [any(isinstance(a, Unit) for a in atoms(t)) for t in trees]
    if not any(moved):
        return x
    if any(m and not _closed(spec, t) for m, t in zip(moved, trees, strict=True)):
        blocks = [
            _act_on_block(spec, g, piece, b)
            for piece, b in zip(pieces(trees), decompose(x, trees), strict=True)
        ]
        return recompose(blocks, trees)
    # one gather for all axes, from finished indices: fused into the gather they would be computed anew
    # for every entry
    index = [
        jax.lax.optimization_barrier(axis_index(spec, g, tree)) if m else jnp.arange(tree.size)
        for tree, m in zip(trees, moved, strict=True)
    ]
    return x.at[jnp.ix_(*index)].get(mode="promise_in_bounds", unique_indices=True)


def _closed(spec, tree: Axis) -> bool:
    """Whether the axis moves by itself: parents and sibling factors of its units are inside it."""
    tree = plain(tree)
    if isinstance(tree, Alt):
        return False
    if isinstance(tree, Sum):
        return all(_closed(spec, p) for p in tree.parts)
    parts = tree.parts if isinstance(tree, Prod) else (tree,)
    inside = [p for p in parts if isinstance(p, (Unit, Fixed))]
    if len(inside) < len(parts):
        return False
    names = [p.name for p in inside]
    for p in inside:
        if isinstance(p, Unit):
            if any(
                names.count(o) <= max(p.at or (0,)) or names.count(o) < spec.over(p.name).count(o)
                for o in spec.over(p.name)
            ):
                return False
            if p.part is not None and names.count(p.name) != len(spec.parts(p.name)):
                return False
    return True


def axis_index(spec, g: Element, tree: Axis) -> jax.Array:
    """Flat gather index, shape ``(size,)``, by which ``g`` moves a closed axis."""
    if isinstance(tree, Fixed):
        return jnp.arange(tree.size)
    if isinstance(tree, Reorder):
        order = order_of(tree)
        old = axis_index(spec, g, tree.tree)[np.asarray(order)]
        return jnp.asarray(inverse_order(order), jnp.int32)[old]
    if isinstance(tree, Sum):
        offset, out = 0, []
        for p in tree.parts:
            out.append(axis_index(spec, g, p) + offset)
            offset += p.size
        return jnp.concatenate(out)
    parts = tuple(atoms(tree))
    coordinates = _gather_coordinates(spec, g, parts)
    flat = jnp.zeros((1,) * len(parts), jnp.int32)
    for p, c in zip(parts, coordinates, strict=True):
        flat = flat * p.size + c.astype(jnp.int32)
    return jnp.broadcast_to(flat, [p.size for p in parts]).reshape(-1)


def _gather_coordinates(spec, g: Element, parts: Sequence[Fixed | Unit]) -> list[jax.Array]:
    """For a product of atoms: the old coordinate of each factor at each new one, broadcastable."""
    out: list = [None] * len(parts)
    for group in fused_order(parts):
        first = parts[group[0]]
        if isinstance(first, Fixed):
            shape = [1] * len(parts)
            shape[group[0]] = first.size
            out[group[0]] = jnp.arange(first.size).reshape(shape)
            continue
        index = _spread(spec, g[first.name], first, parts, group)
        for k in reversed(group):
            out[k], index = index % parts[k].size, index // parts[k].size
    return out


def _spread(
    spec, perm: jax.Array, unit: Unit, parts: Sequence[Fixed | Unit], group: Sequence[int]
) -> jax.Array:
    """A permutation array laid along the axes of its parents and of its own factors."""
    where = [*seat([p.name for p in parts], spec.over(unit.name), unit.at), *group]
    perm = perm.reshape([parts[k].size for k in where])
    order = sorted(range(len(where)), key=lambda i: where[i])
    shape = [1] * len(parts)
    for k in where:
        shape[k] = parts[k].size
    return perm.transpose(order).reshape(shape)


def _act_on_block(spec, g: Element, piece: tuple[Fixed | Unit, ...], x: jax.Array) -> jax.Array:
    """``x`` is a block in canonical form (fused factors already one axis)."""
    groups = fused_order(piece)
    labels = [piece[group[0]] for group in groups]
    merged = tuple(
        type(a)(prod(piece[k].size for k in group), a.name)
        if isinstance(a, Fixed)
        else Unit(a.name, prod(piece[k].size for k in group), None, a.at)
        for a, group in zip(labels, groups, strict=True)
    )
    units = [(k, a) for k, a in enumerate(merged) if isinstance(a, Unit)]
    for k, unit in sorted(units, key=lambda place: len(spec.over(place[1].name))):
        perm = g[unit.name]
        if not spec.over(unit.name):
            x = jnp.take(x, perm, axis=k, unique_indices=True, mode="clip")
        else:
            index = _spread(spec, perm, unit, merged, (k,))
            x = jnp.take_along_axis(x, index, axis=k, mode="clip")
    return x


def parent_coordinates(spec, g: Element, name: str) -> tuple[jax.Array, ...]:
    """Old coordinates of the parents of ``name`` at each tuple of new ones, broadcastable."""
    over = spec.over(name)
    atoms_ = [Fixed(spec.size_of(o), o) for o in over]
    out = []
    for k, o in enumerate(over):
        shape = [1] * len(over)
        shape[k] = spec.size_of(o)
        if o.startswith("_"):
            out.append(jnp.arange(shape[k]).reshape(shape))
        else:
            out.append(_spread(spec, g[o], Unit(o, shape[k]), atoms_, (k,)))
    return tuple(out)


def compose(spec, g2: Element, g1: Element) -> dict[str, jax.Array]:
    """The element that acts as ``g1`` and then ``g2``."""
    out = {}
    for u in spec.units:
        if not u.over:
            out[u.name] = g1[u.name][g2[u.name]]
            continue
        old = [c[..., None] for c in parent_coordinates(spec, g2, u.name)]
        out[u.name] = g1[u.name][(*old, g2[u.name])]
    return out


def inverse(spec, g: Element) -> dict[str, jax.Array]:
    """The element that undoes ``g``."""
    out: dict[str, jax.Array] = {}
    for u in sorted(spec.units, key=lambda u: len(u.over)):
        undone = jnp.argsort(g[u.name], axis=-1).astype(g[u.name].dtype)
        if u.over:
            undone = undone[parent_coordinates(spec, out, u.name)]
            undone = jnp.broadcast_to(undone, g[u.name].shape)
        out[u.name] = undone
    return {u.name: out[u.name] for u in spec.units}


def sample(spec, key: jax.Array) -> dict[str, jax.Array]:
    """Uniformly random permutations of all units, independent over their parents."""
    out = {}
    for k, u in zip(jax.random.split(key, max(len(spec.units), 1)), spec.units):
        copies = [spec.size_of(o) for o in u.over]
        draw = jax.vmap(lambda one, n=u.size: jax.random.permutation(one, n))
        out[u.name] = draw(jax.random.split(k, prod(copies))).reshape(*copies, u.size)
    return out


def identity(spec) -> dict[str, jax.Array]:
    """The element that moves nothing."""
    return {
        u.name: jnp.broadcast_to(jnp.arange(u.size), (*[spec.size_of(o) for o in u.over], u.size))
        for u in spec.units
    }
