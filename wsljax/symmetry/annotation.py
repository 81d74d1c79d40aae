"""What a spec is made of: its units, its leaves with an axis tree each, and what is fixed and why."""

from __future__ import annotations

from dataclasses import dataclass

from .axes import Axis


@dataclass(frozen=True)
class Units:
    """A set of ``size`` exchangeable coordinates.

    ``over`` names the axes (other units, or named fixed axes that start with ``_``) for each index of
    which there is an independent copy. ``parts`` are the sizes of the factors, for units whose index
    is a row-major product stored in pieces.
    """

    name: str
    size: int
    over: tuple[str, ...] = ()
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Leaf:
    """Path, shape and axis trees of one array."""

    path: str
    shape: tuple[int, ...]
    trees: tuple[Axis, ...]


@dataclass(frozen=True)
class Pinned:
    """Why an axis of a leaf is fixed, with the source line where that was decided."""

    path: str
    axis: int
    size: int
    reason: str
