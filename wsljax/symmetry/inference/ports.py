"""Index sets of array axes: union-find nodes that refine into products and sums.

A :class:`Port` stands for one axis index set of known size. It starts as a leaf; a reshape factors it
(row-major), a slice or concatenation cuts it, a reordering shows it in another order. Ports are shared,
so a refinement (:mod:`.refine`) is seen at once by every value that carries the port.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAF, PROD, SUM, ORDER = 0, 1, 2, 3


class Port:
    """A node: ``find()`` it before reading ``kind`` and ``parts``.

    Coordinate ``i`` of an ``ORDER`` is coordinate ``order[i]`` of its only part.
    """

    __slots__ = ("size", "parent", "kind", "parts", "order")

    def __init__(
        self,
        size: int,
        kind: int = LEAF,
        parts: Sequence[Port] = (),
        order: np.ndarray | None = None,
    ):
        self.size, self.kind, self.parts, self.order = size, kind, list(parts), order
        self.parent: Port | None = None

    def __repr__(self) -> str:
        root = find(self)
        if root.kind == LEAF:
            return str(root.size)
        if root.kind == ORDER:
            return f"{root.parts[0]!r}{{{','.join(map(str, root.order.tolist()))}}}"  # type: ignore[union-attr]
        joined = (" " if root.kind == PROD else "+").join(map(repr, root.parts))
        return f"({joined})"


def find(port: Port) -> Port:
    """The root that represents ``port``."""
    root = port
    while root.parent is not None:
        root = root.parent
    while port.parent is not None:
        port.parent, port = root, port.parent
    return root


def product(parts: Sequence[Port]) -> Port:
    """The row-major product; factors of size one are dropped."""
    parts = [p for p in parts if p.size != 1]
    if len(parts) == 1:
        return parts[0]
    size = 1
    for p in parts:
        size *= p.size
    return Port(size, PROD, parts) if parts else Port(1)


def concatenation(parts: Sequence[Port]) -> Port:
    """The sum of index sets, in order."""
    parts = [p for p in parts if p.size]
    return parts[0] if len(parts) == 1 else Port(sum(p.size for p in parts), SUM, parts)


def reordered(port: Port, order: np.ndarray) -> Port:
    """The port whose coordinate ``i`` is coordinate ``order[i]`` of ``port``."""
    root, own = opened(port)
    order = order if own is None else own[order]
    return root if is_identity(order) else Port(root.size, ORDER, [root], order)


def opened(port: Port) -> tuple[Port, np.ndarray | None]:
    """A port without its reorderings: ``(root, order)``, or ``(root, None)`` where there are none."""
    root, order = find(port), None
    while root.kind == ORDER:
        order = root.order if order is None else root.order[order]  # type: ignore[index]
        root = find(root.parts[0])
    return root, order


def is_identity(order: np.ndarray) -> bool:
    """Whether a reordering leaves everything where it is."""
    return bool((order == np.arange(len(order))).all())


def inverse(order: np.ndarray) -> np.ndarray:
    """The inverse of a reordering."""
    out = np.empty_like(order)
    out[order] = np.arange(len(order))
    return out


def factors(port: Port) -> list[Port]:
    """The factors of a port, products flattened."""
    root = find(port)
    if root.kind != PROD:
        return [root]
    return [f for p in root.parts for f in factors(p)]


def segments(port: Port) -> list[Port]:
    """The segments of a port, sums flattened."""
    root = find(port)
    if root.kind != SUM:
        return [root]
    return [s for p in root.parts for s in segments(p)]
