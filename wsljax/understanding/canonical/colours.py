"""Colours: one number for each unit, that depends on what surrounds it and not on where it stands.

Source: colour refinement (B. Weisfeiler, A. Leman, 1968), with real numbers for colours. In each round a unit
gathers a sum over all entries of all blocks that have it, each entry hashed (a cosine) together with the
colours of the other units it joins, and with a number of its own for each fixed coordinate (inputs, outputs,
kernel places). Exchanging units exchanges their colours; nested units (``m[head]``) have one colour for each
index of their parents, and give to and take from these.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping

import numpy as np

from wsljax.symmetry import Spec
from wsljax.symmetry.layout import spread

Colours = dict[str, np.ndarray]
ROUNDS, FLAT = 6, 1e-9


def plain_colours(spec: Spec) -> Colours:
    """All units alike."""
    return {u.name: np.zeros((*[spec.size_of(o) for o in u.over], u.size)) for u in spec.units}


def refine(
    spec: Spec,
    blocks: Mapping[str, np.ndarray],
    colours: Colours,
    *,
    unsigned: Collection[str] = (),
    without: Collection[str] = (),
    floor: float = 1e-9,
    seed: int = 0,
) -> Colours:
    """Colours after some rounds, starting from ``colours``.

    Args:
        spec: the spec.
        blocks: weights.
        colours: to start from; see :func:`plain_colours`.
        unsigned: blocks of which only sizes are looked at.
        without: blocks that are left out.
        floor: blocks smaller than this, relative to the largest, count as zero.
        seed: of the hash.
    """
    units = {u.name for u in spec.units}
    layout = [b for b in spec.layout if b.name not in without and units & set(b.axes)]
    sizes = block_sizes(blocks, floor)
    values = {}
    for b in layout:
        x = np.abs(blocks[b.name]) if b.name in unsigned else blocks[b.name]
        values[b.name] = x / sizes[b.name] if sizes[b.name] else np.zeros_like(x)
    for step in range(ROUNDS):
        gathered = {n: 0.3 * c for n, c in colours.items()}
        for b in layout:
            base = _numbers(f"{seed} {step} {b.name}", 2 + 2 * len(b.axes))
            phase = (1.0 + 0.5 * base[0]) * values[b.name] + base[1]
            for k, name in enumerate(b.axes):
                if name in units:
                    where = (*b.parents[k], k)
                    phase = phase + (0.8 + 0.1 * base[2 + k]) * spread(
                        colours[name], where, phase.ndim
                    )
                else:
                    own = 2 * _numbers(f"{b.name} {k}", b.shape[k])
                    phase = phase + spread(own, (k,), phase.ndim)
            for k, name in enumerate(b.axes):
                if name in units:
                    where = (*b.parents[k], k)
                    hashed = np.cos(phase + 3 * base[2 + len(b.axes) + k])
                    gathered[name] = gathered[name] + _gather(hashed, where)
                    twins = [m for m in range(len(b.axes)) if b.axes[m] == name and m > k]
                    if twins and not b.parents[k]:  # the entry that joins a unit with itself
                        own = np.cos(np.diagonal(phase, axis1=k, axis2=twins[0]) + base[0])
                        gathered[name] = gathered[name] + _gather(own, (own.ndim - 1,))
        colours = {n: _standard(c) for n, c in gathered.items()}
    return colours


def block_sizes(blocks: Mapping[str, np.ndarray], floor: float) -> dict[str, float]:
    """Root mean squares; zero for blocks that are zero but for rounding."""
    sizes = {n: float(np.sqrt(np.mean(x**2))) if x.size else 0.0 for n, x in blocks.items()}
    least = floor * max(sizes.values(), default=0.0)
    return {n: s if s > least else 0.0 for n, s in sizes.items()}


def hashed_weights(spec: Spec, axes, parents, shape, skip: int, colours: Colours, seed: str):
    """A number for each entry of a block, from the colours of its units but those on the axis ``skip``."""
    units = {u.name for u in spec.units}
    out = np.ones((1,) * len(axes))
    base = _numbers(seed, 2 * len(axes))
    for k, name in enumerate(axes):
        if k == skip:
            continue
        if name in units:
            own = np.cos(1.7 * colours[name] + 3 * base[2 * k]) + 0.5 * base[2 * k + 1]
            out = out * spread(own, (*parents[k], k), len(axes))
        else:
            out = out * spread(_numbers(f"{seed} {k}", shape[k]), (k,), len(axes))
    return out


def _gather(x: np.ndarray, where: tuple[int, ...]) -> np.ndarray:
    rest = tuple(k for k in range(x.ndim) if k not in where)
    count = max(int(np.prod([x.shape[k] for k in rest], dtype=int)), 1)
    kept = sorted(where)
    return x.sum(rest).transpose([kept.index(k) for k in where]) / np.sqrt(count)


def _standard(c: np.ndarray) -> np.ndarray:
    """Mean zero and deviation one, over all copies; alike stays alike."""
    c = c - c.mean()
    deviation = c.std()
    return c / deviation if deviation > FLAT else np.zeros_like(c)


def _numbers(text: str, n: int) -> np.ndarray:
    """Fixed normal numbers for a name."""
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=n)
