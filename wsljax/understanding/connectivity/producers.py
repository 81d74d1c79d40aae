"""``find_producers``: which weights rescale and shift which values inside a function, found by tracing it.

No layer registers anything and no name is read. The function is traced, a walk over it (:mod:`.walk`) follows
the weights, and what comes out is a list of places: values (pre-activations, results of normalisations) with
the entries of the leaves that produce them, one group for each unit. :func:`.repair` sets the statistics of
these values by rescaling these entries; :func:`.reset_statistics` recomputes stored ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import Literal, key_path_str, open_jaxpr, scan_split
from ...symmetry.rewrite import plain
from . import views as v
from .views import Event, Handle, Norm, Where
from .walk import Walk, entered


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of one leaf, and the unit of each.

    Attributes:
        leaf: number of the leaf.
        index: row-major positions in it; leading axes are the steps of the scans around (size 1: shared).
        units: of the same rank without the leading axes, size 1 where it does not vary.
        steps: what the entries are sent through before they act.
        sign: of a shift; 0 for what is only multiplied.
    """

    leaf: int
    index: np.ndarray
    units: np.ndarray
    steps: tuple[tuple[str, float | None], ...]
    sign: int = 1

    def whole(self, leaf: Any) -> bool:
        """Whether these are all entries of the leaf, in order."""
        same = self.index.size == leaf.size
        return same and bool(np.all(self.index.ravel() == np.arange(leaf.size)))

    def shown(self, leaves: list) -> jax.Array:
        """What the function sees of the entries."""
        leaf = leaves[self.leaf]
        own = leaf.reshape(self.index.shape) if self.whole(leaf) else leaf.ravel()[self.index]
        return v.forward(self.steps, own)

    def change(self, leaves: list, change: Callable, amounts: jax.Array) -> None:
        """Replace what the entries show by ``change(shown, amount of the unit)``, in place."""
        leaf = leaves[self.leaf]
        each = amounts[..., self.units].astype(leaf.dtype)
        new = v.backward(self.steps, change(self.shown(leaves), each))
        new = jnp.broadcast_to(new, self.index.shape).astype(leaf.dtype)
        if self.whole(leaf):
            leaves[self.leaf] = new.reshape(leaf.shape)
        else:
            flat = leaf.ravel().at[self.index.ravel()].set(new.ravel())
            leaves[self.leaf] = flat.reshape(leaf.shape)


@dataclass(frozen=True, eq=False)
class Place:
    """A value inside the function, by units.

    Attributes:
        where: which value.
        lead: sizes of the steps of the scans around it; 1 where all steps are taken together.
        count: number of units.
        units: the unit of every coordinate, size 1 along axes on which it does not vary.
        scale: entries that multiply the value.
        shift: entries that add to it, or None: its means follow its deviations.
        last: whether nothing but this layer lies between it and the results.
        text: the leaves, in words.
    """

    where: Where
    lead: tuple[int, ...]
    count: int
    units: np.ndarray
    scale: tuple[Entries, ...]
    shift: Entries | None
    last: bool
    text: str


@dataclass(frozen=True, eq=False)
class Stored:
    """Leaves that hold the mean and the variance of a value, as batch normalisation stores them."""

    where: Where
    lead: tuple[int, ...]
    count: int
    units: np.ndarray
    mean: Entries
    variance: Entries
    text: str


@dataclass(frozen=True, eq=False)
class Producers:
    """What :func:`find_producers` finds.

    Attributes:
        places: values whose statistics the weights can set, in the order in which they are computed.
        stored: statistics that the weights hold.
        left: what cannot be set, and why, one line each.
        jaxpr: the traced function.
    """

    places: tuple[Place, ...]
    stored: tuple[Stored, ...]
    left: tuple[str, ...]
    jaxpr: Any

    def __str__(self) -> str:
        lines = [p.text for p in self.places] + [s.text for s in self.stored]
        return "\n".join([*lines, *(f"left: {line}" for line in self.left)])

    def run(self, params: Any, inputs: tuple, watch: Mapping[Where, Callable]) -> dict[Where, Any]:
        """What ``watch[where](value)`` gives for values inside the function; steps of scans lead."""
        inner, consts = open_jaxpr(self.jaxpr)
        flat = zip(jax.tree.leaves((params, *inputs)), inner.invars, strict=True)
        args = [jnp.asarray(x).astype(a.aval.dtype) for x, a in flat]
        return _run(inner, consts, args, (), watch)[1]


def find_producers(fn: Callable, params: Any, *inputs: Any) -> Producers:
    """Find the entries of the weights that rescale and shift values inside ``fn(params, *inputs)``.

    Args:
        fn: any function; it is traced, not run.
        params, inputs: arrays, or their shapes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def fn(p, x):
        ...     return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]
        >>> p = {"w": jnp.ones((2, 5)), "b": jnp.ones(5), "v": jnp.ones((5, 1))}
        >>> print(find_producers(fn, p, jnp.ones((7, 2))))
        5 units: scaled by w, b; shifted by b
        1 unit: scaled by v; the last layer
    """
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), (params, *inputs)
    )
    closed = jax.make_jaxpr(fn)(*shapes)
    inner, consts = open_jaxpr(closed)
    flat = jax.tree_util.tree_flatten_with_path(shapes[0])[0]
    names = [key_path_str(path) for path, _ in flat]
    walk = Walk()
    args: list[Any] = [walk.source(x.shape) for _, x in flat]
    args += [v.Value(((), -1, k)) for k in range(len(args), len(inner.invars))]
    outs = walk.run(inner, consts, args, ())
    last = frozenset().union(*(o.fresh for o in outs if isinstance(o, v.Value)))
    for o in outs:
        walk.consume(o)
    readers = _Readers(walk)
    left = list(walk.left)
    places, stored = [], []
    for where, handle in walk.places:
        found = _place(walk, readers, where, handle, handle.number in last, names, left)
        places += [found] if found is not None else []
    for norm in walk.norms:
        found = _stored(walk, readers, norm, names, left)
        stored += [found] if found is not None else []
    return Producers(tuple(places), tuple(stored), tuple(dict.fromkeys(left)), closed)


class _Readers:
    """How many places read each entry of each leaf."""

    def __init__(self, walk: Walk):
        self.walk = walk
        self.of: dict[int, list[tuple[int, np.ndarray]]] = {}
        for use in walk.uses:
            leaf, index = walk.resolve(use.view.source, v.compact(use.view.index)[0])
            entries = np.unique(index)
            self.of.setdefault(leaf, []).append((use.number, entries[entries >= 0]))

    def others(self, leaf: int, index: np.ndarray, own: set[int]) -> bool:
        """Whether something else than these uses reads some of the entries."""
        for number, entries in self.of.get(leaf, []):
            if number not in own and entries.size and np.isin(index, entries).any():
                return True
        return False


def _entries(walk: Walk, event: Event, sign: int = 1) -> Entries:
    view = event.use.view
    index, units = v.compact(view.index, event.units)
    leaf, index = walk.resolve(view.source, index)
    steps = () if sign == 0 else view.steps  # a factor passes through what is linear
    return Entries(leaf, index, v.smallest(units), steps, sign)


def _place(
    walk: Walk, readers: _Readers, where: Where, h: Handle, last: bool, names, left
) -> Place | None:
    scale = tuple(_entries(walk, e, 0) for e in h.scale)
    shift = None if h.shift is None else _entries(walk, *h.shift)
    own = {e.use.number for e in h.scale}
    leaves = ", ".join(dict.fromkeys(names[e.leaf] for e in scale))
    shared = [e for e in scale if readers.others(e.leaf, e.index, own)]
    if shared:
        left.append(f"{leaves}: {names[shared[0].leaf]} is read elsewhere too")
        return None
    units = f"{h.count} unit{'' if h.count == 1 else 's'}"
    if shift is None and not last:
        left.append(f"{leaves}: nothing shifts its {units}, so only the deviation can be set")
    text = f"{units}: scaled by {leaves}"
    text += f"; shifted by {names[shift.leaf]}" if shift is not None else ""
    text += "; the last layer" if last else ""
    every = (*scale, *((shift,) if shift is not None else ()))
    lead = _lead(every, [e.units.ndim for e in every])
    return Place(where, lead, h.count, v.smallest(h.units), scale, shift, last, text)


def _stored(walk: Walk, readers: _Readers, norm: Norm, names, left) -> Stored | None:
    mean, variance = _entries(walk, norm.mean), _entries(walk, norm.variance)
    text = f"{norm.count} stored means in {names[mean.leaf]}, variances in {names[variance.leaf]}"
    for e, event in ((mean, norm.mean), (variance, norm.variance)):
        if readers.others(e.leaf, e.index, {event.use.number}):
            left.append(f"{text}: {names[e.leaf]} is read elsewhere too")
            return None
    lead = _lead((mean, variance), [mean.units.ndim, variance.units.ndim])
    return Stored(norm.where, lead, norm.count, v.smallest(norm.units), mean, variance, text)


def _lead(entries: Sequence[Entries], ranks: Sequence[int]) -> tuple[int, ...]:
    """Steps of the scans around that have entries of their own in every group."""
    leads = [e.index.shape[: e.index.ndim - r] for e, r in zip(entries, ranks, strict=True)]
    return tuple(min(sizes) for sizes in zip(*leads, strict=True))


# ------------------------------------------------------------------------------------------- running
def _run(jaxpr, consts, args, path, watch: Mapping[Where, Callable]) -> tuple[list, dict]:
    """The results of a traced function, and what is seen of the watched values in it."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    seen: dict[Where, Any] = {}
    inside = Counter(p[: len(path) + 1] for p, _, _ in watch if len(p) > len(path))

    def look(n, values):
        for k, x in enumerate(values):
            if (path, n, k) in watch:
                seen[path, n, k] = watch[path, n, k](x)

    look(-1, args)
    for n, eqn in enumerate(jaxpr.eqns):
        values = [a.val if isinstance(a, Literal) else env[a] for a in eqn.invars]
        if (*path, n) in inside:
            outs, more = _enter(eqn, values, (*path, n), watch)
            seen |= more
        else:
            outs = plain(eqn, values)
        look(n, outs)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [a.val if isinstance(a, Literal) else env[a] for a in jaxpr.outvars], seen


def _enter(eqn, values, path, watch) -> tuple[list, dict]:
    inner, consts = entered(eqn)  # pyright: ignore[reportGeneralTypeIssues]
    if eqn.primitive.name != "scan":
        return _run(inner, consts, values, path, watch)
    split = scan_split(eqn)
    n, m = split.num_consts, split.num_consts + split.num_carry
    order: list[Where] = []

    def step(carry, x):
        outs, seen = _run(inner, consts, [*values[:n], *carry, *x], path, watch)
        order[:] = list(seen)
        return outs[: split.num_carry], (outs[split.num_carry :], list(seen.values()))

    p = eqn.params
    carry, (ys, seen) = jax.lax.scan(
        step, list(values[n:m]), list(values[m:]), length=p["length"], reverse=p["reverse"]
    )
    return [*carry, *ys], dict(zip(order, seen, strict=True))
