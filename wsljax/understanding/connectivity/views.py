"""What a value of a traced function is, seen from the weights: which entries it shows, what may rescale it.

A walk over the function (:mod:`.producers`) gives every value one of these:

========================  =================================================================================
:class:`Known`            a number that is there already
:class:`View`             entries of one leaf of the weights, perhaps each sent through a simple function
:class:`Root`             ``1 / sqrt(view + epsilon)``, or its inverse, perhaps times other views
:class:`Computed`         anything else that depends on weights only
:class:`Value`            what depends on the inputs, with its :class:`Handle` if there is one
========================  =================================================================================

A :class:`Handle` says which entries of the weights multiply the value, unit by unit, and which add to it.
Units and entries are arrays of integers as large as the value; where they repeat along an axis they are
numpy views that take no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

Where = tuple[tuple[int, ...], int, int]
"""A value: the equations around its function, the equation that gives it (-1: an argument), which result."""


@dataclass(frozen=True, eq=False)
class Known:
    """A number that does not depend on weights or inputs."""

    value: Any

    @property
    def uniform(self) -> float | None:
        """Its one number, or None if there are several."""
        x = np.asarray(self.value)
        return float(x.flat[0]) if x.size and np.all(x == x.flat[0]) else None


@dataclass(frozen=True, eq=False)
class View:
    """Entries of a leaf, or of what a scan hands to its steps.

    Attributes:
        source: number of the leaf, or of the argument of a scan.
        index: which entry of it, row-major; below zero where there is none.
        steps: what every entry is sent through: ``("multiply", c)``, ``("add", c)``, ``("exp", 0)``,
            ``("log", 0)``, ``("clip", c)``; ``c`` is None where it differs from entry to entry.
    """

    source: int
    index: np.ndarray
    steps: tuple[tuple[str, float | None], ...] = ()

    @property
    def linear(self) -> bool:
        return all(name == "multiply" for name, _ in self.steps)

    @property
    def invertible(self) -> bool:
        return all(c is not None for _, c in self.steps)

    @property
    def complete(self) -> bool:
        return bool(np.all(compact(self.index)[0] >= 0))


@dataclass(frozen=True, eq=False)
class Use:
    """One place at which entries of a leaf are read: ``number`` tells uses apart."""

    number: int
    view: View


@dataclass(frozen=True, eq=False)
class Root:
    """``(view + epsilon) ** power`` times ``factors``; ``power`` is 1/2 or -1/2."""

    view: View
    power: float
    factors: tuple[Use, ...] = ()


@dataclass(frozen=True, eq=False)
class Computed:
    """Depends on weights only; ``product``: it is something minus this product (a folded mean)."""

    product: Root | None = None


@dataclass(frozen=True, eq=False)
class Event:
    """Entries of a leaf that act on a value: ``units[i]`` is the unit on which entry ``use.view.index[i]`` acts."""

    use: Use
    units: np.ndarray


@dataclass(frozen=True, eq=False)
class Handle:
    """How a value can be rescaled and shifted by the weights.

    Attributes:
        number: tells handles apart.
        count: number of units.
        units: the unit of every coordinate of the value.
        scale: entries which, all multiplied by ``s[unit]``, multiply the value by it.
        shift: entries, and a sign: adding ``sign * t[unit]`` to them adds ``t[unit]`` to the value.
        before: an earlier value with its handle, to be taken where this one cannot be shifted.
        layer: whether it is of a layer, and not of a gain.
    """

    number: int
    count: int
    units: np.ndarray
    scale: tuple[Event, ...]
    shift: tuple[Event, int] | None = None
    before: tuple[Where, Handle] | None = None
    layer: bool = True


@dataclass(frozen=True, eq=False)
class Value:
    """What depends on the inputs.

    Attributes:
        where: the equation that gives it.
        fresh: numbers of the handles of which it depends without another layer in between.
        handle: how the weights rescale it, or None.
        centred: it is ``x - view``: where ``x`` is, and the use of the view.
        divided: it is ``x * root``: where ``x`` is, and the root.
    """

    where: Where
    fresh: frozenset[int] = frozenset()
    handle: Handle | None = None
    centred: tuple[Where, Use] | None = None
    divided: tuple[Where, Root] | None = None


@dataclass(frozen=True, eq=False)
class Norm:
    """A normalisation by stored statistics: of the value at ``where``, in leaves ``mean`` and ``variance``."""

    where: Where
    count: int
    units: np.ndarray
    mean: Event
    variance: Event


# ---------------------------------------------------------------------------------- arrays of integers
def compact(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays, of one shape, with size 1 along axes on which none of them can vary."""
    arrays = tuple(np.broadcast_arrays(*arrays))
    keep = tuple(
        slice(None) if any(a.strides[k] for a in arrays) else slice(0, 1)
        for k in range(arrays[0].ndim)
    )
    return [a[keep] for a in arrays]


def smallest(units: np.ndarray) -> np.ndarray:
    """An array with size 1 along the axes on which it does not vary."""
    (units,) = compact(units)
    for k in range(units.ndim):
        first = units.take([0], axis=k)
        if units.shape[k] > 1 and np.all(units == first):
            units = first
    return np.ascontiguousarray(units)


def follows(index: np.ndarray, units: np.ndarray) -> bool:
    """Whether every entry belongs to one unit only."""
    index, units = compact(index, units)
    if index.size == 0 or index.min() < 0:
        return False
    table = np.full(int(index.max()) + 1, -1)
    table[index] = units
    return bool(np.all(table[index] == units))


def numbered(index: np.ndarray) -> tuple[np.ndarray, int]:
    """Units that are the entries themselves, counted from zero; the array keeps its shape."""
    (small,) = compact(index)
    found, inverse = np.unique(small, return_inverse=True)
    return np.broadcast_to(inverse.reshape(small.shape), index.shape), len(found)


def spread(sizes: dict[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Units that number the coordinates of some axes, row-major, as an array of ``shape``."""
    ids = np.arange(int(np.prod(list(sizes.values()), dtype=int))).reshape(tuple(sizes.values()))
    order = sorted(sizes)
    ids = ids.transpose([list(sizes).index(k) for k in order])
    return np.broadcast_to(
        ids.reshape([shape[k] if k in sizes else 1 for k in range(len(shape))]), shape
    )


# ------------------------------------------------------------------------- equations that only move entries
SAME = {"convert_element_type", "copy", "copy_p", "name", "sharding_constraint", "reduce_precision"}
MOVING = {"transpose", "reshape", "squeeze", "broadcast_in_dim", "rev", "expand_dims", *SAME}
CHOOSING = {"slice", "split"}


def moved(eqn: Any, x: np.ndarray) -> list[np.ndarray]:
    """What an equation that moves or chooses entries does to an array of the shape of its operand."""
    name, p = eqn.primitive.name, eqn.params
    if name == "transpose":
        return [x.transpose(p["permutation"])]
    if name == "broadcast_in_dim":
        kept = p["broadcast_dimensions"]
        index = tuple(slice(None) if k in kept else None for k in range(len(p["shape"])))
        return [np.broadcast_to(x[index], p["shape"])]
    if name in ("reshape", "squeeze", "expand_dims"):
        return [x.reshape(eqn.outvars[0].aval.shape)]
    if name == "rev":
        return [np.flip(x, p["dimensions"])]
    if name == "slice":
        strides = p["strides"] or [1] * x.ndim
        ends = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
        return [x[tuple(slice(*e) for e in ends)]]
    if name == "split":
        return np.split(x, np.cumsum(p["sizes"])[:-1], axis=p["axis"])
    return [x]


# ------------------------------------------------------------------------------------ entries changed
_FORWARD: dict[str, Callable] = {
    "multiply": lambda x, c: x * c,
    "add": lambda x, c: x + c,
    "exp": lambda x, c: jnp.exp(x),
    "log": lambda x, c: jnp.log(x),
    "clip": jnp.maximum,
}
_BACKWARD: dict[str, Callable] = {
    "multiply": lambda x, c: x / c,
    "add": lambda x, c: x - c,
    "exp": lambda x, c: jnp.log(x),
    "log": lambda x, c: jnp.exp(x),
    "clip": lambda x, c: x,
}


def forward(steps, x):
    """What a view shows of entries ``x``."""
    for name, c in steps:
        x = _FORWARD[name](x, c)
    return x


def backward(steps, x):
    """The entries of which a view shows ``x``."""
    for name, c in reversed(steps):
        x = _BACKWARD[name](x, c)
    return x
