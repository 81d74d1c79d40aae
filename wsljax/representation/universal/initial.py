"""Initial weights under which a universal layer keeps the size of its signal, however deep the stack.

With means as reads, drawing every basis map at ``1 / sqrt(fan-in)`` lets each layer shrink what varies
between units and grow what does not: after a few layers only constants are left. Instead each draw is
spent on one *component* of the features: the part of a read that varies over all its indices (means
over each index taken out), written to the coordinates that are tied in just this way and no other.
Components do not mix: each is handed from layer to layer at the average size it has among the blocks
that carry it.

The draws are turned into weights of the basis of :mod:`.basis` by two expansions, neither of which
knows a width: taking out means is inclusion-exclusion over the kept ties, and writing to distinct
coordinates is Moebius inversion over the coarser ties of the written block (Rota, 1964).
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache, partial
from itertools import combinations
from math import factorial, prod, sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..blocks.stacks import split
from ..blocks.ties import Tie, ties
from .basis import Basis, IndexType


@partial(jax.jit, static_argnames=("found", "c_in", "c_out", "dtype"))
def initial_weights(
    found: Basis, c_in: int, c_out: int, *, key: jax.Array, dtype: jnp.dtype | type = jnp.float32
) -> dict[str, jax.Array]:
    """One stack of matrices a role, ``{role name: (members, reads * c_in, writes * c_out)}``."""
    sizes = [len(role.members) * role.reads * role.writes for role in found.roles]
    std = [
        1 / sqrt(role.reads * found.types[t].symmetries * c_in)
        for role in found.roles
        for t in role.members
        for _ in range(role.reads * role.writes)
    ]
    (draws,) = normals(key, ((sum(sizes), c_in, c_out),), dtype)
    draws = draws * jnp.asarray(std, dtype)[:, None, None]
    c = corrections(found)
    scale = jnp.asarray(c.scale, dtype)[:, None, None]
    terms = draws.at[c.to].add(scale * draws[c.of])
    out = {}
    for role, w in zip(found.roles, split(terms, np.cumsum(sizes)[:-1].tolist(), 0), strict=True):
        w = w.reshape(len(role.members), role.reads, role.writes, c_in, c_out)
        shape = (len(role.members), role.reads * c_in, role.writes * c_out)
        out[role.name] = w.transpose(0, 1, 3, 2, 4).reshape(shape)
    return out


@partial(jax.jit, static_argnames=("shapes", "dtype"))
def normals(
    key: jax.Array, shapes: tuple[tuple[int, ...], ...], dtype: jnp.dtype | type
) -> list[jax.Array]:
    """Independent standard normal arrays, out of one flat draw: many draws would compile for long."""
    stops = np.cumsum([prod(shape) for shape in shapes])
    flat = jax.random.normal(key, (int(stops[-1]),), dtype)
    pieces = jnp.split(flat, stops[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]


class Corrections(NamedTuple):
    """``weights[to] += scale * draws[of]``; maps are numbered through role, member, read and write."""

    of: np.ndarray
    to: np.ndarray
    scale: np.ndarray


@lru_cache(maxsize=64)
def corrections(found: Basis) -> Corrections:
    """What the draw for each basis map adds to the weights of others."""
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
            # the reads after the same change, by their new type and the order in which it keeps ties
            sources: dict[tuple, list[tuple[int, int]]] = defaultdict(list)
            for n, r in enumerate(kind.reads):
                becomes = {r.kept[k]: min(r.kept[j] for j in g) for g in merged for k in g}
                tie = tuple(becomes.get(i, i) for i in r.tie)
                kept = [becomes[r.kept[g[0]]] for g in merged]
                target, m, order = read_at[r.block, tie, frozenset(kept)]
                sources[target, tuple(kept.index(i) for i in order)].append((n, m))
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
    inner = {p for _, above in kind.key for p in above}
    leaves = [k for k in range(len(kind.key)) if k not in inner]
    out: dict[tuple, list[_Change]] = defaultdict(list)
    for size in range(len(leaves) + 1):
        for gone in combinations(leaves, size):
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
