"""The search for shifts: blocks, or constant directions in them, that do not matter, and biases that may be
taken through the next linear map into another bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .kinds import Carry, Shift
from .occurrences import LETTERS, carry_equation, coordinates, copies
from .search import Search


def free_shifts(search: Search) -> list[Shift]:
    """Whole blocks, and constant directions along one axis, to which the function is blind."""
    found = [shift_of(search, name, (), (), []) for name in search.blocks if name in search.free]
    for name, part in sorted(search.free_parts):
        found.append(shift_of(search, name, (), (), found, part))
    tried = [
        (name, k)
        for name, b in search.blocks.items()
        if name not in search.free
        for k, n in enumerate(b.shape)
        if n > 1 and len(set(b.axes) - {"_"}) + b.axes.count("_") == len(b.axes)
    ]
    if not tried:
        return found

    def make(k, leaves):
        random = np.random.default_rng([k, 23])
        out = []
        for name, axis in tried:
            shape = list(search.blocks[name].shape)
            whole = tuple(shape)
            shape[axis] = 1
            out.append({name: np.broadcast_to(random.standard_normal(shape), whole)})
        return out

    first = search.kin.first(tried)
    several, tried = tried, list(dict.fromkeys(first.values()))
    sizes = dict(zip(tried, np.linalg.norm(search.some_columns(make), axis=0), strict=True))
    typical = max(search.weight.values())
    for name, axis in several:
        if sizes[first[name, axis]] <= search.tolerance * typical:
            found.append(shift_of(search, name, (axis,), (), found))
    return found


def carried_shifts(search: Search, units) -> list[Shift]:
    """Biases of ``units`` that go through the readers of these units into other biases."""
    axes = (*units.over, units.name)
    places = dict.fromkeys(replace(o, part=()) for o in search.places(units))
    biases = [o.block for o in places if _without_ones(search.blocks[o.block]) == axes]
    carries = []
    for o in places:
        if o.block in biases:
            continue
        for name, b in search.blocks.items():
            if name in biases or name in search.free or name == o.block:
                continue
            equation = carry_equation(search.spec, o, search.blocks[o.block], b)
            if equation:
                carries.append(Carry(name, o.block, equation))
    if not biases or not carries:
        return []
    sizes = search.sizes(units.over) + (units.size,)

    def make(k, leaves):
        copy, (i,) = copies(search.probe, units.over, k), coordinates(units.size, k, 1)
        amount = np.zeros(sizes)
        amount[(*copy, i)] = 1.0
        out = [{b: amount.reshape(search.blocks[b].shape)} for b in biases]
        for c in carries:
            weight = search.probe.block(leaves, c.weight)
            out.append({c.bias: np.einsum(c.equation, amount, weight)})
        return out

    n = len(biases)
    found: list[Shift] = []
    for v in search.null(make, n + len(carries)):
        if np.count_nonzero(v[:n]) == 1 and np.count_nonzero(v) > 1:
            bias = biases[int(np.argmax(v[:n] != 0))]
            used = tuple(
                replace(c, equation=_with_ones(c.equation, search.blocks[bias]), factor=float(f))
                for c, f in zip(carries, v[n:] / np.sum(v[:n]), strict=True)
                if f
            )
            found.append(shift_of(search, bias, (), used, found))
    return found


def _without_ones(block) -> tuple[str, ...]:
    """The axes of a block, fixed ones of length one left out."""
    return tuple(a for a, n in zip(block.axes, block.shape, strict=True) if a != "_" or n > 1)


def _with_ones(equation: str, block) -> str:
    """The equation of a carry, for an amount that has the block's fixed axes of length one too."""
    amount, rest = equation.split(",")
    spare = iter(reversed(LETTERS))
    own = iter(amount)
    ones = [a == "_" and n == 1 for a, n in zip(block.axes, block.shape, strict=True)]
    return "".join(next(spare) if one else next(own) for one in ones) + "," + rest


def shift_of(search: Search, target: str, constant, carries, found, part=()) -> Shift:
    """The shift of a block; ``found`` are those of which it is not to have the name."""
    b = search.blocks[target]
    left_out = {*constant, *(k for k, _ in part)}
    kept = [k for k in range(len(b.axes)) if k not in left_out]
    carries = tuple(_in_letters_of(c) for c in carries)
    owner = next((a for a in reversed(b.axes) if not a.startswith("_")), None)
    n = search.spec.size_of(owner) if owner else 1
    return Shift(
        search.named("shift", target, found), owner, (), n,
        tuple(b.axes[k] for k in kept), tuple(b.shape[k] for k in kept), carries, target, constant, part,
    )  # fmt: skip


def _in_letters_of(c: Carry) -> Carry:
    """The same carry, its equation in the first letters."""
    used = list(dict.fromkeys(x for x in c.equation if x.isalpha()))
    renamed = {x: LETTERS[i] for i, x in enumerate(used)}
    equation = "".join(renamed.get(x, x) for x in c.equation)
    return replace(c, equation=equation)
