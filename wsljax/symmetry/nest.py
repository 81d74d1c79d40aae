"""Wreath products: which units are independent for each index of which other axis.

Units ``a`` may be permuted independently for each index of ``b`` exactly when every array that has
``a`` has ``b`` beside it, and every equation that ties two occurrences of ``a`` ties the occurrences of
``b`` beside them too. Which axis is the parent of which occurrence is found by arc consistency.
"""

from __future__ import annotations

from collections import defaultdict

from .cells import Cells


def parents(cells: Cells, candidates: set[int]) -> dict[int, list[int]]:
    """``{class: classes it is nested over}`` for the given classes (fixed classes may be parents)."""
    beside: dict[int, set[int]] = {}
    homes: dict[int, list[list[int]]] = defaultdict(list)
    for _, _, cell in cells.every_cell():
        nodes = [n for group in cell for n in group]
        roots = {n: cells.root(n) for n in nodes}
        for n in nodes:
            c = roots[n]
            if c not in candidates:
                continue
            others = {roots[m] for m in nodes if m != n}
            beside[c] = beside[c] & others if c in beside else others
            homes[c].append(nodes)
    by_class: dict[int, list] = defaultdict(list)
    if any(v - {c} for c, v in beside.items()):
        interesting = {c for c, v in beside.items() if v - {c}}
        for instance in cells.instances:
            for g, group in enumerate(instance.groups):
                if len(group) > 1:
                    c = cells.root(group[0][1])
                    if c in interesting:
                        by_class[c].append((instance, g))
    out = {}
    for c, others in beside.items():
        found = [b for b in sorted(others - {c}) if _nested(cells, c, b, homes[c], by_class[c])]
        if found:
            out[c] = found
    for a in list(out):  # two classes cannot each be nested over the other
        out[a] = [b for b in out[a] if a not in out.get(b, ()) or cells.is_fixed(b) or b < a]
    return out


def _nested(cells: Cells, a: int, b: int, homes: list[list[int]], ties: list) -> bool:
    domain: dict[int, set[int]] = {}
    for nodes in homes:
        mates = {n for n in nodes if cells.root(n) == b}
        for n in nodes:
            if cells.root(n) == a:
                domain[n] = set(mates)
    if not _consistent(domain, ties):
        return False
    for n in domain:
        if len(domain[n]) > 1:
            trial = {m: set(d) for m, d in domain.items()}
            trial[n] = {min(domain[n])}
            if not _consistent(trial, ties):
                return False
            domain = trial
    return True


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
