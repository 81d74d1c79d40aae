"""The choices of segments inside a port, and where on the axis each of them lies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .ports import ORDER, PROD, SUM, Port, find, inverse


class Branch(NamedTuple):
    """One choice of segments inside a port: the least coordinate it has, and its leaves.

    A segment of one coordinate is a leaf too: it may turn out to be one unit of a set.
    """

    start: int
    leaves: tuple[Port, ...]


def branches(port: Port, memo: dict[int, list[Branch]]) -> list[Branch]:
    """All choices of segments of a port."""
    root = find(port)
    got = memo.get(id(root))
    if got is not None:
        return got
    if root.kind == SUM:
        out, at = [], 0
        for p in root.parts:
            if p.size == 1:
                out.append(Branch(at, (find(p),)))
            else:
                out += [Branch(at + b.start, b.leaves) for b in branches(p, memo)]
            at += p.size
    elif root.kind == PROD:
        out, stride = [Branch(0, ())], root.size
        for p in root.parts:
            stride //= p.size
            out = [
                Branch(a.start + b.start * stride, a.leaves + b.leaves)
                for a in out
                for b in branches(p, memo)
            ]
    elif root.kind == ORDER:
        inner = branches(root.parts[0], memo)
        found = coordinates(root)
        out = [Branch(int(c.min()), b.leaves) for b, c in zip(inner, found, strict=True)]
    else:
        out = [Branch(0, (root,) if root.size > 1 else ())]
    memo[id(root)] = out
    return out


def coordinates(port: Port) -> list[np.ndarray]:
    """For each choice of segments: the coordinates it covers, row-major over its leaves."""
    root = find(port)
    if root.kind == SUM:
        out, at = [], 0
        for p in root.parts:
            out += [at + c for c in coordinates(p)]
            at += p.size
        return out
    if root.kind == PROD:
        out, stride = [np.zeros(1, np.int64)], root.size
        for p in root.parts:
            stride //= p.size
            out = [
                (a[:, None] + c[None, :] * stride).reshape(-1) for a in out for c in coordinates(p)
            ]
        return out
    if root.kind == ORDER:
        back = inverse(root.order)  # type: ignore[arg-type]
        return [back[c] for c in coordinates(root.parts[0])]
    return [np.arange(root.size)]
