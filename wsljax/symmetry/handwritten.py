"""``parse``: hand-written annotations as a spec, every name's size solved from the shapes of the leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import jax

from .._compat import key_path_str
from .axes import UNKNOWN, Alt, Axis, Fixed, Reorder, Sum, Unit, atoms, ordered
from .grammar import parse_axes
from .spec import Leaf, Spec, Units

Name = tuple[str, int | None]


def parse(params: Any, annotations: Any) -> Spec:
    """The spec that hand-written annotations describe.

    Args:
        params: any tree of arrays or ``ShapeDtypeStruct``s.
        annotations: ``{path: text}``, or a tree of texts of the structure of ``params``.

    Returns:
        A :class:`Spec` with the units in order of first appearance.

    Raises:
        ValueError: for an unknown path, a rank or size that does not fit, or a size that neither
            shapes nor ``=n`` in the text tell; each names the path.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"w0": jnp.zeros((2, 16)), "w1": jnp.zeros((16, 1))}
        >>> parse(params, {"w0": "_ h", "w1": "h _"}).units
        (Units(name='h', size=16, over=(), parts=()),)
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    shapes = {key_path_str(p): tuple(x.shape) for p, x in flat}
    texts = annotations
    if not isinstance(annotations, Mapping) or set(annotations) != set(shapes):
        tree = jax.tree_util.tree_flatten_with_path(
            annotations, is_leaf=lambda x: isinstance(x, str)
        )[0]
        texts = {key_path_str(p): x for p, x in tree}
    if set(texts) != set(shapes):
        raise ValueError(
            f"annotations do not match params: missing {sorted(set(shapes) - set(texts))}, "
            f"unknown {sorted(set(texts) - set(shapes))}"
        )
    leaves, units = resolve({p: (texts[p], shapes[p]) for p in shapes})
    spec = Spec(tuple(Leaf(p, shapes[p], t) for p, t in leaves.items()), units, treedef=treedef)
    spec.validate()
    return spec


def resolve(
    leaves: Mapping[str, tuple[str, tuple[int, ...]]],
) -> tuple[dict[str, tuple[Axis, ...]], tuple[Units, ...]]:
    """Trees with all sizes known, and the units they name.

    Args:
        leaves: ``{path: (annotation, shape)}``.

    Raises:
        ValueError: for a wrong rank, sizes that contradict, a size that nothing tells, or an order
            that is not a permutation of its axis.
    """
    overs: dict[str, tuple[str, ...]] = {}
    trees: dict[str, tuple[Axis, ...]] = {}
    for path, (text, shape) in leaves.items():
        try:
            parsed = parse_axes(text, overs)
        except ValueError as e:
            raise ValueError(f"{path!r}: {e}") from None
        if len(parsed) != len(shape):
            raise ValueError(
                f"{path!r}: annotation {text!r} has {len(parsed)} axes, the array has shape {shape}"
            )
        trees[path] = parsed
    known: dict[Name, int] = {}
    for path in trees:
        for tree in trees[path]:
            for a in atoms(tree):
                if a.name is not None and a.size != UNKNOWN:
                    _learn(known, path, (a.name, getattr(a, "part", None)), a.size)
    progress = True
    while progress:
        before = len(known), sum(t.size == UNKNOWN for ts in trees.values() for t in ts)
        for path, (_, shape) in leaves.items():
            trees[path] = tuple(
                _solve(known, path, t, n) for t, n in zip(trees[path], shape, strict=True)
            )
        progress = before != (
            len(known),
            sum(t.size == UNKNOWN for ts in trees.values() for t in ts),
        )
    for path, (text, shape) in leaves.items():
        for k, (tree, n) in enumerate(zip(trees[path], shape, strict=True)):
            if tree.size == UNKNOWN:
                raise ValueError(
                    f"{path!r}: the sizes on axis {k} of {text!r} do not follow from shape {shape}; "
                    "write them, as in 'u=3+v' or '_3+v'"
                )
            if tree.size != n:
                raise ValueError(
                    f"{path!r}: axis {k} of {text!r} has size {tree.size}, the array has shape {shape}"
                )
    return trees, _units(trees, overs)


def _learn(known: dict[Name, int], path: str, name: Name, size: int) -> None:
    if known.setdefault(name, size) != size:
        raise ValueError(f"{path!r}: {name[0]!r} has size {size} here and {known[name]} elsewhere")


def _solve(known: dict[Name, int], path: str, tree: Axis, size: int) -> Axis:
    """``tree`` with the sizes that follow from its own (``UNKNOWN`` if not told)."""
    if isinstance(tree, (Fixed, Unit)):
        if tree.name is None:
            return replace(tree, size=size) if tree.size == UNKNOWN and size != UNKNOWN else tree
        name = (tree.name, getattr(tree, "part", None))
        if size != UNKNOWN:
            _learn(known, path, name, size)
        return replace(tree, size=known.get(name, UNKNOWN))
    if isinstance(tree, Alt):
        return replace(tree, parts=tuple(_solve(known, path, p, size) for p in tree.parts))
    if isinstance(tree, Reorder):
        solved = replace(tree, tree=_solve(known, path, tree.tree, size))
        try:
            return ordered(solved)
        except ValueError as e:
            raise ValueError(f"{path!r}: {e}") from None
    parts = [_solve(known, path, p, UNKNOWN) for p in tree.parts]
    open_ = [i for i, p in enumerate(parts) if p.size == UNKNOWN]
    if size != UNKNOWN and open_ and all(parts[i] == parts[open_[0]] for i in open_):
        told = [p.size for p in parts if p.size != UNKNOWN]
        if isinstance(tree, Sum):
            share, rest = divmod(size - sum(told), len(open_))
        else:
            share, rest = divmod(size, prod(told))
            if len(open_) > 1:
                share, rest = UNKNOWN, 0
        if rest or share < 1 and share != UNKNOWN:
            raise ValueError(f"{path!r}: parts of sizes {told} do not fit an axis of size {size}")
        parts = [_solve(known, path, p, share) if i in open_ else p for i, p in enumerate(parts)]
    return replace(tree, parts=tuple(parts))


def _units(
    trees: Mapping[str, tuple[Axis, ...]], overs: Mapping[str, tuple[str, ...]]
) -> tuple[Units, ...]:
    found: dict[str, dict[int | None, int]] = {}
    for leaf in trees.values():
        for tree in leaf:
            for a in atoms(tree):
                if isinstance(a, Unit):
                    found.setdefault(a.name, {})[a.part] = a.size
    units = []
    for name, parts in found.items():
        if None in parts:
            units.append(Units(name, parts[None], overs.get(name, ())))
            if len(parts) > 1 and prod(s for p, s in parts.items() if p is not None) != parts[None]:
                raise ValueError(f"factors of {name!r} do not multiply to its size {parts[None]}")
            if len(parts) == 1:
                continue
        sizes = tuple(parts[i] for i in sorted(p for p in parts if p is not None))
        entry = Units(name, prod(sizes), overs.get(name, ()), sizes)
        if None in parts:
            units[-1] = entry
        else:
            units.append(entry)
    return tuple(units)
