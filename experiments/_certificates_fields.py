"""Vector fields ``A p + b`` on parameters that leave a function alone at all parameters.

An oracle for what generators could explain at most, that knows nothing of how they are found: one unknown for
each matrix unit on each axis of each block, for each way to bring one block to another by a matrix, and for
each entry; what is null at enough random parameters is left.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from wsljax.symmetry.generators.directions import jacobian, spanned
from wsljax.symmetry.generators.probe import Probe

MOST_FIELDS, LARGEST = 1600, 420
"""Fields, and parameters, of networks that are looked at."""


class Field(NamedTuple):
    """Where fields of one kind take entries from (all ones if None), where they put them; one column each."""

    sources: np.ndarray | None
    targets: np.ndarray
    columns: np.ndarray
    count: int


def fields(probe: Probe, spec) -> list[Field]:
    """Matrix units on the axes of blocks, from each block to those whose other axes it shares, and the
    constants; where units are nested, or a fixed axis is short, one for each copy."""
    start = np.cumsum([0, *(x.size for x in probe.given)])
    place = {n: start[i] + index for n, (i, index) in probe.places.items()}
    blocks = {b.name: b for b in spec.layout}
    outer = {o for u in spec.units for o in u.over}
    own, cross = [], []
    for to, from_ in product(blocks, blocks):
        b, c = blocks[to], blocks[from_]
        for k in range(len(c.axes)):
            rest = [a for a in range(len(c.axes)) if a != k]
            onto = rest if to == from_ else _onto(b, c, rest)
            if onto is not None:
                split = [
                    c.axes[a] in outer or c.axes[a][0] == "_" and c.shape[a] <= 3 for a in rest
                ]
                one = _field(place[to], place[from_], k, rest, onto, split)
                (own if to == from_ else cross).append(one)
    ones = [
        Field(None, index.ravel(), np.arange(index.size), index.size) for index in place.values()
    ]
    for chosen in ([*own, *ones, *cross], [*own, *ones]):
        if sum(f.count for f in chosen) <= MOST_FIELDS:
            return chosen
    return []


def _onto(b, c, rest) -> list[int] | None:
    onto: list[int] = []
    for a in rest:
        fits = [
            w for w in range(len(b.axes))
            if w not in onto and (b.axes[w], b.shape[w]) == (c.axes[a], c.shape[a])
        ]  # fmt: skip
        if not fits:
            return None
        onto.append(fits[0])
    return onto


def _field(to: np.ndarray, from_: np.ndarray, k: int, rest, onto, split) -> Field:
    """All matrix units that take axis ``k`` of one block to the axes of another that it lacks."""
    free = [w for w in range(to.ndim) if w not in onto]
    y = to.transpose([*onto, *free])
    x = from_.transpose([*rest, k])
    shared, n, m = x.shape[:-1], x.shape[-1], int(np.prod(y.shape[len(onto) :], dtype=int))
    y = np.broadcast_to(y.reshape(*shared, m, 1), (*shared, m, n))
    x = np.broadcast_to(x.reshape(*shared, 1, n), (*shared, m, n))
    copies = np.zeros(shared, int)
    count = 1
    for a, apart in enumerate(split):
        if apart:
            index = np.arange(shared[a]).reshape([-1 if i == a else 1 for i in range(len(shared))])
            copies = copies + count * index
            count *= shared[a]
    units = np.arange(m * n).reshape(m, n)
    columns = copies[..., None, None] * (m * n) + units
    return Field(x.ravel(), y.ravel(), np.broadcast_to(columns, y.shape).ravel(), count * m * n)


def values(some: list[Field], leaves) -> np.ndarray:
    """The fields at one point, one a column."""
    v = np.concatenate([np.ravel(x) for x in leaves])
    out = np.zeros((len(v), sum(f.count for f in some)))
    start = 0
    for f in some:
        entries = 1.0 if f.sources is None else v[f.sources]
        out[f.targets, start + f.columns] = entries
        start += f.count
    return out


def everywhere(probe: Probe, spec, orbit: np.ndarray, null: np.ndarray) -> int | None:
    """The dimension, at the given point, of the generators' directions and of all fields that are null at
    every point; None where the network is too large for that."""
    if sum(x.size for x in probe.given) > LARGEST:
        return None
    some = fields(probe, spec)
    if not some:
        return None
    keep = np.eye(sum(f.count for f in some))
    still, scale = 0, 0.0
    for k in range(400):
        leaves = _point(probe, k)
        slope = jacobian(probe, leaves, 1 if len(probe.draw(0)[2]) > 8 else 4, 1000 + 7 * k)
        seen = (slope @ values(some, leaves)) @ keep
        if len(seen) > seen.shape[1]:
            seen = np.linalg.qr(seen, mode="r")
        _, sizes, rows = np.linalg.svd(seen)
        scale = max(scale, sizes[0])
        n = int(np.sum(sizes > 1e-9 * scale))
        keep = keep @ rows[n:].T
        still = 0 if n else still + 1
        if still >= 3 or not keep.shape[1]:
            break
    found = (values(some, probe.given) @ keep).T
    # in the null space at the given point, but for rounding
    off = np.linalg.norm(found - (found @ null.T) @ null, axis=1)
    found = found[off <= 1e-6 * np.linalg.norm(found, axis=1)]
    return spanned(np.concatenate([orbit, found]))


def _point(probe: Probe, k: int) -> list[np.ndarray]:
    random = np.random.default_rng([k, 61])
    return [
        x + 0.4 * (float(np.sqrt(np.mean(x**2))) or 1.0) * random.uniform(-1, 1, x.shape)
        for x in probe.given
    ]
