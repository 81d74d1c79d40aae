"""Index sets of array axes: union-find nodes that refine into products and sums.

A :class:`Port` stands for one axis index set of known size. It starts as a leaf; a reshape factors it
(row-major), a slice or concatenation cuts it, and unifying two ports co-refines their trees (common
factors for products, common cut points for sums). Ports are shared, so a refinement is seen at once
by every value that carries the port. Over-refining is harmless: :mod:`.merge` undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAF, PROD, SUM = 0, 1, 2
MAX_CHUNKS = 64


class Port:
    """A node: ``find()`` it before reading ``kind`` and ``parts``."""

    __slots__ = ("size", "parent", "kind", "parts")

    def __init__(self, size: int, kind: int = LEAF, parts: Sequence[Port] = ()):
        self.size, self.kind, self.parts = size, kind, list(parts)
        self.parent: Port | None = None

    def __repr__(self) -> str:
        root = find(self)
        if root.kind == LEAF:
            return str(root.size)
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


def split(port: Port, lead: int) -> tuple[Port, Port] | None:
    """Factor a port that is not a product into ``(lead, size // lead)``; None if it cannot be."""
    root = find(port)
    if root.size % lead:
        return None
    rest_size = root.size // lead
    if root.kind == LEAF:
        root.kind, root.parts = PROD, [Port(lead), Port(rest_size)]
        return root.parts[0], root.parts[1]
    parts = segments(root)
    offsets, at = [], 0
    for p in parts:
        offsets.append(at)
        at += p.size
    if all(o % rest_size == 0 for o in offsets):
        rest = Port(rest_size)
        leads = [Port(p.size // rest_size) for p in parts]
        for p, one in zip(parts, leads, strict=True):
            if not unify(p, product([one, rest])):
                return None
        first = concatenation(leads)
    else:
        if lead > MAX_CHUNKS:
            return None
        for k in range(1, lead):
            if cut(root, k * rest_size) is None:
                return None
        chunks, current, room = [], [], rest_size
        for p in segments(root):
            current.append(p)
            room -= p.size
            if room == 0:
                chunks.append(concatenation(current))
                current, room = [], rest_size
        rest = chunks[0]
        for c in chunks[1:]:
            if not unify(rest, c):
                return None
        first = concatenation([Port(1) for _ in range(lead)])
    root.kind, root.parts = PROD, [first, rest]
    return first, rest


def cut(port: Port, offset: int) -> tuple[list[Port], list[Port]] | None:
    """Cut a port in two at ``offset``: the pieces on the left and on the right; None if it cannot be."""
    root = find(port)
    if offset <= 0:
        return [], [root]
    if offset >= root.size:
        return [root], []
    if root.kind == LEAF:
        root.kind, root.parts = SUM, [Port(offset), Port(root.size - offset)]
        return [root.parts[0]], [root.parts[1]]
    if root.kind == SUM:
        left: list[Port] = []
        parts = segments(root)
        for i, p in enumerate(parts):
            if offset == 0:
                return left, parts[i:]
            if p.size <= offset:
                left.append(p)
                offset -= p.size
                continue
            inner = cut(p, offset)
            return None if inner is None else (left + inner[0], inner[1] + parts[i + 1 :])
        return left, []
    fs = factors(root)
    first, rest = fs[0], fs[1:]
    width = root.size // first.size
    whole, inside = divmod(offset, width)
    if inside == 0:
        halves = cut(first, whole)
        if halves is None:
            return None
        return [product([p, *rest]) for p in halves[0]], [product([p, *rest]) for p in halves[1]]
    ends = cut(first, whole), cut(first, whole + 1)
    inner = cut(product(rest), inside)
    if ends[0] is None or ends[1] is None or inner is None:
        return None
    before = cut(first, whole)[0] if whole else []  # type: ignore[index]
    after = ends[1][1]
    left = [product([p, *rest]) for p in before] + inner[0]
    return left, inner[1] + [product([p, *rest]) for p in after]


def segment(port: Port, start: int, stop: int) -> Port | None:
    """The sub-port of coordinates ``start:stop``; None if the port cannot be cut there."""
    root = find(port)
    if start == 0 and stop == root.size:
        return root
    right = cut(root, start)
    if right is None:
        return None
    left = cut(concatenation(right[1]), stop - start)
    return None if left is None else concatenation(left[0])


def unify(a: Port, b: Port) -> bool:
    """Make two ports one by co-refinement; False if their structures do not fit together."""
    a, b = find(a), find(b)
    if a is b:
        return True
    if a.size != b.size:
        return False
    if a.kind == LEAF:
        a.parent = b
        return True
    if b.kind == LEAF:
        b.parent = a
        return True
    if a.kind == SUM and b.kind == SUM:
        return _unify_lists(a, b, segments, _cut_first)
    for one, other in ((a, b), (b, a)):
        if one.kind == SUM and other.kind == PROD:
            if split(one, factors(other)[0].size) is None:
                return False
            break
    a, b = find(a), find(b)
    return a is b or _unify_lists(a, b, factors, _split_first)


def _cut_first(part: Port, size: int) -> list[Port] | None:
    pieces = cut(part, size)
    return None if pieces is None else pieces[0] + pieces[1]


def _split_first(part: Port, size: int) -> list[Port] | None:
    if find(part).kind == PROD:
        return factors(part)
    pieces = None if part.size % size else split(part, size)
    return None if pieces is None else [f for p in pieces for f in factors(p)]


def _unify_lists(a: Port, b: Port, read, refine) -> bool:
    left, right = read(a)[::-1], read(b)[::-1]
    while left and right:
        p, q = left.pop(), right.pop()
        if p.size == q.size:
            if not unify(p, q):
                return False
            continue
        stack, big, small = (left, p, q) if p.size > q.size else (right, q, p)
        pieces = refine(find(big), small.size)
        if pieces is None:
            return False
        stack += pieces[::-1]
        (right if big is p else left).append(small)
    a, b = find(a), find(b)
    if a is not b:
        b.parent = a
    return True
