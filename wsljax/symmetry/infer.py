"""``infer``: the symmetry of any JAX function, from one walk over its trace.

Sound always: what is not understood is pinned and reported with its source line. The steps are

- trace to links: :mod:`.inference.walk`, with one rule for each primitive in :mod:`.rules`;
- links to classes of coordinates that move together: :mod:`.inference.cells`;
- needless cuts undone: :mod:`.inference.merge`;
- wreath products: :mod:`.inference.nest`;
- annotations: :mod:`.inference.annotate`.

Units may stand anywhere along an axis and in any order: a flip, a roll, alternating constants or padding
on both sides give a reindexed axis, as in ``h{::-1}``. A known limit: an axis of which two reshapes make
products that do not nest, with a transposition between them, is cut into what both can say.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import is_tracer, key_path_str, open_jaxpr
from . import rules  # noqa: F401
from .axes import Unit, atoms
from .generators.find import find
from .inference.annotate import Annotator
from .inference.cells import Cells
from .inference.distinct import with_ranks
from .inference.shown import Shown, reasons
from .inference.trees import rejoin
from .inference.values import View
from .inference.walk import RULES, Walk
from .spec import KINDS, Leaf, Pinned, Spec, Units

MAX_UNROLL = 128


def infer(
    fn: Callable,
    params: Any,
    *inputs: Any,
    free_inputs: bool | tuple[bool, ...] = False,
    free_outputs: bool = False,
    kinds: tuple[str, ...] | None = None,
) -> Spec:
    """Find what leaves ``fn(params, *inputs)`` unchanged.

    Args:
        fn: any JAX function, jitted or not.
        params: tree of arrays, or of ``ShapeDtypeStruct``s.
        *inputs: trees of arrays or ``ShapeDtypeStruct``s. For permutations only shapes and dtypes are
            read; the other kinds of generators are looked for where all values are given.
        free_inputs: let inputs move (one flag each, or one for all); ``spec.inputs`` says how.
        free_outputs: let outputs move; ``spec.outputs`` says how.
        kinds: what to look for, as in ``("permutation", "scale")``; ``None`` for all there are. Kinds
            beyond permutations need values, and run the function many times: milliseconds become seconds.

    Returns:
        The :class:`Spec`: every permutation of axes found to leave the function unchanged, nested
        units included, and the generators beyond permutations, each verified by moving random parameters
        in float64. ``spec.pinned`` says what was fixed, ``spec.skipped`` what was not looked for or
        dropped, and why, ``spec.approximate`` what holds but for an epsilon.

    Raises:
        TypeError: for leaves that are not floating-point arrays, or a function that closes over tracers.
        ValueError: for zero-size axes, NaN parameters, or an unknown kind. Each names the leaf and the
            remedy.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def mlp(p, x):
        ...     return jnp.tanh(x @ p["w0"] + p["b0"]) @ p["w1"]
        >>> f32 = lambda *shape: jax.ShapeDtypeStruct(shape, "float32")
        >>> spec = infer(mlp, {"w0": f32(2, 16), "b0": f32(16), "w1": f32(16, 1)}, f32(8, 2))
        >>> spec.axes
        {'b0': 'h0', 'w0': '_ h0', 'w1': 'h0 _'}
        >>> p = {"w0": jnp.ones((2, 16)), "b0": jnp.ones(16), "w1": jnp.ones((16, 1))}
        >>> [g.name for g in infer(mlp, p, jnp.ones((8, 2))).generators]
        ['sign:h0']
    """
    for kind in kinds or ():
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; known: {KINDS}")
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    paths = [key_path_str(p) for p, _ in flat]
    if len(set(paths)) < len(paths):
        twice = sorted({p for p in paths if paths.count(p) > 1})
        raise ValueError(f"params: two leaves have the same path {twice[0]!r}; rename one")
    for path, (_, leaf) in zip(paths, flat, strict=True):
        _check_leaf(path, leaf)
    abstract = [_abstract(leaf) for _, leaf in flat]
    ends, ends_def = jax.tree_util.tree_flatten_with_path(inputs)
    end_paths = [key_path_str(p) for p, _ in ends]
    for path, (_, x) in zip(end_paths, ends, strict=True):
        if not hasattr(x, "shape") and not isinstance(x, (int, float, complex, np.generic)):
            raise TypeError(
                f"input {path!r} is {type(x).__name__}, not an array: close over it, as in "
                "`infer(lambda params, x: fn(params, x, option), params, x)`"
            )
        if 0 in np.shape(x):
            raise ValueError(
                f"input {path!r} has a zero-size axis: shape {np.shape(x)}; pass a non-empty example"
            )
    moving = free_inputs if isinstance(free_inputs, tuple) else (free_inputs,) * len(inputs)
    if len(moving) != len(inputs):
        raise ValueError(f"`free_inputs` has {len(moving)} flags for {len(inputs)} inputs")

    shapes = jax.tree_util.tree_unflatten(treedef, abstract)
    in_shapes = jax.tree_util.tree_unflatten(ends_def, [_abstract(x) for _, x in ends])
    with _without_collector():
        closed, out_tree = jax.make_jaxpr(fn, return_shape=True)(shapes, *in_shapes)
        jaxpr, consts = open_jaxpr(closed)
        free = [moving[p[0].idx] for p, _ in ends]
        trace = (
            jaxpr,
            consts,
            [x.shape for x in abstract],
            [np.shape(x) for _, x in ends],
            free,
            free_outputs,
            with_ranks(jaxpr, RULES.keys() - {"scan", "while", "cond"}),
        )
        spec = _analyse(trace, paths, end_paths, out_tree, treedef)
    return _with_generators(fn, params, spec, inputs, kinds)


def _with_generators(
    fn: Callable, params: Any, spec: Spec, inputs: tuple, kinds: tuple[str, ...] | None
) -> Spec:
    """The spec with its generators, where there are values to look for them with."""
    wanted = [k for k in KINDS if k != "permutation" and (kinds is None or k in kinds)]
    if not wanted:
        return spec
    values = jax.tree_util.tree_leaves((params, inputs))
    why = None
    if any(isinstance(x, jax.ShapeDtypeStruct) or is_tracer(x) for x in values):
        why = "they need values, and only shapes were given"
    if why:
        return replace(spec, skipped=(f"generators {', '.join(wanted)}: {why}",))
    found = find(fn, params, spec, inputs, wanted)
    spec = replace(
        spec, generators=found.exact, approximate=found.approximate, skipped=found.skipped
    )
    spec.validate()
    return spec


@contextmanager
def _without_collector() -> Iterator[None]:
    """The garbage collector off: the analysis makes many small objects, all of them alive to its end."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _analyse(trace, paths: list[str], end_paths: list[str], out_tree: Any, treedef: Any) -> Spec:
    *_, free, free_outputs, _ = trace
    walk, params_views, in_views, outs = _walk(trace, frozenset())
    worth = worth_unrolling(walk)
    if worth:
        walk, params_views, in_views, outs = _walk(trace, worth)
    cells = Cells(walk)
    arrays = cells.arrays

    def shown(path: str, view: View) -> Shown:
        found = view.factors()
        return Shown(path, view, arrays[id(found[0].struct)] if found else None)

    leaves = [shown(p, v) for p, v in zip(paths, params_views, strict=True)]
    in_shown = [shown(p, v) for p, v in zip(end_paths, in_views, strict=True)]
    out_paths = [key_path_str(p) for p, _ in jax.tree_util.tree_flatten_with_path(out_tree)[0]]
    out_shown = [shown(p, v) for p, v in zip(out_paths, outs, strict=True)]
    free_ends = (in_shown if any(free) else []) + (out_shown if free_outputs else [])
    notes = Annotator(cells, leaves, free_ends)
    spec = _assemble(
        notes, leaves, in_shown if any(free) else None, out_shown if free_outputs else None, treedef
    )
    if walk.unknown:
        warnings.warn(
            "no rule for "
            + "; ".join(sorted(set(walk.unknown)))
            + ": what they touch is pinned; see "
            "`wsljax.symmetry.register_rule`",
            stacklevel=4,
        )
    return spec


def _walk(trace, unroll: frozenset) -> tuple[Walk, list[View], list[View], list[View]]:
    jaxpr, consts, shapes, in_shapes, free, free_outputs, ranks = trace
    walk = Walk(unroll)
    walk.ranks = ranks
    params = [walk.array(s) for s in shapes]
    inputs = [walk.array(s) for s in in_shapes]
    for view, var in zip((*params, *inputs), jaxpr.invars, strict=True):
        if jnp.issubdtype(var.aval.dtype, np.inexact):
            view.distinct = (True,) * len(view.axes)
    for view, moves in zip(inputs, free, strict=True):
        if not moves:
            walk.pin_view(view, "an axis of the inputs")
    outs = [walk.laid_out(v) for v in walk.run(jaxpr, consts, [*params, *inputs])]
    solid = []
    for view in outs:
        walk.spend(view, "coordinates are returned as numbers")
        for items in view.hidden.values():
            walk.pin_items(items, "chosen by an index")
        if not free_outputs:
            walk.pin_view(view, "an axis of the outputs")
        solid.append(View(view.axes))
    return walk, params, inputs, solid


def worth_unrolling(walk: Walk) -> frozenset:
    """Scans whose carried axes are new units at every step (a plain stack of layers)."""
    loops = [loop for loop in walk.loops if loop.length <= MAX_UNROLL]
    if not loops:
        return frozenset()
    links = list(walk.links)
    kept = [
        x for i, x in enumerate(links) if not any(i in r for loop in loops for r in loop.carrying)
    ]
    walk.links = kept
    cells = Cells(walk)
    walk.links = links
    worth = set()
    for loop in loops:
        inner = {id(s) for s in loop.structs}
        outside: set[int] = set()
        for key, array in cells.arrays.items():
            if key not in inner:
                outside |= {
                    cells.root(n) for cell in array.cells.values() for nodes in cell for n in nodes
                }
        for before, after in zip(loop.carries, loop.results, strict=True):
            a, b = _nodes(cells, before), _nodes(cells, after)
            if len(a) == len(b) and any(
                x != y and not {x, y} & outside and not {x, y} & set(cells.reasons)
                for x, y in zip(a, b, strict=True)
            ):
                worth.add(loop.mark)
    return frozenset(worth)


def _nodes(cells: Cells, view: View) -> list[int]:
    """The classes along a view's axes, in one cell."""
    out = []
    for axis in view.axes:
        for item in axis:
            if not isinstance(item, int):
                for f in item.flat():
                    array = cells.arrays[id(f.struct)]
                    first = next(iter(array.cells.values()))
                    out += [cells.root(n) for n in first[array.places[id(f)]]]
    return out


def _assemble(notes: Annotator, leaves, inputs, outputs, treedef) -> Spec:
    parts = {
        notes.names[k]: tuple(notes.cells.size[c] for c in group)
        for k, group in notes.members.items()
    }
    parts = {name: sizes for name, sizes in parts.items() if len(sizes) > 1}

    def build(group) -> tuple[Leaf, ...]:
        return tuple(Leaf(s.path, s.shape, rejoin(notes.trees(s), parts)) for s in group)

    ins = None if inputs is None else build(inputs)
    outs = None if outputs is None else build(outputs)
    built = build(leaves), ins, outs
    split = {
        a.name
        for group in built
        for leaf in group or ()
        for t in leaf.trees
        for a in _units_in(t)
        if a.part is not None
    }
    units = tuple(
        Units(
            name,
            notes.sizes[key],
            tuple(notes.names[b] for b, _ in notes.over.get(key, ())),
            parts.get(name, ()) if name in split else (),
        )
        for key, name in notes.names.items()
        if not name.startswith("_")
    )
    pinned = tuple(Pinned(s.path, *row) for s in leaves for row in reasons(notes.cells, s))
    return Spec(built[0], units, (), built[1], built[2], pinned, treedef)


def _units_in(tree):
    return [a for a in atoms(tree) if isinstance(a, Unit)]


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype, as jax has it: a numpy float64 is a float32 where x64 is off."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or isinstance(dtype, np.dtype) and dtype.itemsize > 4:
        dtype = jax.dtypes.result_type(x if dtype is None else np.zeros((), dtype))
    return jax.ShapeDtypeStruct(np.shape(x), dtype)


def _check_leaf(path: str, leaf: Any) -> None:
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        raise TypeError(
            f"params: leaf {path!r} is {type(leaf).__name__}, not an array; keep arrays only, as in "
            "`params, static = eqx.partition(model, eqx.is_inexact_array)`, and close over the rest"
        )
    if not jnp.issubdtype(leaf.dtype, np.inexact):
        raise TypeError(
            f"params: leaf {path!r} has dtype {leaf.dtype}; only floating-point weights have symmetries. "
            "Split it off (`eqx.partition(model, eqx.is_inexact_array)`, `nnx.split(model, nnx.Param, ...)`) "
            "and close over it"
        )
    if 0 in leaf.shape:
        raise ValueError(
            f"params: leaf {path!r} has a zero-size axis, shape {tuple(leaf.shape)}; remove the leaf"
        )
    if (
        is_tracer(leaf)
        or isinstance(leaf, jax.ShapeDtypeStruct)
        or not isinstance(leaf, (jax.Array, np.ndarray))
    ):
        return
    if not leaf.is_fully_addressable if isinstance(leaf, jax.Array) else False:
        return
    if leaf.size <= 1 << 24 and not bool(
        np.isfinite(
            np.sum(np.asarray(leaf, np.complex128 if np.iscomplexobj(leaf) else np.float64))
        )
    ):
        raise ValueError(
            f"params: leaf {path!r} has NaN or infinite entries; pass finite weights, or their "
            "ShapeDtypeStructs (`jax.eval_shape`) if only shapes are meant"
        )
