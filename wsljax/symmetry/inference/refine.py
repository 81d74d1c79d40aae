"""Refinement of ports: factoring, cutting, and making two of them one.

Unifying two ports co-refines their trees: common factors for products, common cut points for sums, and
the common partition where one shows the other's coordinates in another order. Over-refining is
harmless: :mod:`.merge` undoes it.
"""

from __future__ import annotations

import numpy as np

from .ports import (
    LEAF,
    ORDER,
    PROD,
    SUM,
    Port,
    concatenation,
    factors,
    find,
    inverse,
    is_identity,
    opened,
    product,
    reordered,
    segments,
)

MAX_CHUNKS = 64


def split(port: Port, lead: int) -> tuple[Port, Port] | None:
    """Factor a port that is not a product into ``(lead, size // lead)``; None if it cannot be."""
    root = find(port)
    if root.size % lead:
        return None
    rest_size = root.size // lead
    if root.kind == ORDER:
        return _split_ordered(root, lead, rest_size)
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
        chunks = []
        for k in range(lead):
            chunk = segment(root, k * rest_size, (k + 1) * rest_size)
            if chunk is None:
                return None
            chunks.append(chunk)
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
    if root.kind == ORDER:
        pieces = partition(root, (np.arange(root.size) >= offset).astype(np.int64))
        return None if pieces is None else (pieces[:1], pieces[1:])
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


def partition(port: Port, labels: np.ndarray) -> list[Port] | None:
    """Refine a port so that the coordinates of every label are a port of their own.

    Args:
        labels: one for each coordinate, from 0 upwards without gaps.

    Returns:
        For each label the port of its coordinates, in ascending order; None if it cannot be.
    """
    root = find(port)
    count = int(labels.max()) + 1
    if count == 1:
        return [root]
    if root.kind == LEAF:
        parts = [Port(int(n)) for n in np.bincount(labels, minlength=count)]
        by_label = np.argsort(labels, kind="stable")
        if is_identity(by_label):
            root.kind, root.parts = SUM, parts
        else:
            root.kind, root.parts = ORDER, [Port(root.size, SUM, parts)]
            root.order = inverse(by_label)
        return list(parts)
    if root.kind == ORDER:
        order: np.ndarray = root.order  # type: ignore[assignment]
        mapped = np.empty_like(labels)
        mapped[order] = labels
        pieces = partition(root.parts[0], mapped)
        if pieces is None:
            return None
        return [
            reordered(p, _ranks(order[np.flatnonzero(labels == k)])) for k, p in enumerate(pieces)
        ]
    if root.kind == SUM:
        rows: list[list[Port]] = [[] for _ in range(count)]
        at = 0
        for part in segments(root):
            present, local = np.unique(labels[at : at + part.size], return_inverse=True)
            at += part.size
            pieces = partition(part, local.reshape(-1))
            if pieces is None:
                return None
            for k, p in zip(present, pieces, strict=True):
                rows[k].append(p)
        return [concatenation(row) for row in rows]
    first, *rest = factors(root)
    table = labels.reshape(first.size, -1)
    if (table == table[:, :1]).all():
        pieces = partition(first, table[:, 0])
        return None if pieces is None else [product([p, *rest]) for p in pieces]
    if (table == table[:1]).all():
        pieces = partition(product(rest), table[0])
        return None if pieces is None else [product([first, p]) for p in pieces]
    return None


def _ranks(values: np.ndarray) -> np.ndarray:
    return inverse(np.argsort(values))


def _blockwise(order: np.ndarray, lead: int) -> tuple[np.ndarray, np.ndarray] | None:
    """An order of a product ``(lead, rest)`` as an order of each factor; None if it is not one."""
    rest = len(order) // lead
    table = order.reshape(lead, rest)
    outer, inner = table[:, 0] // rest, table[0] % rest
    same = (table == outer[:, None] * rest + inner[None, :]).all()
    return (outer, inner) if same else None


def _halves(port: Port, lead: int) -> tuple[Port, Port] | None:
    """Any port as a product ``(lead, rest)``."""
    left: list[Port] = []
    right = factors(port)
    room = lead
    while room > 1:
        if not right:
            return None
        head = right.pop(0)
        if room % head.size == 0:
            left.append(head)
            room //= head.size
            continue
        pieces = None if head.size % room else split(head, room)
        if pieces is None:
            return None
        left.append(pieces[0])
        right.insert(0, pieces[1])
        room = 1
    return product(left), product(right)


def _split_ordered(root: Port, lead: int, rest: int) -> tuple[Port, Port] | None:
    inner, order = opened(root)
    both = _blockwise(order, lead)  # type: ignore[arg-type]
    halves = None if both is None else _halves(inner, lead)
    if both is None or halves is None:
        return None
    pair = reordered(halves[0], both[0]), reordered(halves[1], both[1])
    root.kind, root.parts, root.order = PROD, list(pair), None
    return pair


def _unify_ordered(a: Port, b: Port) -> bool:
    """Coordinate ``i`` of ``a`` is coordinate ``i`` of ``b``, of which one at least is an order."""
    (p, of_p), (q, of_q) = opened(a), opened(b)
    counted = np.arange(p.size)
    order = (counted if of_q is None else of_q)[counted if of_p is None else inverse(of_p)]
    if is_identity(order):
        return unify(p, q)
    if p is q:
        return False
    if p.kind == LEAF:
        p.parent = reordered(q, order)
        return True
    if q.kind == LEAF:
        q.parent = reordered(p, inverse(order))
        return True
    if p.kind == PROD and q.kind == PROD:
        lead = min(factors(p)[0].size, factors(q)[0].size)
        both = _blockwise(order, lead)
        if both is None:
            return False
        ours, theirs = _halves(p, lead), _halves(q, lead)
        if ours is None or theirs is None:
            return False
        return all(unify(x, reordered(y, o)) for x, y, o in zip(ours, theirs, both, strict=True))
    labels = _numbered(p) * q.size + _numbered(q)[order]
    labels = np.unique(labels, return_inverse=True)[1].reshape(-1)
    mapped = np.empty_like(labels)
    mapped[order] = labels
    ours, theirs = partition(p, labels), partition(q, mapped)
    if ours is None or theirs is None:
        return False
    return all(
        unify(x, reordered(y, _ranks(order[np.flatnonzero(labels == k)])))
        for k, (x, y) in enumerate(zip(ours, theirs, strict=True))
    )


def _numbered(port: Port) -> np.ndarray:
    """For each coordinate, the number of its segment."""
    sizes = [s.size for s in segments(port)]
    return np.repeat(np.arange(len(sizes)), sizes)


def unify(a: Port, b: Port) -> bool:
    """Make two ports one by co-refinement; False if their structures do not fit together."""
    a, b = find(a), find(b)
    if a is b:
        return True
    if a.size != b.size:
        return False
    if a.kind == ORDER or b.kind == ORDER:
        return _unify_ordered(a, b)
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
