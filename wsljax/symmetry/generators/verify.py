"""Every generator is verified by finite action before it is returned.

All of them act at once on random parameters; only if that shows in the outputs, each acts by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from ..._compat import enable_x64
from .action import terms_on_amount
from .kinds import Generator, Shift
from .matrices import mean_free
from .probe import Probe
from .search import Search

DRAWS = 3


def verified(
    search: Search, candidates: list[Generator]
) -> tuple[tuple[Generator, ...], tuple[str, ...], tuple[str, ...]]:
    """The candidates that hold for random elements, whole, and whose group laws hold; the names of those
    that do not hold; and what is to be said of all that are left out."""
    candidates = [_centred(g, candidates) for g in candidates]
    worst = errors(search.probe, candidates)
    failed = tuple(name for name, error in worst.items() if not error <= search.tolerance)
    notes = [
        f"{name}: the outputs change by {worst[name]:.1e} of their spread under it"
        for name in failed
    ]
    candidates = [g for g in candidates if g.name not in failed]
    kept: list[Generator] = []
    for g in candidates:
        why = _unlawful(g, candidates)
        if why:
            notes.append(f"{g.name}: {why}")
        else:
            kept.append(g)
    return tuple(kept), failed, tuple(notes)


def errors(probe: Probe, generators: Sequence[Generator]) -> dict[str, float]:
    """By how much of their spread the outputs change under random elements of each generator."""
    if not generators:
        return {}
    spec = replace(probe.spec, generators=tuple(generators))
    with enable_x64():
        neutral = {g.name: np.asarray(g.neutral()) for g in generators}

    def moved(g, leaves, ins):
        return probe.flat(jax.tree.leaves(spec.act(g, probe.treedef.unflatten(leaves))), ins)

    program = f"moved {hash(spec)}"
    worst = dict.fromkeys(neutral, 0.0)
    for k in range(DRAWS):
        leaves, inputs, y = probe.draw(k)
        random = np.random.default_rng([k, 41])
        some = {g.name: _element(g, random) for g in generators}
        new = np.asarray(probe.program(program, moved, some, leaves, inputs))
        joint = probe.apart(new, y)
        if joint <= probe.tolerance:
            worst = {name: max(error, joint) for name, error in worst.items()}
            continue
        for name, x in some.items():
            new = np.asarray(probe.program(program, moved, neutral | {name: x}, leaves, inputs))
            worst[name] = max(worst[name], probe.apart(new, y))
    return worst


def _element(g: Generator, random: np.random.Generator) -> np.ndarray:
    """A random element, as ``g.draw`` makes them, but without a program to be compiled."""
    x = random.standard_normal(g.shape)
    if g.kind == "shift":
        return x
    if g.kind == "phase":
        return random.integers(-2, 3, g.shape).astype(np.int32)
    if g.kind == "sign":
        return np.where(x > 0, 1, -1).astype(np.int32)
    if g.kind in ("scale", "uniform"):
        return np.exp(0.5 * x)
    if getattr(g, "pairs", ()):
        with enable_x64():
            v = 0.5 * random.standard_normal(g.algebra_shape)
            return np.asarray(g.exp(v))  # pyright: ignore[reportArgumentType]
    if getattr(g, "centred", False):
        basis = mean_free(g.size)
        q, _ = np.linalg.qr(x[..., 1:, 1:])
        return basis @ q @ basis.T + 1 / g.size
    q, _ = np.linalg.qr(x)
    if g.kind == "orthogonal":
        return q
    triangle = np.triu(random.standard_normal(g.shape), 1) / g.size
    return q @ (triangle + np.eye(g.size) * np.exp(0.25 * random.standard_normal(g.shape)))


def _centred(g: Generator, others: Sequence[Generator]) -> Generator:
    """Carries through weights that may be shifted by a constant bring no constant with them."""
    constant = {
        o.target: o.constant
        for o in others
        if isinstance(o, Shift) and len(o.constant) == 1 and not o.gains and not o.basis
    }
    carries = []
    for c in g.carries:
        if c.weight in constant:
            operands, output = c.equation.split("->")
            letter = operands.split(",")[1][constant[c.weight][0]]
            if letter in output:
                c = replace(c, centre=(output.index(letter),))
        carries.append(c)
    return replace(g, carries=tuple(carries))


def _unlawful(g: Generator, others: Sequence[Generator]) -> str | None:
    """Why a shift would not compose with the other generators."""
    if not isinstance(g, Shift):
        return None
    for o in others:
        for t in terms_on_amount(g, o):
            if t.axis in g.constant and (g.basis or not getattr(o, "centred", False)):
                return f"its constant direction is mixed by {o.name}"
            if t.through or t.under or t.offset:
                return f"what {o.name} makes of it depends on other blocks"
    shifts = {o.target: o for o in others if isinstance(o, Shift)}
    for c in g.carries:
        o = shifts.get(c.weight)
        if o is not None and not c.centre and g.target not in {d.weight for d in o.carries}:
            return f"it reads {c.weight}, which {o.name} shifts"
    return None
