"""Whether trees, shapes, units and generators of a spec fit together."""

from __future__ import annotations

from .axes import Axis, Fixed, Unit, atoms, check_reindexing
from .generators import action
from .layout import blocks_of


def validate(spec) -> None:
    """See :meth:`Spec.validate`."""
    for leaf in spec.leaves + (spec.inputs or ()) + (spec.outputs or ()):
        if tuple(t.size for t in leaf.trees) != leaf.shape:
            raise ValueError(
                f"{leaf.path!r}: annotation has sizes {tuple(t.size for t in leaf.trees)}, the array {leaf.shape}"
            )
        if all(_is_simple(spec, t) for t in leaf.trees):
            continue
        for k, t in enumerate(leaf.trees):
            try:
                check_reindexing(t)
            except ValueError as e:
                raise ValueError(f"{leaf.path!r}: axis {k}: {e}") from None
            for a in atoms(t):
                if isinstance(a, Unit) and a.name not in spec._units:
                    raise ValueError(f"{leaf.path!r}: units {a.name!r} are not declared")
        for block in blocks_of(leaf.path, leaf.trees, spec._overs):
            for name, size in zip(block.axes, block.shape, strict=True):
                if name in spec._units and spec._units[name].size != size:
                    raise ValueError(
                        f"{leaf.path!r}: units {name!r} have size {spec._units[name].size}, here {size}"
                    )
    _validate_generators(spec)
    for u in spec.units:
        for o in u.over:
            if o not in spec._units and o not in spec._fixed_sizes:
                raise ValueError(f"units {u.name!r} are nested over {o!r}, which no leaf has")
            if o in spec._units and not set(spec._units[o].over) <= set(u.over):
                raise ValueError(
                    f"units {u.name!r} are nested over {o!r} and so must also be over {spec._units[o].over}"
                )


def _is_simple(spec, tree: Axis) -> bool:
    """Whether an axis is fixed, or one set of units of the right size that is not nested."""
    if type(tree) is Fixed:
        return True
    if type(tree) is not Unit or tree.part is not None or tree.at:
        return False
    u = spec._units.get(tree.name)
    return u is not None and u.size == tree.size and not u.over


def _validate_generators(spec) -> None:
    blocks = {b.name: b for b in spec.layout} if spec.generators else {}
    names = [*spec._units, *(gen.name for gen in spec.generators)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two units or generators have the name {name!r}")
    for gen in spec.generators:
        for name in sorted(action.touched(spec.generators, {gen.name})):
            if name not in blocks:
                raise ValueError(f"generator {gen.name!r}: no block is called {name!r}")
        for t in () if gen.kind in ("shift", "phase") else gen.terms:
            shape = blocks[t.block].shape
            axes = (*t.parents, *(() if t.axis is None else (t.axis,)))
            sizes = (*gen.sizes, *(() if t.axis is None else (gen.size,)))
            if len(axes) != len(sizes) or any(
                k >= len(shape) or shape[k] != n for k, n in zip(axes, sizes, strict=False)
            ):
                raise ValueError(
                    f"generator {gen.name!r}: axes {axes} of block {t.block!r}, of shape {shape}, "
                    f"do not have the sizes {sizes}"
                )
