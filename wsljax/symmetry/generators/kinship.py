"""Which units, and which blocks, are used alike: one of each kind is searched, and all are verified.

A deep network is the same layer many times. Two units are kin if their blocks have the same shapes and
axes, and if what is computed from these blocks next is the same: an equation counts with its parameters
and with what reads its results, some way down. What is found for one of them is then said of the others in
their own blocks; finite actions decide whether it holds there too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..._compat import Literal
from .action import blocks_used
from .kinds import Generator, Shift

REACH, DEAR = 40, 12
"""How far down equations count; a product of matrices or a convolution is as far as several others."""
COSTLY = {"dot_general", "conv_general_dilated"}


def uses(jaxpr: Any, n: int) -> list[int]:
    """For each of the first ``n`` inputs of a trace, its parameters, a hash of what is computed from it next.

    Where what depends on the other inputs is added up (a residual connection) is the end of it.
    """
    readers: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    eqns = jaxpr.eqns
    moving = set(jaxpr.invars[n:])
    joins = set()
    for number, eqn in enumerate(eqns):
        busy = 0
        for k, atom in enumerate(eqn.invars):
            if not isinstance(atom, Literal):
                readers[atom].append((number, k))
                busy += atom in moving
        if busy:
            moving.update(eqn.outvars)
        if busy > 1 and eqn.primitive.name in ("add", "add_any"):
            joins.add(number)
    texts: dict[int, str] = {}

    def text(value: Any) -> str:
        if not hasattr(value, "eqns") and not hasattr(value, "jaxpr"):
            return f"{value}" if not callable(value) else getattr(value, "__name__", "")
        if id(value) not in texts:
            texts[id(value)] = str(value)
        return texts[id(value)]

    marks = []
    for eqn in eqns:
        params = tuple((k, text(v)) for k, v in sorted(eqn.params.items()))
        shapes = tuple(
            (a.aval.shape, str(a.val) if isinstance(a, Literal) else "") for a in eqn.invars
        )
        marks.append(hash((eqn.primitive.name, params, shapes)))
    outputs = {id(v) for v in jaxpr.outvars}
    known: dict[tuple[int, int], int] = {}

    def of(var: Any, reach: int) -> int:
        key = (id(var), reach)
        if key not in known:
            found: list = [id(var) in outputs]
            if reach > 0:
                found += sorted(
                    hash((marks[m], k, *(of(v, left(m, reach)) for v in eqns[m].outvars)))
                    for m, k in readers[var]
                )
            known[key] = hash(tuple(found))
        return known[key]

    def left(m: int, reach: int) -> int:
        if m in joins:
            return 0
        return reach - (DEAR if eqns[m].primitive.name in COSTLY else 1)

    return [of(v, REACH) for v in jaxpr.invars[:n]]


def _pattern(path: str) -> str:
    return re.sub(r"\d+", "#", path)


class Kin:
    """The kinds of blocks and units of a spec.

    Args:
        spec: the permutations.
        used: for each leaf, what :func:`uses` says of it; None if all are to be looked at by themselves.
    """

    def __init__(self, spec, used: Sequence[int] | None):
        self.spec = spec
        paths = {leaf.path: i for i, leaf in enumerate(spec.leaves)}
        self.kind_of: dict[str, Any] = {}
        for n, b in enumerate(spec.layout):
            piece = b.name[len(b.path) :]
            kind = _pattern(b.path), piece, b.shape, tuple(_class(spec, a) for a in b.axes)
            self.kind_of[b.name] = (*kind, n if used is None else used[paths[b.path]])
        self.axes = {b.name: b.axes for b in spec.layout}
        self.path = {b.name: b.path for b in spec.layout}

    def first(self, things: Sequence[tuple[str, Any]]) -> dict[tuple[str, Any], tuple[str, Any]]:
        """For each pair of a block and something about it, the first of its kind."""
        seen: dict[Any, tuple[str, Any]] = {}
        return {t: seen.setdefault((self.kind_of[t[0]], t[1]), t) for t in things}

    def families(self, places_of) -> list[list]:
        """Units used alike, together; ``places_of(units)`` are their places."""
        groups: dict[Any, list] = defaultdict(list)
        for units in self.spec.units:
            groups[self._signature(units, places_of(units))].append(units)
        return list(groups.values())

    def _signature(self, units, places) -> tuple:
        numbers: dict[str, int] = {}
        rows = []
        for o in places:
            axes = tuple(
                label if label.startswith("_") else numbers.setdefault(label, len(numbers))
                for label in self.axes[o.block]
            )
            rows.append((self.kind_of[o.block], axes, o.axis, o.parents, o.part))
        over = tuple(numbers.get(u, u) for u in units.over)
        return units.size, over, tuple(rows)

    def between(self, blocks: Sequence[str], others: Sequence[str]) -> Relation:
        """How blocks, and the units on their axes, are renamed into others of their kinds."""
        pairs = dict(zip(blocks, others, strict=True))
        labels = {
            a: b for o, p in pairs.items() for a, b in zip(self.axes[o], self.axes[p], strict=True)
        }
        return Relation(self, pairs, labels)


class Relation:
    """A renaming of blocks and units, extended to other blocks by how the numbers in their paths move."""

    def __init__(self, kin: Kin, blocks: dict[str, str], labels: dict[str, str]):
        self.kin, self.blocks, self.labels = kin, blocks, labels
        self.steps: dict[str, int] = {}
        for a, b in blocks.items():
            for x, y in zip(_numbers(kin.path[a]), _numbers(kin.path[b]), strict=True):
                if x[1] != y[1]:
                    self.steps.setdefault(x[0], y[1] - x[1])

    def block(self, name: str) -> str | None:
        """The name of a block on the other side; None if there is no such block."""
        if name in self.blocks or not name:
            return self.blocks.get(name, name)
        path = self.kin.path[name]
        moved, at = "", 0
        for before, value, start, stop in _spans(path):
            moved += path[at:start] + str(value + self.steps.get(before, 0))
            at = stop
        moved += path[at:] + name[len(path) :]
        kinds = self.kin.kind_of
        if moved not in kinds or kinds[moved][:4] != kinds[name][:4]:
            return None
        return moved

    def label(self, name: str) -> str:
        return self.labels.get(name, name)

    def generator(self, g: Generator, named) -> Generator | None:
        """The same generator on the other side; None if one of its blocks has no counterpart."""
        to = {n: self.block(n) for n in blocks_used(g)} | {"": ""}
        if None in to.values():
            return None
        terms = tuple(
            replace(
                t,
                block=to[t.block],
                through=tuple(to[b] for b in t.through),
                under=tuple(to[b] for b in t.under),
            )
            for t in g.terms
        )
        carries = tuple(
            replace(
                c,
                bias=to[c.bias],
                weight=to[c.weight],
                gains=tuple(replace(h, block=to[h.block]) for h in c.gains),
            )
            for c in g.carries
        )
        units = None if g.units is None else self.label(g.units)
        over = tuple(map(self.label, g.over))
        out = replace(g, units=units, over=over, terms=terms, carries=carries)
        if isinstance(g, Shift):
            gains = tuple(replace(h, block=to[h.block]) for h in g.gains)
            out = replace(out, target=to[g.target], gains=gains)
        stem = g.name.split(":")
        subject = out.target if isinstance(out, Shift) and out.kind == "shift" else units
        if subject is None:
            subject = ":".join(map(self.label, stem[1:2])) + ":pairs"
        return replace(out, name=named(g.kind, subject))


def _spans(name: str) -> list[tuple[str, int, int, int]]:
    """The numbers in a path: what stands before each (without numbers), its value, where it is."""
    return [
        (_pattern(name[: m.start()]), int(m.group()), m.start(), m.end())
        for m in re.finditer(r"\d+", name)
    ]


def _numbers(name: str) -> list[tuple[str, int]]:
    return [s[:2] for s in _spans(name)]


def _class(spec, label: str) -> Any:
    """What kind of axis a label is."""
    if label.startswith("_"):
        return label
    return spec.size_of(label), len(spec.over(label))
