"""Values that are other coordinates of another value: reversed, sliced, rolled, taken by a known index.

Such a value is not laid out before something reads it: a roll is two slices and a concatenation, which
together only reorder, and only the whole says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .values import View


class Picked(View):
    """Coordinates ``picks[axis]`` of ``base``; ``Walk.laid_out`` makes it a view that has axes."""

    __slots__ = ("base", "picks", "reason", "value")

    def __init__(self, base: View, picks: dict[int, np.ndarray], reason: Any):
        self.hidden, self.gathered, self.columns = base.hidden, {}, ()
        self.index, self.const, self.key = None, None, None
        self.distinct = base.distinct
        self.base, self.picks, self.reason = base, picks, reason
        self.value: View | None = None

    def shape(self) -> tuple[int, ...]:
        return tuple(
            len(self.picks[k]) if k in self.picks else n for k, n in enumerate(self.base.shape())
        )


def pick(view: View, picks: dict[int, np.ndarray], reason: Any) -> View:
    """Some coordinates of a value, in some order, along some of its axes."""
    if isinstance(view, Picked):
        both = dict(view.picks)
        for axis, at in picks.items():
            both[axis] = both[axis][at] if axis in both else at
        return pick(view.base, both, reason)
    shape = view.shape()
    picks = {
        axis: at
        for axis, at in picks.items()
        if len(at) != shape[axis] or (at != np.arange(len(at))).any()
    }
    return Picked(view, picks, reason) if picks else view


def sliced(eqn: Any, view: View) -> View:
    """The value of a ``slice`` equation."""
    p = eqn.params
    strides = p["strides"] or (1,) * len(p["start_indices"])
    picks = {
        axis: np.arange(start, stop, stride)
        for axis, (start, stop, stride, n) in enumerate(
            zip(p["start_indices"], p["limit_indices"], strides, view.shape(), strict=True)
        )
        if (start, stop, stride) != (0, n, 1)
    }
    return pick(view, picks, ("cut across units", eqn))


def reversed_axes(eqn: Any, view: View) -> View:
    """The value of a ``rev`` equation."""
    shape = view.shape()
    picks = {axis: np.arange(shape[axis])[::-1] for axis in eqn.params["dimensions"]}
    return pick(view, picks, ("reversed", eqn))


def rearranged(views: Sequence[View], axis: int) -> tuple[list[View], np.ndarray] | None:
    """A concatenation of picks that shows every coordinate of some values exactly once.

    Returns:
        Those values, and the order in which their concatenation is to be read; None if some of their
        coordinates are missing, or stand twice.
    """
    parents: list[View] = []
    places: list[list[np.ndarray]] = []
    pieces: list[tuple[int, np.ndarray]] = []
    for view in views:
        base, at = view, np.arange(view.shape()[axis])
        if isinstance(view, Picked):
            if set(view.picks) != {axis}:
                return None
            base, at = view.base, view.picks[axis]
        k = next((k for k, p in enumerate(parents) if p is base), len(parents))
        if k == len(parents):
            parents.append(base)
            places.append([])
        places[k].append(at)
        pieces.append((k, at))
    offset, offsets = 0, []
    for parent, found in zip(parents, places, strict=True):
        n = parent.shape()[axis]
        if not np.array_equal(np.sort(np.concatenate(found)), np.arange(n)):
            return None
        offsets.append(offset)
        offset += n
    return parents, np.concatenate([offsets[k] + at for k, at in pieces])
