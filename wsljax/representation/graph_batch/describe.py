"""What edges and nodes say of themselves: features that mean the same in every architecture.

No feature depends on a name. Positions are told by codes: cosines of the relative position (so that the
first, the middle and the last coordinate look alike whatever the size), and sinusoids of the absolute
index (so that "the second" looks alike whatever the size).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RELATIVE, ABSOLUTE = 6, 3
CODES = RELATIVE + 2 * ABSOLUTE
"""Numbers that tell one position."""

EDGE_KINDS = ("kernel", "single", "hyper", "incidence", "member")
"""Weights between two nodes, at one node, at three or more; which nodes these are; what is in what."""

NODE_ROLES = ("hidden", "input", "output", "order", "network", "block", "hyper")
"""Units, fixed ends, coordinates of a scanned axis; the network, a block of one end, a weight of three."""

POSITION_AXES = 3
"""How many fixed axes of a block have codes of their own; further ones are joined with the first."""

EDGE_FEATURES = len(EDGE_KINDS) + 4 + (4 + POSITION_AXES) * CODES
NODE_FEATURES = len(NODE_ROLES) + 2 * CODES


def codes(place: np.ndarray, size: int) -> np.ndarray:
    """Codes of the positions ``place`` on an axis of ``size`` coordinates, ``(*place.shape, CODES)``.

    Example:
        >>> codes(np.arange(3), 3).shape
        (3, 12)
        >>> apart = np.abs(codes(np.arange(999), 999)[1:] - codes(np.arange(998), 999))
        >>> bool(apart.max(-1).min() > 0.04)
        True
    """
    place = np.asarray(place, np.float64)[..., None]
    relative = np.cos(np.pi * (place + 0.5) / size * 2.0 ** np.arange(RELATIVE))
    turns = place * 16.0 ** -np.arange(ABSOLUTE)
    return np.concatenate([relative, np.sin(turns), np.cos(turns)], -1).astype(np.float32)


def position_features(sizes: Sequence[int], group: int = 1) -> np.ndarray:
    """Codes of every position of some fixed axes, row-major; the mean over each ``group`` neighbours.

    Returns:
        Shape ``(ceil(prod(sizes) / group), POSITION_AXES * CODES)``; zeros for axes that are not there.

    Example:
        >>> position_features((3, 3)).shape, position_features((5,), group=2).shape
        ((9, 36), (3, 36))
    """
    extra = max(0, len(sizes) - POSITION_AXES)
    joined = [int(np.prod(sizes[: extra + 1])), *sizes[extra + 1 :]] if sizes else []
    total = int(np.prod(joined))
    places = np.unravel_index(np.arange(total), joined) if joined else ()
    out = np.zeros((total, POSITION_AXES, CODES), np.float32)
    for axis, (place, size) in enumerate(zip(places, joined, strict=True)):
        out[:, axis] = codes(place, size)
    out = out.reshape(total, -1)
    if group == 1:
        return out
    starts = np.arange(0, total, group)
    counts = np.diff(np.append(starts, total))
    return np.add.reduceat(out, starts, axis=0) / counts[:, None].astype(np.float32)


def one_hot(word: str, words: Sequence[str]) -> np.ndarray:
    """A row with a one in the place of ``word``."""
    return (np.arange(len(words)) == words.index(word)).astype(np.float32)
