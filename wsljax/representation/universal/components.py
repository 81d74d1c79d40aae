"""Two bases of one space: partitions, and components that do not mix; and which of it is there at width one.

The maps of :mod:`.basis` read plain means and write to all coordinates that are tied at least so. Those
means contain each other (the mean of a row contains the mean of everything), so a step on one weight is
undone by steps on others. The *orthogonal* basis of the same span reads components instead: the part of
a read that varies over each of its indices, its means taken out; and writes to the coordinates that are
tied in just this way and no other. Different components are then orthogonal, as the irreducible parts
of a representation are (Sverdlov et al., *Revisiting multi-permutation equivariance*, 2025, take them as
the basis of a layer); where units are repeated within a block, what is left of overlap falls with their
number. The change of basis has no widths in it, so it is done to the weights and costs features nothing:
taking out means is inclusion-exclusion over the kept ties, and writing to distinct coordinates is
Moebius inversion over the coarser ties of the written block (Rota, 1964).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from math import factorial, prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..blocks.stacks import split
from ..blocks.ties import Tie, ties
from .basis import Basis, IndexType, TypeKey, contexts


def of_components(
    found: Basis, weights: Mapping[str, jax.Array], ones: tuple[str, ...] = ()
) -> dict[str, jax.Array]:
    """Weights in the orthogonal basis to weights in the partition basis, of one and the same map.

    Args:
        found: the factored basis.
        weights: ``{role name: (members, reads * c_in, writes * c_out)}``.
        ones: labels of width one, if weights are :func:`masked` accordingly.
    """
    flat = []
    for role in found.roles:
        w = weights[role.name]
        split_up = (w.shape[0], role.reads, w.shape[1] // role.reads, role.writes, -1)
        w = w.reshape(split_up).transpose(0, 1, 3, 2, 4)
        flat.append(w.reshape(-1, *w.shape[3:]))
    return as_matrices(found, mixed(found, jnp.concatenate(flat), ones))


def mixed(found: Basis, terms: jax.Array, ones: tuple[str, ...] = ()) -> jax.Array:
    """The change of basis on ``(maps, c_in, c_out)``, numbered through role, member, read and write."""
    c = corrections(found, ones)
    scale = jnp.asarray(c.scale, terms.dtype)[:, None, None]
    return terms.at[c.to].add(scale * terms[c.of])


def as_matrices(found: Basis, terms: jax.Array) -> dict[str, jax.Array]:
    """``(maps, c_in, c_out)`` to ``{role name: (members, reads * c_in, writes * c_out)}``."""
    c_in, c_out = terms.shape[1:]
    sizes = [len(role.members) * role.reads * role.writes for role in found.roles]
    out = {}
    for role, w in zip(found.roles, split(terms, np.cumsum(sizes)[:-1].tolist(), 0), strict=True):
        w = w.reshape(len(role.members), role.reads, role.writes, c_in, c_out)
        shape = (len(role.members), role.reads * c_in, role.writes * c_out)
        out[role.name] = w.transpose(0, 1, 3, 2, 4).reshape(shape)
    return out


def leaves(key: TypeKey) -> tuple[int, ...]:
    """The indices of an index type that no other is nested over."""
    inner = {p for _, above in key for p in above}
    return tuple(k for k in range(len(key)) if k not in inner)


@lru_cache(maxsize=64)
def independent(found: Basis, ones: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Which maps are left where some units are only one; the others are zero or among them.

    The mean over one coordinate is the coordinate: what varies over it is zero, and two indices of it
    are always tied. What is left is a basis, in either sense, of what was spanned.

    Args:
        found: the factored basis.
        ones: the labels of width one.

    Returns:
        ``{role name: booleans (members, reads, writes)}``.
    """
    out = {}
    for role in found.roles:
        keeps = np.ones((len(role.members), role.reads, role.writes), bool)
        for m, t in enumerate(role.members):
            kind = found.types[t]
            if any(kind.key[k][0] in ones for k in leaves(kind.key)):
                keeps[m] = False
                continue
            fits = [
                np.array(
                    [
                        all(n == 1 for (a, _), n in contexts(side[x.block], x).items() if a in ones)
                        for x in terms
                    ]
                )
                for side, terms in ((found.inputs, kind.reads), (found.outputs, kind.writes))
            ]
            keeps[m] = fits[0][:, None] & fits[1]
        out[role.name] = keeps
    return out


def masked(
    found: Basis, weights: Mapping[str, jax.Array], ones: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Weights with those of maps that :func:`independent` leaves out set to zero."""
    out = dict(weights)
    for role in found.roles if ones else ():
        keeps = independent(found, ones)[role.name]
        if not keeps.all():
            w = out[role.name]
            shape = (w.shape[0], role.reads, -1, role.writes, w.shape[2] // role.writes)
            mask = jnp.asarray(keeps, w.dtype)[:, :, None, :, None]
            out[role.name] = (w.reshape(shape) * mask).reshape(w.shape)
    return out


class Corrections(NamedTuple):
    """``weights[to] += scale * draws[of]``; maps are numbered through role, member, read and write."""

    of: np.ndarray
    to: np.ndarray
    scale: np.ndarray


@lru_cache(maxsize=64)
def corrections(found: Basis, ones: tuple[str, ...] = ()) -> Corrections:
    """What the weight of each orthogonal map adds to those of the partition basis.

    With labels of width one it goes to maps that :func:`independent` keeps.
    """
    read_at = {
        (r.block, r.tie, frozenset(r.kept)): (t, n, r.kept)
        for t, kind in enumerate(found.types)
        for n, r in enumerate(kind.reads)
    }
    write_at = {
        (w.block, w.tie, w.kept): n for kind in found.types for n, w in enumerate(kind.writes)
    }
    first: dict[int, int] = {}  # number of the first map of each index type
    count = 0
    for role in found.roles:
        for t in role.members:
            first[t] = count
            count += role.reads * role.writes
    coarser = [_coarser(block) for block in found.outputs]
    of, to, scales = [], [], []
    for t, kind in enumerate(found.types):
        for merged, writes in _changes(kind, coarser).items():
            stay = _stay(kind.key, merged, ones)
            # the reads after the same change, by their new type and the order in which it keeps ties
            sources: dict[tuple, list[tuple[int, int]]] = defaultdict(list)
            for n, r in enumerate(kind.reads):
                becomes = {r.kept[k]: min(r.kept[j] for j in g) for g in merged for k in g}
                tie = tuple(becomes.get(i, i) for i in r.tie)
                kept = [becomes[r.kept[merged[g][0]]] for g in stay]
                target, m, order = read_at[r.block, tie, frozenset(kept)]
                sources[target, tuple(stay[kept.index(i)] for i in order)].append((n, m))
            for (target, order), reads in sources.items():
                p, p_to = np.array(reads).T[:, :, None]
                q, scale = np.array([(w.number, w.scale) for w in writes]).T
                q_to = [write_at[w.block, w.tie, tuple(w.places[k] for k in order)] for w in writes]
                of.append((first[t] + p * len(kind.writes) + q).reshape(-1))
                lanes = len(found.types[target].writes)
                to.append((first[target] + p_to * lanes + np.array(q_to)).reshape(-1))
                scales.append(np.broadcast_to(scale, (len(p), len(q))).reshape(-1))
    empty = [np.zeros(0, int)]
    return Corrections(*(np.concatenate(x or empty) for x in (of, to, scales)))


class _Change(NamedTuple):
    """A write after some of its ties are no longer kept, and some have become one."""

    number: int
    block: int
    tie: Tie
    places: tuple[int, ...]
    scale: int


def _changes(
    kind: IndexType, coarser: list[dict[Tie, list[tuple[Tie, int]]]]
) -> dict[tuple, list[_Change]]:
    """All changes of the writes of a type, by the positions of the type that are left, as merged."""
    out: dict[tuple, list[_Change]] = defaultdict(list)
    for size in range(len(leaves(kind.key)) + 1):
        for gone in combinations(leaves(kind.key), size):
            for n, w in enumerate(kind.writes):
                for tie, scale in coarser[w.block][w.tie]:
                    if not gone and tie == w.tie:
                        continue  # no change
                    groups: dict[int, list[int]] = defaultdict(list)
                    for k in range(len(kind.key)):
                        if k not in gone:
                            groups[tie[w.kept[k]]].append(k)
                    merged = tuple(sorted(map(tuple, groups.values())))
                    places = tuple(tie[w.kept[g[0]]] for g in merged)
                    change = _Change(n, w.block, tie, places, (-1) ** size * scale)
                    out[merged].append(change)
    return out


def _stay(
    key: TypeKey, merged: tuple[tuple[int, ...], ...], ones: tuple[str, ...]
) -> tuple[int, ...]:
    """Which merged indices are kept still: all but those of width one that none is nested over."""
    stay = list(range(len(merged)))
    while True:
        above = {p for g in stay for k in merged[g] for p in key[k][1]}
        left = [g for g in stay if key[merged[g][0]][0] not in ones or above & set(merged[g])]
        if left == stay:
            return tuple(stay)
        stay = left


def _coarser(block) -> dict[Tie, list[tuple[Tie, int]]]:
    """For every tie the ties that contain it, with their Moebius numbers."""
    found = ties(block)
    out: dict[Tie, list[tuple[Tie, int]]] = {}
    for fine in found:
        out[fine] = []
        for coarse in found:
            if all(coarse[i] == coarse[first] for i, first in enumerate(fine)):
                parts = [
                    len({fine[i] for i in range(len(fine)) if coarse[i] == c}) for c in set(coarse)
                ]
                out[fine].append((coarse, prod((-1) ** (k - 1) * factorial(k - 1) for k in parts)))
    return out
