"""Wreath products: which units are independent for each index of which other axis.

Units ``a`` may be permuted independently for each index of ``b`` exactly when every array that has
``a`` has ``b`` beside it, and every equation that ties two occurrences of ``a`` ties the occurrences of
``b`` beside them too. Which axis is the parent of which occurrence is found by arc consistency.
"""

from __future__ import annotations

from collections import defaultdict

from .cells import Cells

Seats = dict[int, int]
"""For each node of a class, the node beside it that is its parent."""


def parents(cells: Cells, candidates: set[int]) -> dict[int, list[tuple[int, Seats]]]:
    """``{class: [(class it is nested over, which of its nodes is whose parent)]}``.

    Fixed classes may be parents too. A class stands in a list as often as there are different axes of
    it to be nested over (the two group axes around a channel shuffle).
    """
    beside: dict[int, set[int]] = {}
    homes: dict[int, list[list[int]]] = defaultdict(list)
    open_ = set(candidates)  # those that may still have a parent
    every = cells.roots()
    for _, _, cell in cells.every_cell():
        nodes = [n for group in cell for n in group]
        if open_.isdisjoint([every[n] for n in nodes]):
            continue
        for n in nodes:
            c = every[n]
            if c not in open_:
                continue
            others = {every[m] for m in nodes if m != n and cells.size[m] > 1}
            others.discard(c)
            beside[c] = beside[c] & others if c in beside else others
            homes[c].append(nodes)
            if not beside[c]:
                open_.discard(c)
    interesting = {c for c, v in beside.items() if v}
    ties: dict[int, list] = defaultdict(list)
    if interesting:
        for instance in cells.instances:
            for g, group in enumerate(instance.groups):
                if len(group) > 1:
                    c = every[group[0][1]]
                    if c in interesting:
                        ties[c].append((instance, g))
    out: dict[int, list[tuple[int, Seats]]] = {}
    for c in interesting:
        found = [
            (b, seats)
            for b in sorted(beside[c])
            for seats in _all_seats(cells, c, b, homes[c], ties[c])
        ]
        if found:
            out[c] = found
    for a in list(out):  # two classes cannot each be nested over the other
        mutual = {
            b
            for b, _ in out[a]
            if not cells.is_fixed_class(b) and any(c == a for c, _ in out.get(b, ()))
        }
        out[a] = [(b, seats) for b, seats in out[a] if b not in mutual or b < a]
    return out


def _all_seats(cells: Cells, a: int, b: int, homes: list[list[int]], ties: list) -> list[Seats]:
    domain: dict[int, set[int]] = {}
    for nodes in homes:
        mates = {n for n in nodes if cells.root(n) == b}
        for n in nodes:
            if cells.root(n) == a:
                domain[n] = set(mates)
    found: list[Seats] = []
    while all(domain.values()):
        trial = {n: set(d) for n, d in domain.items()}
        if not _consistent(trial, ties):
            break
        for n in sorted(trial):
            if len(trial[n]) > 1:
                trial[n] = {min(trial[n])}
                if not _consistent(trial, ties):
                    return found
        found.append({n: next(iter(d)) for n, d in trial.items()})
        domain = {n: d - trial[n] for n, d in domain.items()}
    return found


def _consistent(domain: dict[int, set[int]], ties: list) -> bool:
    """Filter parents until every tie joins parents with parents; False if some node is left without."""
    changed = True
    while changed:
        changed = False
        for instance, g in ties:
            group = instance.groups[g]
            where: dict[int, dict[int, int]] = defaultdict(dict)
            for h, other in enumerate(instance.groups):
                for role, n in other:
                    where[role][n] = h
            allowed: set[int] | None = None
            for role, n in group:
                seats = {where[role][m] for m in domain[n] if m in where[role]}
                allowed = seats if allowed is None else allowed & seats
            for role, n in group:
                kept = {m for m in domain[n] if where[role].get(m) in (allowed or ())}
                if not kept:
                    return False
                if kept != domain[n]:
                    domain[n] = kept
                    changed = True
    return True
