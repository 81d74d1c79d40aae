"""A reshape whose factors would break: both sides cut into blocks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

import numpy as np

from .ports import Port, concatenation, product
from .refine import partition, unify
from .values import Copy, Entry, Factor, Items, Variable

MAX_BLOCKS = 64


def blocks_of(flat: Sequence[Factor], sizes: Sequence[int]) -> list[Port] | None:
    """Ports for axes of the given sizes, on blocks that these factors can be cut into as well.

    The blocks are as large as the innermost factor and the innermost axis allow; None if that makes
    too many of them.
    """
    block = gcd(flat[-1].size, sizes[-1])
    if prod(sizes) // block > MAX_BLOCKS:
        return None
    inner = partition(flat[-1].port, np.arange(flat[-1].size) // block)
    outer = [partition(f.port, np.arange(f.size)) for f in flat[:-1]]
    if inner is None or any(o is None for o in outer):
        return None
    if not all(unify(inner[0], p) for p in inner[1:]):
        return None
    ports = [concatenation([Port(1) for _ in range(n)]) for n in sizes[:-1]]
    return [*ports, concatenation([inner[0]] * (sizes[-1] // block))]


def relaid(walk, source: list[Items], run: Items, sizes: Sequence[int]) -> list[Items] | None:
    """The axes of ``run`` laid out anew into ``sizes``, in a new array; None if they cannot be.

    Args:
        source: all axes of the value, those of the run given as one.

    Returns:
        All axes of the new array, with one for each of ``sizes`` in the place of ``run``.
    """
    flat = [f for i in run if isinstance(i, Factor) for f in i.flat()]
    if not flat or any(isinstance(i, int) and i > 1 for i in run):
        return None
    sizes = list(sizes)
    lead, tail = 0, 0
    while (
        len(flat) - tail > 1 and len(sizes) - tail > 1 and flat[-1 - tail].size == sizes[-1 - tail]
    ):
        tail += 1
    while (
        len(flat) - tail - lead > 1
        and len(sizes) - tail - lead > 1
        and flat[lead].size == sizes[lead]
    ):
        lead += 1
    busy, new = flat[lead : len(flat) - tail], sizes[lead : len(sizes) - tail]
    if 1 in new:
        return None
    ports = blocks_of(busy, new)
    if ports is None:
        return None
    copy = Copy(walk)
    out: list[Items] = []
    for items in source:
        if items is not run:
            out.append(copy.items(items))
            continue
        made = [copy.factor(p, all(f.fixed for f in busy)) for p in ports]
        copy.variables.append(
            Variable(product(ports).size, (Entry(0, tuple(busy)), Entry(1, tuple(made))))
        )
        out += [copy.items((f,)) for f in flat[:lead]]
        out += [(f,) for f in made]
        out += [copy.items((f,)) for f in flat[len(flat) - tail :]]
    copy.link()
    return out
