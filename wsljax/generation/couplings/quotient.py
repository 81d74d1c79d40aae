"""Optimal transport between networks up to symmetry: the target is aligned to its source before pairing.

The distance between a source and a network is the smallest to any network that an exchange of units (or a change
of their signs) makes of it,

    ``cost(x0, x1) = min_g || x0 - g x1 ||^2``,

the sources of a batch are assigned by these costs, and each flow leads to the network that was found. As
exchanges move no distances, and sources are drawn alike in all orders of the units, the flow still ends in the
distribution of the networks, each in some order of its units. Acting on the targets by any element leaves
the costs as they are, where alignment finds the optimum (with one set of units it does; with more it
is a local one). Scalings are left alone: they move distances (balance them, or use spheres).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry import Spec
from ...understanding.matching import linear_assignment, weight_matching
from ..spaces.space import Space
from .cost import in_groups, take
from .independent import Independent


class QuotientTransport(eqx.Module):
    """Minibatch optimal transport by distances up to symmetry.

    Every target is aligned to every source, in one program: the square of the batch in alignments. ``size``
    keeps that down; :class:`Aligned` needs one alignment for each target.

    Attributes:
        spec: the symmetry of what is coupled (the ``spec`` of a :class:`.WeightSpace`, say).
        space: if what is coupled are no trees that the spec describes, the space by which they were made of
            such: a :class:`.FlatSpace`, or another that keeps distances.
        size: how many are assigned at a time; by default the whole batch.
        signs: whether units may change their sign.
        sweeps: visits of all units in one alignment, at most.

    Example:
        >>> from wsljax import symmetry
        >>> from wsljax.generation.couplings import transport_cost
        >>> like = {"w": jnp.zeros((3, 5)), "v": jnp.zeros((5, 2))}
        >>> spec = symmetry.parse(like, {"w": "_ h", "v": "h _"})
        >>> draw = jax.vmap(lambda k: jax.tree.map(lambda x: jax.random.normal(k, x.shape), like))
        >>> sources, targets = (draw(jax.random.split(jax.random.key(s), 4)) for s in (0, 1))
        >>> x0, x1 = QuotientTransport(spec)(sources, targets, key=jax.random.key(2))
        >>> bool(transport_cost(x0, x1) < transport_cost(sources, targets))
        True
    """

    spec: Spec = eqx.field(static=True)
    space: Space | None = None
    size: int | None = eqx.field(static=True, default=None)
    signs: bool = eqx.field(static=True, default=True)
    sweeps: int = eqx.field(static=True, default=10)

    def __call__(self, sources: Any, targets: Any, *, key: jax.Array) -> tuple[Any, Any]:
        """See the class; targets keep their places, but for their units.

        Raises:
            ValueError: pieces of this size do not make up the batch, or trees that do not match the spec.
        """

        def paired(x0, x1):
            y0, y1 = _trees(self.space, x0), _trees(self.space, x1)

            def moved(target, source):
                return _aligned(self, source, target, key)

            gains, elements = jax.vmap(jax.vmap(moved, (None, 0)), (0, None))(y1, y0)
            columns = linear_assignment(jnp.nan_to_num(gains), maximise=True)
            chosen = jax.tree.map(lambda x: x[jnp.arange(len(columns)), columns], elements)
            return take(x0, columns), _moved(self, chosen, x1, y1)

        return in_groups(paired, self.size, sources, targets)


class Aligned(eqx.Module):
    """Another coupling, after which each target is aligned to its source: one alignment for each target.

    Never longer ways than those of ``coupling``; longer than those of :class:`QuotientTransport`.

    Attributes:
        spec, space, signs, sweeps: as in :class:`QuotientTransport`.
        coupling: by default :class:`.Independent`.
    """

    spec: Spec = eqx.field(static=True)
    coupling: Any = Independent()
    space: Space | None = None
    signs: bool = eqx.field(static=True, default=True)
    sweeps: int = eqx.field(static=True, default=10)

    def __call__(self, sources: Any, targets: Any, *, key: jax.Array) -> tuple[Any, Any]:
        """See the class."""
        sources, targets = self.coupling(sources, targets, key=key)
        y0, y1 = _trees(self.space, sources), _trees(self.space, targets)
        _, elements = jax.vmap(lambda a, b: _aligned(self, a, b, key))(y0, y1)
        return sources, _moved(self, elements, targets, y1)


def _trees(space: Space | None, x: Any) -> Any:
    return x if space is None else jax.vmap(space.decode)(x)


def _moved(coupling: Any, elements: Any, x: Any, trees: Any) -> Any:
    found = jax.vmap(coupling.spec.act)(elements, trees)
    if coupling.space is not None:
        found = jax.vmap(coupling.space.encode)(found)
    return jax.tree.map(lambda old, new: new.astype(old.dtype), x, found)


def _aligned(coupling: Any, source: Any, target: Any, key: jax.Array) -> tuple[jax.Array, Any]:
    """The inner product after alignment, never less than before, and the element."""
    spec: Spec = coupling.spec
    kinds = ("permutation", "sign") if coupling.signs else ("permutation",)
    found = weight_matching(
        source, target, spec, key=key, kinds=kinds, sweeps=coupling.sweeps, refine=0
    ).element
    before, after = _inner(source, target), _inner(source, spec.act(found, target))
    still = {name: spec.identity()[name].astype(x.dtype) for name, x in found.items()}
    better = after >= before
    element = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, still)
    return jnp.maximum(after, before), element


def _inner(x: Any, y: Any) -> jax.Array:
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    parts = [jnp.sum(a * b) for a, b in pairs]
    return sum(parts[1:], parts[0])
