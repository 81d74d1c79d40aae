"""Codes of places in an order, by which what shares weights is told apart."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np

from ..blocks.indices import Structure

CODES = 8
"""Numbers in each code."""


def place_codes(size: int) -> np.ndarray:
    """Codes of ``size`` places, shape ``(size, CODES)``.

    Cosines of the relative place, and sinusoids of the absolute one (Vaswani et al., 2017).

    Example:
        >>> place_codes(3)[:, 0].round(2).tolist()
        [0.87, 0.0, -0.87]
    """
    place = np.arange(size)[:, None]
    relative = np.cos(np.pi * (place + 0.5) / size * np.arange(1, CODES // 2 + 1))
    rates = 16.0 ** -np.arange(CODES // 4)
    return np.concatenate([relative, np.sin(place * rates), np.cos(place * rates)], axis=-1)


@lru_cache(maxsize=64)
def codes_among_kind(blocks: Structure) -> np.ndarray:
    """The code of each block's place among the blocks of its kind, shape ``(blocks, CODES)``.

    Blocks are ordered by name, numbers in names counting as numbers, so for repeated layers the place is
    the depth.

    Example:
        >>> from wsljax.representation.blocks.indices import Indices
        >>> blocks = tuple(Indices(f"layer_{k}", ("h",), ((),)) for k in range(3))
        >>> codes_among_kind(blocks)[:, 0].round(2).tolist()
        [0.87, 0.0, -0.87]
    """
    kinds: dict[str, list[int]] = defaultdict(list)
    for b, block in enumerate(blocks):
        kinds[block.kind].append(b)
    out = np.zeros((len(blocks), CODES))
    for members in kinds.values():
        out[members] = place_codes(len(members))
    return out
