"""``Search``: derivatives in the directions of candidates, at enough random points, and what is null in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .kinds import part_slices
from .kinship import Kin
from .nullspace import null_vectors, sketch
from .occurrences import Occurrence, occurrences, parts
from .probe import Probe

MOST_DRAWS = 64
LEAST_DRAWS, MORE_DRAWS = 3, 2


class Search:
    """What the searches share: the probe, its tolerance, and the blocks that do not matter at all.

    ``shared``: what is used alike is searched once (:mod:`.kinship`).
    """

    def __init__(self, probe: Probe, shared: bool = True):
        self.probe, self.spec = probe, probe.spec
        self.tolerance = probe.tolerance
        self.blocks = {b.name: b for b in self.spec.layout}
        self.split: set[str] = (
            set()
        )  # units that stand beside themselves: parts of blocks move apart
        self.kin = Kin(self.spec, probe.uses if shared else None)
        whole = {(n, part): b for n, b in self.blocks.items() for part in parts(self.spec, b)}
        packed = {
            (n, part): b for n, b in self.blocks.items() for part in parts(self.spec, b, split=True)
        }
        pieces = whole | packed
        first = self.kin.first(list(pieces))
        sizes = self._sensitivities({piece: pieces[piece] for piece in set(first.values())})
        sizes = {piece: sizes[first[piece]] for piece in pieces}
        limit = probe.negligible * max(sizes.values(), default=0.0)
        self.weight = {n: max(w for (m, _), w in sizes.items() if m == n) for n in self.blocks}
        self.free = {n for n, w in self.weight.items() if w <= limit}
        idle = {(n, part) for (n, part), w in sizes.items() if w <= limit and n not in self.free}
        self.free_parts = {piece for piece in idle if piece in whole}
        self.idle_parts = {piece for piece in idle if piece in packed}

    def places(self, units) -> list[Occurrence]:
        """Where units stand and matter; those that are :meth:`layered` only in the layers."""
        split = units.name in self.split
        idle = self.idle_parts if split else self.free_parts
        found = occurrences(self.spec, units.name, self.free, idle, split)
        for label in units.over[len(self.spec.over(units.name)) :]:
            found = [
                replace(o, parents=(*o.parents, self.blocks[o.block].axes.index(label)))
                for o in found
                if self.blocks[o.block].axes.count(label) == 1
            ]
        return found

    def layered(self, units) -> list:
        """The units in a stack of layers, which share them, with a copy for each layer: a gain of every
        layer may be scaled by itself, though the stream goes through all of them."""
        labels = dict.fromkeys(
            label
            for o in self.places(units)
            for label in self.blocks[o.block].axes
            if label.startswith("_") and label != "_" and label not in units.over
        )
        return [replace(units, over=(*units.over, label)) for label in labels]

    def _sensitivities(self, pieces) -> dict[tuple, float]:
        """How far the outputs move when one part of a block moves at random."""
        out = dict.fromkeys(pieces, 0.0)
        for k in range(LEAST_DRAWS + 1):
            leaves, inputs, y = self.probe.draw(k)
            random = np.random.default_rng([k, 5])
            directions = []
            for (n, part), b in pieces.items():
                x, where = np.zeros(b.shape), part_slices(part, len(b.shape))
                x[where] = random.standard_normal(x[where].shape)
                directions.append({n: x})
            found = self.probe.push(directions, leaves, inputs)
            for piece, row in zip(pieces, found, strict=True):
                out[piece] = max(out[piece], float(np.linalg.norm(row)) / _spread(y))
        return out

    def columns(self, make, k: int, at=None) -> np.ndarray:
        """Derivatives in the directions ``make(draw, leaves)``, one a column, at the ``k``-th draw.

        ``at(draw, leaves)`` are the leaves where they are taken, if not those of the draw.
        """
        leaves, inputs, y = self.probe.draw(k)
        leaves = leaves if at is None else at(k, leaves)
        part = np.array(self.probe.push(make(k, leaves), leaves, inputs).T)
        wrong = ~np.isfinite(part)  # what cannot be differentiated here is null in no direction
        part[wrong] = np.random.default_rng(k).standard_normal(int(wrong.sum()))
        return sketch(part, k) / _spread(y)

    def some_columns(self, make, at=None) -> np.ndarray:
        """Columns at the first draws."""
        return np.concatenate([self.columns(make, k, at) for k in range(LEAST_DRAWS)])

    def null(self, make, n: int, at=None, tolerance: float | None = None) -> np.ndarray:
        """What is null in ``n`` directions at every draw: a sparse basis, one vector a row.

        Draws are added as long as they still make the null space smaller. One that sees little of a unit
        adds few rows: the number of outputs says nothing.
        """
        rows: list[np.ndarray] = []
        found, before = np.zeros((0, n)), -1
        for k in range(MOST_DRAWS):
            rows.append(self.columns(make, k, at))
            if k and (k + 1 < LEAST_DRAWS or (k + 1 - LEAST_DRAWS) % MORE_DRAWS):
                continue
            found = self._null(np.concatenate(rows), tolerance or self.tolerance)
            if not len(found) or k and len(found) == before:
                return found
            before = len(found) if k else -1
        return np.zeros((0, n))

    def _null(self, columns: np.ndarray, tolerance: float) -> np.ndarray:
        """A column that is zero is a null vector by itself."""
        norms = np.linalg.norm(columns, axis=0)
        typical = max(self.weight.values(), default=0.0)  # a single column may be all rounding
        nothing = max(1e-2 * tolerance, self.probe.negligible)
        alive = norms > nothing * np.max(norms, initial=typical)
        alone = np.eye(len(norms))[~alive]
        if not alive.any():
            return alone
        rows = columns[:, alive]
        missing = alive.sum() - len(rows)
        if missing > 0:
            rows = np.concatenate([rows, np.zeros((missing, rows.shape[1]))])
        found = null_vectors(rows, tolerance)
        out = np.zeros((len(found), columns.shape[1]))
        out[:, alive] = found
        return np.concatenate([alone, out])

    def each(self, things: Sequence, blocks_of, find) -> list[list]:
        """``find(thing)`` for each of several things; for those that are about blocks alike, what was found
        for the first of them. ``blocks_of(thing)`` are the blocks that a thing is about."""
        first: dict[tuple, tuple] = {}
        out: list[list] = []
        for thing in things:
            blocks = tuple(blocks_of(thing))
            kind = tuple(self.kin.kind_of[b] for b in blocks)
            if kind in first:
                others, found = first[kind]
                relation = self.kin.between(others, blocks)
                moved = [relation.generator(g, self.named) for g in found]
                if None not in moved:
                    out.append(moved)
                    continue
            found = find(thing)
            first.setdefault(kind, (blocks, found))
            out.append(found)
        return out

    def by_family(self, find) -> dict[str, list[list]]:
        """``{name: find(units)}``, lists of generators, for all units; for those that are used alike, what
        was found for the first of them."""
        out: dict[str, list[list]] = {}
        for first, *others in self.kin.families(self.places):
            out[first.name] = found = find(first)
            if first.name in self.split:
                self.split.update(units.name for units in others)
            mine = [o.block for o in self.places(first)]
            for units in others:
                relation = self.kin.between(mine, [o.block for o in self.places(units)])
                related = [self._related(relation, some) for some in found]
                known = [some for some in related if some is not None]
                out[units.name] = known if len(known) == len(found) else find(units)
        return out

    def _related(self, relation, found: list) -> list | None:
        """Generators renamed; None if one cannot be."""
        out: list = []
        for g in found:
            other = relation.generator(g, lambda kind, name: self.named(kind, name, out))
            if other is None:
                return None
            out.append(other)
        return out

    def named(self, kind: str, name: str, found: Sequence = ()) -> str:
        taken = {g.name for g in found}
        base, n, out = f"{kind}:{name}", 2, f"{kind}:{name}"
        while out in taken:
            out, n = f"{base}:{n}", n + 1
        return out

    def sizes(self, over) -> tuple[int, ...]:
        return tuple(self.spec.size_of(o) for o in over)


def _spread(y: np.ndarray) -> float:
    return float(np.std(y) or np.max(np.abs(y)) or 1.0)
