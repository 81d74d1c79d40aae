"""What two networks are compared by once both are in the gauge: blocks, and what is left of the group.

After :func:`.to_gauge` only what moves weights without stretching them is left: permutations, signs, steps of
phases, orthogonal matrices. Here a spec is written as a :class:`.Problem` of these. Axes that a matrix
acts on are turned (permuting them is a special case); blocks of which only a part is moved are cut; what
the gauge has made zero, or one, on both sides is left out. Where flips are about a centre (a sigmoid's), the bias
behind is compared with that centre taken in, and then it does not move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp

from wsljax.symmetry import Block, Generator, Linear, Orthogonal, Shift, Sign, Spec, Units
from wsljax.symmetry.generators import Phase
from wsljax.symmetry.generators.action import act_on_blocks
from wsljax.symmetry.layout import spread

from .gauge import plan_of
from .problem import Flip, Problem, Turn


@dataclass(frozen=True)
class Cell:
    """A part of a block: what is cut out, and the gains through which it is turned."""

    block: Block
    source: str
    index: tuple[tuple[int, int], ...] = ()
    through: tuple[tuple[str, tuple[int, ...]], ...] = ()
    under: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    problem: what may be exchanged, turned and given signs; its blocks are those of the cells.
    cells: how to read them.
    centred: sign generators whose centre is taken into biases.
    """

    problem: Problem
    cells: tuple[Cell, ...]
    centred: tuple[Generator, ...] = ()

    def read(self, blocks: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """The cells of blocks that are in the gauge."""
        seen = dict(blocks)
        for gen in self.centred:
            e = -jnp.ones(gen.shape, jnp.int32)
            turned = act_on_blocks((gen,), {gen.name: e}, blocks)
            for name in {c.bias for c in gen.carries}:
                seen[name] = seen[name] + (turned[name] - blocks[name]) / 2
        out = {}
        for cell in self.cells:
            x = seen[cell.source]
            for name, where in cell.through:
                x = x * spread(blocks[name], where, x.ndim)
            for name, where in cell.under:
                gain = spread(blocks[name], where, x.ndim)
                x = x / jnp.where(gain == 0, 1, gain)
            chosen = dict(cell.index)
            x = x[
                tuple(
                    slice(chosen[k], chosen[k] + 1) if k in chosen else slice(None)
                    for k in range(x.ndim)
                )
            ]
            if jnp.issubdtype(x.dtype, jnp.complexfloating):
                x = jnp.stack([x.real, x.imag], -1)
            out[cell.block.name] = x
        return out


@lru_cache(maxsize=128)
def comparison_of(spec: Spec, permute: bool, dtypes: tuple[tuple[str, Any], ...]) -> Comparison:
    """The comparison for a spec.

    Args:
        spec: the spec; all of its generators are used.
        permute: whether units may be exchanged.
        dtypes: of the blocks, by name: integers are not compared, complex numbers in parts.
    """
    plan = plan_of(spec)
    kinds = dict(dtypes)
    cells = [
        c for b in spec.layout if jnp.issubdtype(kinds[b.name], jnp.inexact) for c in _cut(spec, b)
    ]
    cells = [c for c in cells if not any(_covers(z, c) for z in plan.zeroed)]
    turned = _turned(
        spec, cells, [g for g in spec.generators if isinstance(g, (Linear, Orthogonal))]
    )
    absorbed: set[str] = set()
    for gen in turned:
        for i, k, term in _terms(gen, cells):
            b = cells[i].block
            absorbed.add(b.axes[k])
            axes = (*b.axes[:k], gen.name, *b.axes[k + 1 :])
            parents = (*b.parents[:k], term.parents, *b.parents[k + 1 :])
            gains = [
                tuple((n, term.gains_at) for n in names) for names in (term.through, term.under)
            ]
            block = replace(b, axes=axes, parents=parents)
            cells[i] = replace(
                cells[i], block=block, through=(*cells[i].through, *gains[0]), under=(*cells[i].under, *gains[1])
            )  # fmt: skip
    units = [u for u in spec.units if u.name not in absorbed]
    still = [] if permute else [u.name for u in units]
    flips, alone = _flips(spec, cells, units, plan.folded)
    turns = tuple(
        Turn(g.name, getattr(g, "pairs", ()), getattr(g, "centred", False)) for g in turned
    )
    units += [Units(g.name, g.size, g.over) for g in turned]
    units += alone
    cells = [_in_parts(c) if _is_complex(kinds[c.source]) else c for c in cells]
    placed = {axis for c in cells for axis in c.block.axes}
    units = [u for u in units if u.name in placed]
    names = {u.name for u in units}
    cells = [c for c in cells if names & set(c.block.axes)]
    problem = Problem(
        tuple(c.block for c in cells), tuple(units), tuple(t for t in turns if t.name in names),
        tuple(f for f in flips if f.units in names), tuple(n for n in (*still, *(u.name for u in alone)) if n in names),
    )  # fmt: skip
    centred = tuple(
        g for g in spec.generators
        if isinstance(g, Sign) and g.carries and g.name in {f.name for f in problem.flips}
    )  # fmt: skip
    return Comparison(problem, tuple(cells), centred)


# ------------------------------------------------------------------------------------ cells
def _cut(spec: Spec, b: Block) -> list[Cell]:
    """The parts of a block that generators tell apart."""
    parts = [t.part for g in spec.generators for t in g.terms if t.block == b.name]
    parts += [g.part for g in spec.generators if isinstance(g, Shift) and g.target == b.name]
    axes = sorted({k for part in parts for k, _ in part})
    out = []
    parents = b.parents or ((),) * len(b.axes)
    for index in product(*(range(b.shape[k]) for k in axes)):
        chosen = tuple(zip(axes, index, strict=True))
        shape = tuple(1 if k in axes else n for k, n in enumerate(b.shape))
        name = b.name + "".join(f"[{k}:{i}]" for k, i in chosen)
        out.append(Cell(replace(b, name=name, shape=shape, parents=parents), b.name, chosen))
    return out


def _covers(part: tuple[str, tuple[tuple[int, int], ...]], cell: Cell) -> bool:
    block, chosen = part
    return block == cell.source and set(chosen) <= set(cell.index)


def _terms(gen: Generator, cells: Sequence[Cell]) -> list[tuple[int, int, Any]]:
    """The cells and axes on which a generator acts."""
    return [
        (i, t.axis, t)
        for t in gen.terms
        for i, c in enumerate(cells)
        if t.axis is not None and _covers((t.block, t.part), c)
    ]


def _turned(spec: Spec, cells: Sequence[Cell], generators: list) -> list:
    """Generators whose matrices take in all that may be done to the axes they act on."""
    nested_over = {o for u in spec.units for o in u.over}
    while True:
        acted = {(i, k): g for g in generators for i, k, _ in _terms(g, cells)}
        twice = sum(len(_terms(g, cells)) for g in generators) > len(acted)
        bad = set()
        for g in generators:
            gains = {n for t in g.terms for n in (*t.through, *t.under)}
            labels = {cells[i].block.axes[k] for i, k, _ in _terms(g, cells)}
            if not labels or any(o == "_" for o in g.over) or labels & nested_over:
                bad.add(g.name)
            for i, c in enumerate(cells):
                for k, axis in enumerate(c.block.axes):
                    if (
                        axis in labels
                        and axis in spec._units
                        and (i, k) not in acted
                        and c.source not in gains
                    ):
                        bad.add(g.name)
            if getattr(g, "pairs", ()) and any(axis in spec._units for axis in labels):
                bad.add(g.name)
            if twice and any(acted[i, k] is not g for i, k, _ in _terms(g, cells)):
                bad.add(g.name)
        if not bad:
            return generators
        generators = [g for g in generators if g.name not in bad]


def _flips(
    spec: Spec, cells, units: list[Units], folded: set[str]
) -> tuple[list[Flip], list[Units]]:
    """Signs and phases, of units that are exchanged and of others."""
    by_name = {u.name: u for u in units}
    flips, alone = [], []
    for gen in spec.generators:
        if not isinstance(gen, (Sign, Phase)) or gen.name in folded:
            continue
        found = _terms(gen, cells)
        bias = None
        if isinstance(gen, Phase):
            bias = next((i for i, c in enumerate(cells) if c.source == gen.target), None)
            if bias is None or cells[bias].block.axes != gen.over:
                continue
        labels = {cells[i].block.axes[k] for i, k, _ in found}
        name = gen.units
        over = gen.over[:-1] if isinstance(gen, Phase) else gen.over
        if labels != {name} or name not in by_name or by_name[name].over != over:
            if labels != {"_"} or isinstance(gen, Phase) or "_" in gen.over:
                continue  # left to the end, where nothing but what is continuous moves
            name = gen.name
            alone.append(Units(name, gen.size, gen.over))
            for i, k, term in found:
                b = cells[i].block
                axes = (*b.axes[:k], name, *b.axes[k + 1 :])
                parents = (*b.parents[:k], term.parents, *b.parents[k + 1 :])
                cells[i] = replace(cells[i], block=replace(b, axes=axes, parents=parents))
        at = [(cells[i].block.name, k) for i, k, _ in found]
        odd = frozenset(p for p in at if at.count(p) % 2)
        step = gen.step if isinstance(gen, Phase) else 0.0
        where = None if bias is None else (cells[bias].block.name, len(gen.over) - 1)
        flips.append(Flip(gen.name, name, odd, where, step))
    return flips, alone


def _is_complex(kind: Any) -> bool:
    return jnp.issubdtype(kind, jnp.complexfloating)


def _in_parts(cell: Cell) -> Cell:
    b = cell.block
    block = replace(b, axes=(*b.axes, "_"), shape=(*b.shape, 2), parents=(*b.parents, ()))
    return replace(cell, block=block)
