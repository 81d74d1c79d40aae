"""Which units the axes of values inside a function run over: the walk of inference, watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._compat import key_path_str, open_jaxpr
from .annotation import Leaf
from .axes import Alt, Axis, Fixed, Prod, Reorder, Sum, Unit, atoms
from .infer import worth_unrolling
from .inference.annotate import Annotator
from .inference.cells import Cells
from .inference.distinct import with_ranks
from .inference.picks import Picked
from .inference.shown import Shown, depends
from .inference.trees import rejoin
from .inference.values import View
from .inference.walk import RULES, Walk
from .layout import blocks_of
from .spec import Spec

Path = tuple[int, ...]
"""Which equation: its place in the function, then its place in what that one runs, and so on."""

Place = tuple[Path, int]
"""An equation, and which of its operands."""


class _Recorder(Walk):
    """A walk that keeps the views of the wanted operands."""

    def __init__(self, unroll, wanted: Sequence[Place]):
        super().__init__(unroll)
        self.wanted: dict[Path, list[int]] = {}
        for path, k in wanted:
            self.wanted.setdefault(path, []).append(k)
        self.path: list[int] = []
        self.places: dict[int, int] = {}
        self.steps: dict[Path, Any] = {}
        self.open: list[Any] = []
        self.lengths: dict[Path, int] = {}
        self.seen: dict[Place, list[View]] = {}

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[View]) -> list[View]:
        self.places |= {id(eqn): n for n, eqn in enumerate(jaxpr.eqns)}
        here = tuple(self.path)
        keys = [k for view in args for k in view.hidden if _is_step(k) and k not in self.open]
        if here in self.lengths and keys:
            self.steps[here] = keys[0]
        before = list(self.open)
        self.open += keys[:1]
        try:
            return super().run(jaxpr, consts, args)
        finally:
            self.open = before

    def apply(self, eqn: Any, views: list[View]) -> list[View]:
        self.path.append(self.places.get(id(eqn), -1))
        here = tuple(self.path)
        if eqn.primitive.name == "scan":
            self.lengths[here] = eqn.params["length"]
        for k in self.wanted.get(here, ()):
            self.seen.setdefault((here, k), []).append(views[k])
        try:
            return super().apply(eqn, views)
        finally:
            self.path.pop()


def _is_step(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and key[0] == "step"


def annotated(
    closed: Any, spec: Spec, params: Any, wanted: Sequence[Place]
) -> tuple[list[Leaf], list[Place]]:
    """The wanted operands that carry units of ``spec``, with their axis trees.

    Args:
        closed: the traced function; its arguments are ``params`` and then the inputs.
        spec: the annotation of ``params``.
        params: tree of arrays, or of their shapes.
        wanted: equations, and which of their operands.

    Raises:
        ValueError: if the spec is not one that the function has, naming the first leaf that differs.
    """
    jaxpr, consts = open_jaxpr(closed)
    count = len(jax.tree.leaves(params))
    ranks = with_ranks(jaxpr, RULES.keys() - {"scan", "while", "cond"})

    def walked(unroll):
        walk = _Recorder(unroll, wanted)
        walk.ranks = ranks
        args = [walk.array(v.aval.shape) for v in jaxpr.invars]
        for n, (view, var) in enumerate(zip(args, jaxpr.invars, strict=True)):
            if jnp.issubdtype(var.aval.dtype, jnp.inexact):
                view.distinct = (True,) * len(view.axes)
            if n >= count:
                walk.pin_view(view, "an axis of the inputs")
        for view in [walk.laid_out(v) for v in walk.run(jaxpr, consts, args)]:
            walk.spend(view, "coordinates are returned as numbers")
            for items in view.hidden.values():
                walk.pin_items(items, "chosen by an index")
            walk.pin_view(view, "an axis of the outputs")
        return walk, args[:count]

    walk, leaves = walked(frozenset())
    worth = worth_unrolling(walk)
    if worth:
        walk, leaves = walked(worth)
    cells = Cells(walk)

    def shown(path: str, view: View) -> Shown:
        found = view.factors()
        return Shown(path, view, cells.arrays[id(found[0].struct)] if found else None)

    paths = [key_path_str(p) for p, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    own = [shown(p, v) for p, v in zip(paths, leaves, strict=True)]
    notes = Annotator(cells, own, [])
    parts = {
        notes.names[k]: tuple(notes.cells.size[c] for c in group)
        for k, group in notes.members.items()
    }
    parts = {name: sizes for name, sizes in parts.items() if len(sizes) > 1}

    def trees(s: Shown) -> tuple[Axis, ...]:
        if s.array is not None:
            notes.needs.setdefault(
                id(s), {k: depends(cells, s.array, k) for k in range(len(s.array.factors))}
            )
        return rejoin(notes.trees(s), parts)

    names = _names([Leaf(s.path, s.shape, trees(s)) for s in own], spec)
    overs = {u.name: u.over for u in spec.units if u.over}
    found, places = [], []
    kept = []  # ids of what is shown must stay taken
    for place in wanted:
        view = _one_view(walk, place)
        if view is None:
            continue
        s = shown(str(len(found)), view)
        kept.append(s)
        try:
            tree = tuple(_renamed(t, names) for t in trees(s))
            leaf = Leaf(s.path, s.shape, tree)
            blocks_of(s.path, tree, overs)
        except (KeyError, ValueError, IndexError, StopIteration):
            continue  # an axis of which the grammar cannot say what it is
        if any(isinstance(a, Unit) for t in tree for a in atoms(t)):
            found.append(leaf)
            places.append(place)
    return found, places


def _one_view(walk: _Recorder, place: Place) -> View | None:
    """The view of a wanted operand, steps of scans as leading axes; None if it is not one array."""
    views = walk.seen.get(place, [])
    if len(views) != 1 or type(views[0]) is Picked:
        return None
    view, path = views[0], place[0]
    scans = [path[:n] for n in range(1, len(path)) if path[:n] in walk.lengths]
    known = {walk.steps.get(p) for p in scans}
    if view.index is not None or view.gathered or view.columns or set(view.hidden) - known:
        return None
    lead = [view.hidden.get(walk.steps.get(p), (walk.lengths[p],)) for p in scans]
    return View((*lead, *view.axes))


def _names(own: Sequence[Leaf], spec: Spec) -> dict[str, str]:
    """What the units that the walk found are called in ``spec``."""
    names: dict[str, str] = {}
    given = {leaf.path: leaf for leaf in spec.leaves}
    for leaf in own:
        other = given.get(leaf.path)
        if (
            other is None
            or other.shape != leaf.shape
            or not all(_same(a, b, names) for a, b in zip(leaf.trees, other.trees, strict=True))
        ):
            raise ValueError(
                f"leaf {leaf.path!r} of the spec is not what the function says of it; infer the spec "
                "from this function and these inputs, or do without activations"
            )
    return names


def _same(a: Axis, b: Axis, names: dict[str, str]) -> bool:
    if type(a) is not type(b) or a.size != b.size:
        return False
    if isinstance(a, Fixed):
        if (a.name is None) != (b.name is None):  # type: ignore[union-attr]
            return False
        return a.name is None or names.setdefault(a.name, b.name) == b.name  # type: ignore
    if isinstance(a, Unit):
        return names.setdefault(a.name, b.name) == b.name and (a.part, a.at) == (b.part, b.at)  # type: ignore
    if isinstance(a, Reorder):
        return a.order == b.order and _same(a.tree, b.tree, names)  # type: ignore
    return len(a.parts) == len(b.parts) and all(  # type: ignore[union-attr]
        _same(x, y, names)
        for x, y in zip(a.parts, b.parts, strict=True)  # type: ignore
    )


def _renamed(tree: Axis, names: dict[str, str]) -> Axis:
    if isinstance(tree, Fixed):
        return tree if tree.name is None else Fixed(tree.size, names[tree.name])
    if isinstance(tree, Unit):
        return Unit(names[tree.name], tree.size, tree.part, tree.at)
    if isinstance(tree, Reorder):
        return Reorder(_renamed(tree.tree, names), tree.order)
    if isinstance(tree, Alt):
        return Alt(tree.axis, tuple(_renamed(p, names) for p in tree.parts))
    assert isinstance(tree, (Prod, Sum))
    return type(tree)(tuple(_renamed(p, names) for p in tree.parts))
