"""Skeleton weights: one entry for each scaling unit, by which the scaling of a network is told.

Source of the idea: Q. Meng et al., "G-SGD: Optimizing ReLU Neural Networks in its Positively
Scale-Invariant Space", ICLR 2019 (skeleton weights and basis paths of MLPs and CNNs of equal widths). Here
for any spec: generators that scale the same units form a family; families are put in an order in which
each has blocks that scale with it and with earlier families only (from the inputs on, or from the outputs
back); among these blocks as many are chosen as the family has generators, with an invertible matrix of
exponents; and in each of them, for each unit, the entry that is largest in the balanced network. What
remains of the scaling when all these entries have a given size is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.symmetry import Generator

from .scaling import log_factor


class Family(NamedTuple):
    """Generators of the same units, the blocks of their skeleton, and the inverse matrix of exponents."""

    generators: tuple[Generator, ...]
    blocks: tuple[str, ...]
    where: tuple[tuple[int, ...], ...]
    inverse: np.ndarray


class Skeleton(NamedTuple):
    """Which entries, for each family one row per block: flat indices and logarithms of their sizes."""

    index: tuple[jax.Array, ...]
    size: tuple[jax.Array, ...]


def plan(generators: Sequence[Generator], ranks: Mapping[str, int], outward: bool) -> list[Family]:
    """The families in an order in which their skeletons can be read off.

    ``outward``: skeletons of exponents not positive, from the outputs back, in place of any exponents.

    Raises:
        ValueError: naming the generators for which there is no such order.
    """
    waiting: dict[tuple, list[Generator]] = {}
    for g in generators:
        waiting.setdefault((g.over, g.units, g.kind), []).append(g)
    done: set[str] = set()
    families = []
    while waiting:
        for key, family in waiting.items():
            found = _rows(family, generators, done, ranks, outward)
            if found is not None:
                families.append(found)
                done |= {g.name for g in family}
                del waiting[key]
                break
        else:
            if outward:  # what has no way out ends no path
                return families
            names = [g.name for family in waiting.values() for g in family]
            raise ValueError(
                f"no weight tells the scaling of {names} from that of other units; leave these "
                "generators out by `names=`"
            )
    return families


def _rows(family, generators, done: set[str], ranks, outward: bool) -> Family | None:
    """Blocks that scale with this family, once, and with finished ones."""
    mine = {g.name for g in family}
    eligible: dict[str, tuple[tuple[int, ...], list[float]]] = {}
    for name in {t.block for g in family for t in g.terms}:
        terms = [(g, t) for g in generators for t in g.terms if t.block == name]
        own = [(g, t) for g, t in terms if g.name in mine]
        places = {t.where for _, t in own}
        if len(places) > 1 or len({g.name for g, _ in own}) < len(own):
            continue
        if any(t.part for _, t in own) or any(g.name not in mine | done for g, _ in terms):
            continue
        if outward and any(t.exponent > 0 for _, t in own):
            continue
        by_name = {g.name: t.exponent for g, t in own}
        eligible[name] = (places.pop(), [by_name.get(g.name, 0.0) for g in family])
    chosen: list[str] = []
    matrix = np.zeros((0, len(family)))
    # kernels before vectors; ways in before ways out
    for name in sorted(eligible, key=lambda n: (-ranks[n], -sum(eligible[n][1]), n)):
        more = np.vstack([matrix, eligible[name][1]])
        if np.linalg.matrix_rank(more) > len(matrix):
            chosen, matrix = [*chosen, name], more
    if len(matrix) < len(family):
        return None
    where = tuple(eligible[n][0] for n in chosen)
    return Family(tuple(family), tuple(chosen), where, np.linalg.inv(matrix))


def choose(families: Sequence[Family], balanced: Mapping[str, jax.Array]) -> Skeleton:
    """For each unit the largest entry of its block in the balanced network."""
    index, size = [], []
    for f in families:
        rows = [_front(jnp.abs(balanced[n]), w) for n, w in zip(f.blocks, f.where)]
        picked = [jnp.argmax(x, -1) for x in rows]
        index.append(jnp.stack(picked))
        size.append(jnp.stack([jnp.log(_pick(x, i)) for x, i in zip(rows, picked, strict=True)]))
    return Skeleton(tuple(index), tuple(size))


def scaling_of(
    families: Sequence[Family],
    skeleton: Skeleton,
    blocks: Mapping[str, jax.Array],
    adjust=None,
) -> dict[str, jax.Array]:
    """The logarithms ``t`` that bring all skeleton entries to their size.

    ``adjust(name, log_size, t)``, if given, corrects the logarithms of a block's entries, knowing the
    ``t`` of earlier families.
    """
    t: dict[str, jax.Array] = {}
    for f, index, size in zip(families, skeleton.index, skeleton.size, strict=True):
        known = tuple(g for other in families for g in other.generators if g.name in t)
        missing = []
        for name, where, i, target in zip(f.blocks, f.where, index, size, strict=True):
            x = blocks[name]
            logs = jnp.log(jnp.abs(x))
            if adjust is not None:
                logs = adjust(name, logs, t)
            logs = jnp.broadcast_to(logs + log_factor(known, t, name, x), x.shape)
            missing.append(target - _pick(_front(logs, where), i))
        inverse = jnp.asarray(f.inverse, missing[0].dtype)
        for g, value in zip(f.generators, jnp.tensordot(inverse, jnp.stack(missing), 1)):
            t[g.name] = value
    return t


def mask(families: Sequence[Family], skeleton: Skeleton, blocks) -> dict[str, jax.Array]:
    """True at the skeleton's entries."""
    out = {n: jnp.zeros(x.shape, bool) for n, x in blocks.items()}
    for f, index in zip(families, skeleton.index, strict=True):
        for name, where, i in zip(f.blocks, f.where, index, strict=True):
            x = blocks[name]
            rest = [k for k in range(x.ndim) if k not in where]
            order = [*where, *rest]
            shape = [x.shape[k] for k in order]
            width = int(np.prod(shape[len(where) :], dtype=int))
            hot = jax.nn.one_hot(i, width, dtype=bool).reshape(shape)
            out[name] = out[name] | hot.transpose([order.index(k) for k in range(x.ndim)])
    return out


def _front(x: jax.Array, where: Sequence[int]) -> jax.Array:
    """The axes ``where`` first, all others as one."""
    rest = [k for k in range(x.ndim) if k not in where]
    return x.transpose([*where, *rest]).reshape(*[x.shape[k] for k in where], -1)


def _pick(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, index[..., None], -1)[..., 0]
