"""Why generators explain fewer directions than leave a function alone: every gap is taken apart by measurement.

Of the null directions at the given parameters that generators do not explain, these are told apart in turn:

``inputs``: gone with more, wider or longer inputs; ``these parameters``: gone at random parameters (units that
are dead or always on); ``epsilon``: those of generators that hold up to an epsilon; ``steps``: null in the
derivative only, as the function jumps or its gradient is stopped (a step along them changes it, and cannot be
mended); ``missing``: spanned by fields ``A p + b`` with ``A`` acting on single axes of blocks, or taking one
block to another, the same at all parameters, that no generator has; ``parameters``: the rest, directions that
depend on the parameters, such as what a layer writes where nobody reads.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments._certificates_fields import everywhere
from wsljax.symmetry.generators.directions import (
    jacobian,
    jacobian_at,
    row_space,
    spanned,
    tangents,
)
from wsljax.symmetry.generators.probe import CannotProbe, Probe

POINTS = 3
STEP, STEPS, KEPT = 0.05, 4, 1e-7


def gap(fn: Any, params: Any, spec: Any, inputs: tuple) -> dict[str, Any]:
    """Explained directions, nullity, and how many of the difference are of which kind."""
    probe = Probe(fn, spec, params, inputs)
    at = probe.given
    rows, null = row_space(jacobian(probe, at), probe.tolerance)
    orbit = tangents(probe, spec, at)
    explained, nullity = spanned(orbit), len(null)
    out: dict[str, Any] = {"explained": explained, "nullity": nullity, "kinds": {}}
    if not probe.exact:
        out["float32"] = True
    left = nullity - explained
    if not left:
        return out

    def take(kind: str, n: int) -> None:
        nonlocal left
        n = max(0, min(left, n))
        left -= n
        if n:
            out["kinds"][kind] = n

    more, wider = with_more_inputs(probe, fn, params, spec, inputs, at)
    take("inputs", nullity - more)
    if left:
        gaps = [generic_gap(wider, spec, k) for k in range(POINTS)]
        take("these parameters", left - min(gaps))
    if left and spec.approximate:
        nearly = dataclasses.replace(spec, generators=tuple(g for g, _ in spec.approximate))
        take("epsilon", spanned(np.concatenate([orbit, tangents(probe, nearly, at)])) - explained)
    if left:
        rest = null - (null @ _basis(orbit).T) @ _basis(orbit)
        rest = np.linalg.svd(rest, full_matrices=False)[2][: nullity - explained]
        out["where"] = moved_most(spec, rest)
        out["step"] = stays(probe, spec, rest)
        if not out["step"] <= KEPT:
            take("steps", left)
    if left:
        found = everywhere(probe, spec, orbit, null)
        out["fields"] = found
        if found is None:
            take("not told apart", left)
        else:
            take("missing", found - explained)
    take("parameters", left)
    return out


def _basis(rows: np.ndarray) -> np.ndarray:
    """Orthonormal rows of the same span."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows[lengths[:, 0] > 1e-12 * np.max(lengths, initial=0)]
    return row_space(rows / np.linalg.norm(rows, axis=1, keepdims=True))[0] if len(rows) else rows


# ---------------------------------------------------------------------------------- other inputs, other points
def with_more_inputs(probe, fn, params, spec, inputs, at) -> tuple[int, Probe]:
    """The nullity at the same parameters over more and wider inputs, and longer ones where the function
    takes them; and the probe of that."""
    best, chosen = probe, probe
    parts = [jacobian(probe, at), _wide(probe, at)]
    nullity = len(row_space(np.concatenate(parts), probe.tolerance)[1])
    for longer in _longer(inputs):
        try:
            other = Probe(fn, spec, params, longer)
            other.draw(0)
            found = len(
                row_space(np.concatenate([*parts, jacobian(other, at)]), probe.tolerance)[1]
            )
        except (CannotProbe, ValueError, TypeError):
            continue
        if found < nullity:
            nullity, chosen = found, other
    return nullity, chosen if chosen is not best else best


def _wide(probe: Probe, at) -> np.ndarray:
    """As many rows again, over inputs that lie further away."""
    n = int(np.ceil(3 * sum(x.size for x in at) / len(probe.draw(0)[2]))) + 2
    return np.concatenate(
        [jacobian_at(probe, at, probe.inputs_at(k, at, 30.0)) for k in range(n, 2 * n)]
    )


def _longer(inputs: tuple):
    """The inputs with one of their axis lengths doubled, wherever it stands."""
    leaves, tree = jax.tree.flatten(inputs)
    lengths = {n for x in leaves for n in np.shape(x) if hasattr(x, "dtype")}
    for n in sorted(lengths):
        for rank in {np.ndim(x) for x in leaves}:
            for axis in range(rank):
                new = [
                    np.concatenate([np.asarray(x)] * 2, axis)
                    if np.ndim(x) == rank and np.shape(x)[axis] == n and _plain(x)
                    else x
                    for x in leaves
                ]
                if any(np.shape(a) != np.shape(b) for a, b in zip(new, leaves)):
                    yield tree.unflatten(new)


def _plain(x: Any) -> bool:
    return hasattr(x, "dtype") and not jax.numpy.issubdtype(x.dtype, jax.dtypes.extended)


def generic_gap(probe: Probe, spec, k: int) -> int:
    """Null directions that generators do not explain, at the ``k``-th random parameters."""
    leaves = probe.draw(k)[0]
    return len(row_space(jacobian(probe, leaves), probe.tolerance)[1]) - spanned(
        tangents(probe, spec, leaves)
    )


# ---------------------------------------------------------------------------------- finite steps
def moved_most(spec, rest: np.ndarray) -> list[str]:
    """The leaves in which these directions lie, with their share of them."""
    start, out = 0, []
    for leaf in spec.leaves:
        size = int(np.prod(leaf.shape))
        share = float(np.sum(rest[:, start : start + size] ** 2) / len(rest))
        out.append((share, leaf.path))
        start += size
    return [f"{path} {share:.0%}" for share, path in sorted(out, reverse=True)[:4] if share > 0.01]


def stays(probe: Probe, spec, rest: np.ndarray) -> float:
    """Steps along a random one of these directions, each mended by Newton's method: how far the outputs are
    then from where they were, on other inputs, relative to their spread."""
    at = np.concatenate([x.ravel() for x in probe.given])
    shapes = np.cumsum([x.size for x in probe.given])[:-1]

    def leaves(v):
        return [p.reshape(x.shape) for p, x in zip(np.split(v, shapes), probe.given)]

    few = int(np.ceil(3 * len(at) / len(probe.draw(0)[2]))) + 2
    seen = [probe.inputs_at(k) for k in range(few)]
    fresh = [probe.inputs_at(k) for k in range(few, few + 3)]

    def outputs(v, many):
        return np.concatenate([probe.evaluate([leaves(v)], x)[0] for x in many])

    random = np.random.default_rng(7)
    way = random.standard_normal(len(rest)) @ rest
    wanted, unseen, v = outputs(at, seen), outputs(at, fresh), at
    for _ in range(STEPS):
        way = way / np.linalg.norm(way)
        v = v + STEP * np.linalg.norm(at) * way
        for _ in range(4):
            error = outputs(v, seen) - wanted
            if np.max(np.abs(error)) <= 1e-11 * (np.std(wanted) or 1.0):
                break
            slope = jacobian(probe, leaves(v), few)
            v = v - np.linalg.lstsq(slope, error, rcond=1e-9)[0]
        null = row_space(jacobian(probe, leaves(v), few), probe.tolerance)[1]
        way = (null @ way) @ null
        if not np.linalg.norm(way) > 1e-6:
            break
    return probe.apart(outputs(v, fresh), unseen)
