"""Maps between units of two networks that may differ in all widths: what they do to blocks, and gains.

A map holds for each unit of ``a`` the shares of the units of ``b`` in it: ``(n, m)``, rows sum to one. Units that
are nested over others have one for every pair of their parents, ``(*pairs, n, m)``: a head of ``a`` may be made of
several heads of ``b``, each with a map of its own for what is inside. A pair has two axes, one of ``a`` and one of
``b``, where the parents are units, and one axis where they are a fixed axis.

What is written to units is averaged over the units of ``b``; what reads units is added up, the weights of each
unit of ``b`` shared out among those it went to (see :mod:`.summed_axes`). Of two networks of equal
widths, matched one to one, both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsljax.symmetry import Block, Spec

from .exchange import Arrays
from .problem import Place, Problem

LOWER, UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Pair:
    """Blocks of two networks, and where they add up over units.

    Attributes:
        ours, theirs: what there is to compare in ``a`` and in ``b``: equal but for the sizes of units.
        a, b: the blocks, floating.
        sums: ``{(block, axis): share}``, see :func:`.summed_axes`.
        any_scale: units need not be used alike, so that it is not known yet among how many their sums are
            shared out: what adds up is compared up to a positive factor.
    """

    ours: Problem
    theirs: Problem
    a: Arrays
    b: Arrays
    sums: Mapping[tuple[str, int], float]
    any_scale: bool = False


def check_same_structure(ours: Spec, theirs: Spec) -> None:
    """Whether two specs differ in the sizes of units only.

    Raises:
        ValueError: naming what else differs first.
    """
    units = [{u.name: u.over for u in s.units} for s in (ours, theirs)]
    if units[0] != units[1]:
        names = [n for n in (*units[0], *units[1]) if units[0].get(n, "") != units[1].get(n, "")]
        raise ValueError(
            f"both specs must have the same units, of any sizes; {names[0]!r} is nested over "
            f"{units[0].get(names[0], 'nothing: it is missing')} in one and over "
            f"{units[1].get(names[0], 'nothing: it is missing')} in the other"
        )
    mine, other = ({b.name: b for b in s.layout} for s in (ours, theirs))
    if mine.keys() != other.keys():
        raise ValueError(
            "both specs must annotate the same leaves; only one of them has "
            f"{sorted(mine.keys() ^ other.keys())[:5]}"
        )
    for name, x in mine.items():
        y = other[name]
        if (x.axes, x.parents) != (y.axes, y.parents):
            raise ValueError(
                f"{name!r} is annotated {' '.join(x.axes)!r} in one spec and {' '.join(y.axes)!r} in the "
                "other; only sizes may differ"
            )
        for axis, n, m in zip(x.axes, x.shape, y.shape, strict=True):
            if axis not in units[0] and n != m:
                raise ValueError(
                    f"{name!r} has shapes {x.shape} and {y.shape}: the fixed axis {axis!r} must have one "
                    "size; only units may be more or fewer"
                )


def uniform_maps(ours: Problem, theirs: Problem) -> dict[str, np.ndarray]:
    """Every unit of ``a`` made of all of ``b`` alike."""
    out = {}
    for u in ours.units:
        m = theirs.by_name[u.name].size
        out[u.name] = np.full((*_pairs(ours, theirs, u.name), u.size, m), 1 / m)
    return out


def element_maps(problem: Problem, element: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The maps of permutations."""
    out = {}
    for u in problem.units:
        g = np.asarray(element[u.name])
        one = (g[..., None] == np.arange(u.size)).astype(np.float64)
        shape, at = [], 0
        for o in u.over:
            shape.append(one.shape[at])
            at += 1
            if o in problem.by_name:
                shape.append(1)
        one = one.reshape(*shape, u.size, u.size)
        out[u.name] = np.broadcast_to(
            one, (*_pairs(problem, problem, u.name), u.size, u.size)
        ).copy()
    return out


def map_block(
    block: Block, x: Any, maps: Mapping[str, np.ndarray], sums: Mapping[tuple[str, int], float]
) -> np.ndarray:
    """A block of ``b`` in the sizes of ``a``."""
    operands, texts = _maps_of(block, maps, sums, range(len(block.axes)))
    text = ",".join([*texts, _theirs(block, maps)]) + "->" + LOWER[: len(block.axes)]
    return np.einsum(text, *operands, x, optimize=bool(operands))


def pair_gains(pair: Pair, maps: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """``(*pairs, n, m)``: what a unit of ``b`` in the place of one of ``a`` is worth, the other maps held.

    It is the fall of half the squared distance of all that the unit has, but for a constant.
    """
    total: Any = 0.0
    for place in pair.ours.places(name):
        total = total + _place_gains(pair, place, maps)
    shape = (*_pairs(pair.ours, pair.theirs, name), *_sizes(pair, name))
    return np.broadcast_to(total, shape)


def _place_gains(pair: Pair, place: Place, maps: Mapping[str, np.ndarray]) -> np.ndarray:
    block, k = place.block, place.axis
    a, b = pair.a[block.name], pair.b[block.name]
    rest = [i for i in range(len(block.axes)) if i != k and i not in place.parents]
    operands, texts = _maps_of(block, maps, pair.sums, rest)
    power = pair.sums.get((block.name, k), 0.0)
    if power:
        scale = _used(maps[block.axes[k]]) ** -power
        operands.append(scale[..., 0, :])
        texts.append(_map_text(block, k, maps)[:-2] + UPPER[k])
    theirs = _theirs(block, maps)
    # what of ours is seen beside theirs: parents that any of the maps is for
    ahead = "".join(dict.fromkeys(c for t in texts for c in t if c in LOWER[: len(block.axes)]))
    above = [LOWER[p] for p in place.parents if block.axes[p] in maps and LOWER[p] in ahead]
    own = [theirs[p] for p in place.parents]
    mid = "".join(dict.fromkeys([*above, *own, UPPER[k], *(LOWER[i] for i in rest)]))
    y = np.einsum(",".join([*texts, theirs]) + "->" + mid, *operands, b, optimize=True)
    out = _map_text(block, k, maps)
    ours = LOWER[: len(block.axes)]
    gains = np.einsum(f"{ours},{mid}->{out}", a, y, optimize=True)
    own_a = "".join([*(LOWER[p] for p in place.parents), LOWER[k]])
    kept = "".join(dict.fromkeys([*above, *own, UPPER[k]]))
    size_a = np.einsum(f"{ours},{ours}->{own_a}", a, a)
    size_b = np.einsum(f"{mid},{mid}->{kept}", y, y)
    size_a, size_b = _spread(size_a, own_a, out), _spread(size_b, kept, out)
    if power and pair.any_scale:
        fit = np.maximum(gains, 0) ** 2 / np.where(size_b > 0, size_b, 1)
        return (fit - size_a) / 2
    return gains - size_a / 2 - size_b / 2


def agreement_of_maps(pair: Pair, maps: Mapping[str, np.ndarray], distance: bool = False) -> float:
    """``<a, mapped b>``, or minus half of their squared distance."""
    total = 0.0
    for block in pair.ours.blocks:
        x = pair.a[block.name]
        y = map_block(block, pair.b[block.name], maps, pair.sums)
        total += -0.5 * float(np.sum((x - y) ** 2)) if distance else float(np.vdot(x, y))
    return total


# ------------------------------------------------------------------------------------ letters
def _theirs(block: Block, maps) -> str:
    return "".join(UPPER[k] if a in maps else LOWER[k] for k, a in enumerate(block.axes))


def _map_text(block: Block, k: int, maps) -> str:
    above = "".join(
        LOWER[p] + (UPPER[p] if block.axes[p] in maps else "") for p in block.parents[k]
    )
    return above + LOWER[k] + UPPER[k]


def _maps_of(block: Block, maps, sums, axes) -> tuple[list, list[str]]:
    """The matrices that axes of a block are multiplied by, averages or sums, and their letters."""
    operands, texts = [], []
    for k in axes:
        if block.axes[k] in maps:
            m = maps[block.axes[k]]
            power = sums.get((block.name, k), 0.0)
            operands.append(m * _used(m) ** -power if power else m)
            texts.append(_map_text(block, k, maps))
    return operands, texts


def _used(m: np.ndarray) -> np.ndarray:
    """How much of each unit of ``b`` is used in all, ``(..., 1, m)``; what is not used counts as one."""
    used = m.sum(-2, keepdims=True)
    return np.where(used > 1e-12, used, 1.0)


def _spread(x: np.ndarray, own: str, out: str) -> np.ndarray:
    order = sorted(range(len(own)), key=lambda i: out.index(own[i]))
    shape = [x.shape[own.index(c)] if c in own else 1 for c in out]
    return x.transpose(order).reshape(shape)


def _pairs(ours: Problem, theirs: Problem, name: str) -> tuple[int, ...]:
    sizes: list[int] = []
    for o in ours.by_name[name].over:
        sizes.append(ours.size_of(o))
        if o in ours.by_name:
            sizes.append(theirs.size_of(o))
    return tuple(sizes)


def _sizes(pair: Pair, name: str) -> tuple[int, int]:
    return pair.ours.by_name[name].size, pair.theirs.by_name[name].size
