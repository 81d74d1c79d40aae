"""Stacks of arrays that are used alike: cut, put together again, without one operation a member.

A stack has its members along the first axis. :func:`assemble` builds new stacks out of members of old
ones. Neighbours that stay neighbours move as one run, so that regrouping the features of a network
takes as many operations as it has different parts, not as many as it has layers. Stacks are cut by
``lax.split``, whose gradient is one concatenation; a slice for each run would sum as many paddings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cell(NamedTuple):
    """Member ``member`` of the stack ``stack``, its axes (but the last) to be put in the order ``axes``."""

    stack: Hashable
    member: int
    axes: tuple[int, ...] = ()


class Run(NamedTuple):
    """Members ``start`` to ``stop`` of a stack, all with their axes in the order ``axes``."""

    stack: Hashable
    start: int
    stop: int
    axes: tuple[int, ...]


def assemble(
    stacks: Mapping[Hashable, jax.Array], wanted: Sequence[Sequence[Cell]]
) -> list[jax.Array]:
    """New stacks, each of the given cells in order; no cell may be used twice.

    Args:
        stacks: arrays ``(members, *axes, C)``.
        wanted: the cells of each new stack; their shapes must agree once axes are in order.

    Example:
        >>> stacks = {"x": jnp.arange(6.0).reshape(3, 2), "y": jnp.zeros((1, 2))}
        >>> a, b = assemble(stacks, [[Cell("x", 2), Cell("y", 0)], [Cell("x", 0), Cell("x", 1)]])
        >>> a.tolist(), b.tolist()
        ([[4.0, 5.0], [0.0, 0.0]], [[0.0, 1.0], [2.0, 3.0]])
    """
    runs = [_runs(cells) for cells in wanted]
    edges: dict[Hashable, set[int]] = defaultdict(set)
    for run in (run for found in runs for run in found):
        edges[run.stack] |= {run.start, run.stop}
    pieces: dict[tuple[Hashable, int], jax.Array] = {}
    for name, places in edges.items():
        stops = sorted(places - {0, stacks[name].shape[0]})
        for start, piece in zip([0, *stops], split(stacks[name], stops, 0), strict=True):
            pieces[name, start] = piece
    out = []
    for found in runs:
        parts = [_in_order(pieces[run.stack, run.start], run.axes) for run in found]
        out.append(parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=0))
    return out


def _runs(cells: Iterable[Cell]) -> list[Run]:
    runs: list[Run] = []
    for cell in cells:
        last = runs[-1] if runs else None
        if last and (last.stack, last.stop, last.axes) == (cell.stack, cell.member, cell.axes):
            runs[-1] = last._replace(stop=cell.member + 1)
        else:
            runs.append(Run(cell.stack, cell.member, cell.member + 1, cell.axes))
    return runs


def _in_order(stack: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    if axes == tuple(range(len(axes))):
        return stack
    return stack.transpose(0, *(1 + k for k in axes), stack.ndim - 1)


def split(x: jax.Array, stops: Sequence[int], axis: int) -> list[jax.Array]:
    """``x`` cut at the given places along one axis."""
    if len(stops) == 0:
        return [x]
    edges = [0, *stops, x.shape[axis]]
    sizes = tuple(b - a for a, b in zip(edges[:-1], edges[1:], strict=True))
    return list(jax.lax.split(x, sizes, axis=axis % x.ndim))


def unstack(x: jax.Array) -> list[jax.Array]:
    """The members of a stack, one by one."""
    return [piece[0] for piece in split(x, range(1, x.shape[0]), 0)]
