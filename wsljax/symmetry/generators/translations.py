"""The search for shifts by the vectors of a constant subspace, over the fixed axes of a block.

Entries that a mask takes out do not matter; of weights that read two copies of the same thing only the sum
does. Both show as vectors over the fixed axes along which the block may move, whatever stands on its other
axes.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from ..._compat import open_jaxpr, sub_jaxprs
from .amounts import expand
from .kinds import Shift
from .nullspace import rank, reduced
from .probe import Probe
from .search import Search
from .shifts import shift_of

MOST_VECTORS = 256
"""Fixed axes of more entries are not looked at."""
CHOOSING = {"argmax", "argmin", "top_k", "approx_top_k"}


def translations(search: Search, known: list[Shift]) -> list[Shift]:
    """Shifts along constant vectors that those that are ``known`` do not contain.

    Where numbers in the data say which entries are read (words, codes, the largest of several), none are
    looked for: what no example reads is not what never matters.
    """
    if chooses(search.probe):
        return []
    names = [
        name
        for name, b in search.blocks.items()
        if name not in search.free and 1 < _count(b) <= MOST_VECTORS and not _joint(b)
    ]
    found = search.each(names, lambda n: (n,), lambda n: _translations(search, n, known))
    return [g for some in found for g in some]


def _translations(search: Search, name: str, known: list[Shift]) -> list[Shift]:
    block = search.blocks[name]
    along = _fixed(block)
    rest = [k for k in range(len(block.axes)) if k not in along]
    n = _count(block)

    def make(k, leaves):
        amount = np.random.default_rng([k, 47]).standard_normal([block.shape[m] for m in rest])
        out = []
        for one in np.eye(n):
            x = np.multiply.outer(one.reshape([block.shape[m] for m in along]), amount)
            out.append({name: x.transpose(np.argsort([*along, *rest]))})
        return out

    span = reduced(_known(block, along, known))
    basis = []
    for v in search.null(make, n):
        wider = np.concatenate([span, v[None]])
        if rank(wider) > len(span):
            span = reduced(wider)
            basis.append(tuple(float(x) for x in v))
    if not basis:
        return []
    shift = shift_of(search, name, along, (), ())
    over, sizes = ("_", *shift.over), (len(basis), *shift.sizes)
    return [replace(shift, over=over, sizes=sizes, basis=tuple(basis))]


def _fixed(block) -> tuple[int, ...]:
    return tuple(k for k, label in enumerate(block.axes) if label.startswith("_"))


def _count(block) -> int:
    return int(np.prod([block.shape[k] for k in _fixed(block)]))


def _joint(block) -> bool:
    units = [label for label in block.axes if not label.startswith("_")]
    return len(set(units)) < len(units)


def _known(block, along, known) -> np.ndarray:
    """The vectors over the fixed axes of a block along which known shifts move it."""
    n = _count(block)
    rows = [np.zeros((0, n))]
    like = jnp.zeros([block.shape[k] for k in along])
    for g in known:
        alone = not (g.carries or g.gains or g.terms or g.basis)
        if g.target != block.name or not alone or not set(g.constant) <= set(along):
            continue
        inner = {k: m for m, k in enumerate(along)}
        kept = [k for k in along if k not in g.constant and k not in dict(g.part)]
        one = replace(
            g,
            constant=tuple(inner[k] for k in g.constant),
            part=tuple((inner[k], i) for k, i in g.part),
        )
        shape = [block.shape[k] for k in kept]
        for e in np.eye(int(np.prod(shape))):
            rows.append(np.asarray(expand(one, jnp.asarray(e.reshape(shape)), like)).reshape(1, n))
    return np.concatenate(rows)


def chooses(probe: Probe) -> bool:
    """Whether integers among the inputs, or made of numbers on the way, may say what is read."""
    inputs = (x.dtype for x in probe.inputs if hasattr(x, "dtype"))
    if any(jnp.issubdtype(t, jnp.integer) or jnp.issubdtype(t, jnp.bool_) for t in inputs):
        return True

    def within(jaxpr) -> bool:
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            if name in CHOOSING or name == "sort" and eqn.params["num_keys"] < len(eqn.invars):
                return True
            if name == "convert_element_type" and _kind(eqn.invars[0]) == "f":
                if _kind(eqn.outvars[0]) in "iu":
                    return True
            if any(within(open_jaxpr(sub)[0]) for _, sub in sub_jaxprs(eqn)):
                return True
        return False

    return within(open_jaxpr(probe.traced)[0])


def _kind(atom) -> str:
    dtype = getattr(atom.aval, "dtype", None)
    return getattr(dtype, "kind", "") if dtype is not None else ""
