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

from .basis import Basis, Tie, ties


class Correction(NamedTuple):
    """``weights[to][n, p, q] += scale * draws[of][n', p', q']`` for all pairs of the given p and q."""

    of: int
    to: int
    of_place: tuple[np.ndarray, np.ndarray, np.ndarray]
    to_place: tuple[np.ndarray, np.ndarray, np.ndarray]
    scale: np.ndarray


@partial(jax.jit, static_argnames=("found", "c_in", "c_out", "dtype"))
def initial_weights(
    found: Basis, c_in: int, c_out: int, *, key: jax.Array, dtype: jnp.dtype | type = jnp.float32
) -> dict[str, jax.Array]:
    """One stack of matrices a role, ``{role name: (members, reads * c_in, writes * c_out)}``."""
    shapes = [(len(r.members), r.reads, r.writes, c_in, c_out) for r in found.roles]
    stops = np.cumsum([prod(shape) for shape in shapes])
    flat = jax.random.normal(key, (int(stops[-1]),), dtype)  # one flat draw compiles fastest
    draws = []
    for role, shape, piece in zip(found.roles, shapes, jnp.split(flat, stops[:-1]), strict=True):
        fan_in = [role.reads * found.types[t].symmetries * c_in for t in role.members]
        std = np.array([1 / sqrt(n) for n in fan_in]).reshape(-1, 1, 1, 1, 1)
        draws.append(piece.reshape(shape) * jnp.asarray(std, dtype))
    weights = list(draws)
    for c in corrections(found):
        scale = jnp.asarray(c.scale, dtype)[..., None, None]
        weights[c.to] = weights[c.to].at[c.to_place].add(scale * draws[c.of][c.of_place])
    out = {}
    for role, w in zip(found.roles, weights, strict=True):
        w = w.transpose(0, 1, 3, 2, 4)
        out[role.name] = w.reshape(len(role.members), role.reads * c_in, role.writes * c_out)
    return out


@lru_cache(maxsize=64)
def corrections(found: Basis) -> tuple[Correction, ...]:
    """What every draw adds to other weights, gathered so that few array operations do it all."""
    read_at = {
        (r.block, r.tie, frozenset(r.kept)): (t, n, r.kept)
        for t, kind in enumerate(found.types)
        for n, r in enumerate(kind.reads)
    }
    write_at = {
        (w.block, w.tie, w.kept): (t, n)
        for t, kind in enumerate(found.types)
        for n, w in enumerate(kind.writes)
    }
    role_of = {t: (r, n) for r, role in enumerate(found.roles) for n, t in enumerate(role.members)}
    coarser = [_coarser(block) for block in found.outputs]
    gathered: dict[tuple, list[tuple]] = defaultdict(list)
    for t, kind in enumerate(found.types):
        inner = {p for _, above in kind.key for p in above}
        leaves = [k for k in range(len(kind.key)) if k not in inner]
        # write n of this type, with `out` unmatched and its ties made coarser, by merged positions
        targets: dict[tuple, list[tuple]] = defaultdict(list)
        for size in range(len(leaves) + 1):
            for out in combinations(leaves, size):
                stay = [k for k in range(len(kind.key)) if k not in out]
                for n, w in enumerate(kind.writes):
                    for tie, scale in coarser[w.block][w.tie]:
                        groups: dict[int, list[int]] = defaultdict(list)
                        for k in stay:
                            groups[tie[w.kept[k]]].append(k)
                        merged = tuple(sorted(map(tuple, groups.values())))
                        if len(merged) == len(kind.key) and tie == w.tie:
                            continue
                        places = tuple(tie[w.kept[g[0]]] for g in merged)
                        targets[merged].append((n, w.block, tie, places, (-1) ** size * scale))
        for merged, writes in targets.items():
            # reads of this type after the same change, by the order in which they are kept
            sources: dict[tuple, list[tuple]] = defaultdict(list)
            for n, r in enumerate(kind.reads):
                first = {k: r.kept[g[0]] for g in merged for k in g}
                becomes = {r.kept[k]: min(r.kept[j] for j in g) for g in merged for k in g}
                tie = tuple(becomes.get(i, i) for i in r.tie)
                kept = [becomes[first[g[0]]] for g in merged]
                to, m, order = read_at[r.block, tie, frozenset(kept)]
                sources[to, tuple(kept.index(i) for i in order)].append((n, m))
            for (to, order), reads in sources.items():
                p, p_to = map(np.array, zip(*reads))
                q, q_to, scales = [], [], []
                for n, block, tie, places, scale in writes:
                    q.append(n)
                    q_to.append(write_at[block, tie, tuple(places[k] for k in order)][1])
                    scales.append(scale)
                key = (role_of[t][0], role_of[to][0], len(p), len(q))
                gathered[key].append((role_of[t][1], p, q, role_of[to][1], p_to, q_to, scales))
    out = []
    for (of, to, *_), rows in gathered.items():
        n, p, q, n_to, p_to, q_to, scale = (np.array(column) for column in zip(*rows))
        out.append(
            Correction(
                of,
                to,
                (n[:, None, None], p[:, :, None], q[:, None, :]),
                (n_to[:, None, None], p_to[:, :, None], q_to[:, None, :]),
                scale[:, None, :].astype(float),
            )
        )
    return tuple(out)


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
