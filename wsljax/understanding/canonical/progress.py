"""A network on its way to the canonical form: weights so far, the element that led there, and notes.

All of it in float64 and on the host: keys are sorted and ranks decided by value.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from wsljax._compat import enable_x64, is_tracer
from wsljax.symmetry import Generator, Spec, Term
from wsljax.symmetry.layout import spread


@partial(jax.jit, static_argnums=0)
def _act(spec: Spec, element, params):
    return spec.act(element, params)


@partial(jax.jit, static_argnums=0)
def _compose(spec: Spec, second, first):
    return spec.compose(second, first)


class Progress:
    """``spec.act(element, given) == params`` at all times.

    Attributes:
        spec: the spec.
        params: the weights so far, float64.
        element: what led here.
        notes: what could not be fixed, in words.
        fixed: names of generators that are done with.
        roundings: relative precision of the weights as they were given.
    """

    def __init__(self, params: Any, spec: Spec):
        leaves = spec.flatten(params)
        if any(is_tracer(x) for x in leaves):
            raise ValueError(
                "canonical forms are made on the host, from values: call outside of jit and vmap"
            )
        kinds = [x.dtype for x in map(np.asarray, leaves)]
        self.roundings = max((float(jax.numpy.finfo(k).eps) for k in kinds), default=1e-16)
        treedef = jax.tree_util.tree_structure(params)
        wide = [np.asarray(x, np.float64) for x in leaves]
        for leaf, x in zip(spec.leaves, wide, strict=True):
            if not np.all(np.isfinite(x)):
                raise ValueError(
                    f"{leaf.path!r} has NaN or infinite weights; nothing can be ordered"
                )
        self.spec = spec
        with enable_x64():
            self.params = jax.tree.map(jax.numpy.asarray, treedef.unflatten(wide))
            self._neutral = spec.identity()
        self.element = dict(self._neutral)
        self.notes: list[str] = []
        self.fixed: set[str] = set()
        self._blocks: dict[str, np.ndarray] | None = None

    @property
    def blocks(self) -> dict[str, np.ndarray]:
        """The blocks of the weights so far."""
        if self._blocks is None:
            with enable_x64():
                found = self.spec.blocks(self.params)
            self._blocks = {n: np.asarray(x) for n, x in found.items()}
        return self._blocks

    def moved(self, element: Mapping[str, Any]) -> Any:
        """The weights so far, moved by an element (or a part of one)."""
        with enable_x64():
            return _act(self.spec, self._full(element), self.params)

    def apply(self, element: Mapping[str, Any]) -> None:
        """Move the weights."""
        with enable_x64():
            full = self._full(element)
            self.params = _act(self.spec, full, self.params)
            self.element = _compose(self.spec, full, self.element)
        self._blocks = None

    def _full(self, element: Mapping[str, Any]) -> dict[str, Any]:
        return {
            n: jax.numpy.asarray(np.asarray(element[n], x.dtype)) if n in element else x
            for n, x in self._neutral.items()
        }

    def copy(self) -> Progress:
        """Another one, from here on."""
        other = copy.copy(self)
        other.element, other.notes, other.fixed = dict(self.element), [*self.notes], {*self.fixed}
        return other

    @property
    def floor(self) -> float:
        """What is smaller than this, relative to the rest, is rounding."""
        return max(1e-9, 30 * self.roundings)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def rows(gen: Generator, term: Term, blocks: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a term moves, as ``(*over, entries, coordinates)``; gains in front of it multiplied in."""
    x = through_gains(gen, term, blocks)
    where = term.where
    x = x[term.slices(x.ndim)]
    rest = [k for k in range(x.ndim) if k not in where]
    x = x.transpose([*where[:-1], *rest, where[-1]])
    copies = x.shape[: len(where) - 1]
    return x.reshape(*copies, -1, x.shape[-1])


def through_gains(gen: Generator, term: Term, blocks: Mapping[str, np.ndarray]) -> np.ndarray:
    """A block times the gains, and over the divisors, through which a term acts on it."""
    x = blocks[term.block]
    for name in term.through:
        x = x * spread(blocks[name], term.gains_at, x.ndim)
    for name in term.under:
        x = x / spread(blocks[name], term.gains_at, x.ndim)
    return x
