"""The table that ``print(spec)`` shows: leaves, units, and what is pinned and why."""

from __future__ import annotations

import re

from .generators.text import row
from .grammar import format_axes

LONGEST = 40
"""Characters of a reindexed axis's order that the table shows."""


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]


def _axes(leaf, overs) -> str:
    """A leaf's annotation, with only the beginning of a long order of a reindexed axis."""

    def short(match: re.Match) -> str:
        order = match[1]
        return match[0] if len(order) <= LONGEST else f"{{{order[:LONGEST].rsplit(',', 1)[0]},...}}"

    return re.sub(r"\{(.*?)\}", short, format_axes(leaf.trees, overs))


def table(spec) -> str:
    """The spec as a table; see :meth:`Spec.__repr__`."""
    lines = [
        f"Spec: {len(spec.leaves)} leaves, {len(spec.units)} sets of units, log(order) = {spec.log_order():.6g}"
    ]
    for title, group in (("leaf", spec.leaves), ("input", spec.inputs), ("output", spec.outputs)):
        if group:
            rows = [(title, "shape", "axes")]
            rows += [(x.path or "(itself)", str(x.shape), _axes(x, spec._overs)) for x in group]
            lines += ["", *_columns(rows)]
    if spec.units:
        rows = [("units", "size", "one copy for each of", "group")]
        for u in spec.units:
            copies = " x ".join(f"{o} ({spec.size_of(o)})" for o in u.over)
            rows.append((u.name, str(u.size), copies or "-", f"S_{u.size}"))
        lines += ["", *_columns(rows)]
    if spec.generators:
        rows = [("generator", "group", "one copy for each of", "acts on")]
        lines += ["", *_columns(rows + [row(g) for g in spec.generators])]
    if spec.approximate:
        rows = [("approximate", "group", "change", "acts on")]
        for g, change in spec.approximate:
            name, group, _, places = row(g)
            rows.append((name, group, f"{change:.1e}", places))
        lines += ["", *_columns(rows)]
    if spec.skipped:
        lines += ["", *(f"skipped: {note}" for note in spec.skipped)]
    if spec.pinned:
        rows = [("pinned", "axis", "size", "why")]
        rows += [(p.path or "(itself)", str(p.axis), str(p.size), p.reason) for p in spec.pinned]
        lines += ["", *_columns(rows)]
    return "\n".join(lines)
