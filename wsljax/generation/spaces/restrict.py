"""The symmetry that is left when a part of the weights stays where it is.

Exchanging two units moves every array they stand in. Where some arrays are carried along unmoved, only
exchanges that leave those arrays as they are remain symmetries: units that a carried array tells apart
become fixed axes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import key_path_str
from ...symmetry import Leaf, Spec, Units
from ...symmetry.axes import Alt, Axis, Fixed, Prod, Reorder, Sum, Unit
from ...symmetry.generators.action import touched
from ...symmetry.layout import decompose


def restrict(spec: Spec, params: Any, paths: Collection[str]) -> Spec:
    """The spec of the leaves ``paths`` of a network whose other leaves stay as they are in ``params``.

    Its permutations are those that exchange nothing in the other leaves; of the generators those are kept
    that act on the chosen leaves alone.

    Args:
        spec: of the whole network.
        params: one network, as arrays.
        paths: the leaves that are kept.

    Raises:
        ValueError: a path that the spec does not know, or ``params`` that do not match.

    Example:
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((2, 3)), "gain": jnp.ones(3), "v": jnp.arange(3.0)[:, None]}
        >>> spec = symmetry.parse(params, {"w": "_ h", "gain": "h", "v": "h _"})
        >>> restrict(spec, params, ["w", "v"]).axes, restrict(spec, params, ["w", "gain"]).axes
        ({'v': 'h _', 'w': '_ h'}, {'gain': '_', 'w': '_ _'})
    """
    known = {leaf.path for leaf in spec.leaves}
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise ValueError(f"the spec has no leaves {unknown[:5]}; it has {sorted(known)[:20]}")
    gone = _pinned(spec, params, known - set(paths))
    leaves = tuple(
        replace(leaf, trees=tuple(_without(t, gone) for t in leaf.trees))
        for leaf in spec.leaves
        if leaf.path in set(paths)
    )
    placed = {axis for b in spec.layout if b.path in set(paths) for axis in b.axes}
    units = tuple(
        Units(u.name, u.size, tuple(gone.get(o, o) for o in u.over), u.parts)
        for u in spec.units
        if u.name in placed and u.name not in gone
    )
    kept = jax.tree_util.tree_map_with_path(
        lambda path, x: x if key_path_str(path) in set(paths) else None, params
    )
    treedef = jax.tree_util.tree_structure(kept)
    return Spec(leaves, units, _generators(spec, paths, gone), treedef=treedef)


def _pinned(spec: Spec, params: Any, carried: Collection[str]) -> dict[str, str]:
    """Units that a carried leaf tells apart, with the names that their axes get as fixed ones."""
    names = {u.name: u for u in spec.units}
    arrays = dict(zip((leaf.path for leaf in spec.leaves), spec.flatten(params), strict=True))
    found: set[str] = set()
    layout = iter(spec.layout)
    for leaf in spec.leaves:
        cut = [next(layout) for _ in range(sum(b.path == leaf.path for b in spec.layout))]
        if leaf.path not in carried or not names.keys() & {a for b in cut for a in b.axes}:
            continue
        for block, x in zip(cut, _decomposed(arrays[leaf.path], leaf), strict=True):
            for axis, name in enumerate(block.axes):
                if name in names and (x != np.take(x, [0], axis)).any():
                    found.add(name)
    grown = True
    while (
        grown
    ):  # factors of a product stand apart once it is fixed: what is nested over it is, too
        more = {u.name for u in spec.units for o in u.over if o in found and names[o].parts} - found
        found, grown = found | more, bool(more)
    taken = {a for b in spec.layout for a in b.axes}
    parents = {o for u in spec.units for o in u.over}
    return {name: _free_name(f"_{name}", taken) if name in parents else "" for name in found}


def _decomposed(x: Any, leaf: Leaf) -> list[np.ndarray]:
    """The blocks of a carried leaf; random keys, which cannot be compared, all differ."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = np.arange(int(np.prod(x.shape))).reshape(x.shape)
    return [np.asarray(b) for b in decompose(jnp.asarray(x), leaf.trees)]


def _free_name(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "x"
    return name


def _without(tree: Axis, gone: dict[str, str]) -> Axis:
    """The axis with units that are fixed now."""
    if isinstance(tree, Unit):
        if tree.name not in gone:
            return tree
        return Fixed(tree.size, gone[tree.name] or None if tree.part is None else None)
    if isinstance(tree, Fixed):
        return tree
    if isinstance(tree, Reorder):
        return Reorder(_without(tree.tree, gone), tree.order)
    parts = tuple(_without(p, gone) for p in tree.parts)
    if isinstance(tree, Alt):
        return Alt(tree.axis, parts)
    return Prod(parts) if isinstance(tree, Prod) else Sum(parts)


def _generators(spec: Spec, paths: Collection[str], gone: dict[str, str]) -> tuple:
    path_of = {b.name: b.path for b in spec.layout}
    out = []
    for gen in spec.generators:
        blocks = touched([gen], {gen.name: gen.neutral()})
        if all(path_of[b] in set(paths) for b in blocks) and not {gen.units, *gen.over} & set(gone):
            out.append(gen)
    return tuple(out)
