"""Weights as they are, brought to one size: a tree of normalised arrays.

The mean and the deviation are the same for all units that may be exchanged, so that normalising commutes
with permutations: an equivariant denoiser in this space is an equivariant generator. Weights that may change
their sign, or be turned, are normalised about zero, so that it commutes with that too. Quantities that must
stay positive (the variances of a BatchNorm) are generated as logarithms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...symmetry import Linear, Orthogonal, Sign, Spec
from ...symmetry.layout import decompose, recompose
from ...zoo.preprocessing.layers import arrays_by_path
from ...zoo.preprocessing.normalise import Normaliser
from .leaves import (
    Dtypes,
    dtypes_of,
    join,
    map_paths,
    shapes,
    split,
    unpack,
    widened,
    with_dtypes,
)
from .restrict import restrict
from .space import Space

FLOOR = 1e-5
"""What is added to a variance under the root of a BatchNorm, where the spec does not say."""

_VARIANCE = re.compile(r"(^|[._/])(running_)?var(iance)?$", re.IGNORECASE)


class WeightSpace(Space):
    """Normalised weights, a tree of the structure of the network.

    Commutes with permutations and signs: ``encode(spec.act(g, p)) == act(g, encode(p))`` for the space's
    own ``spec``, which is that of the floating leaves.

    Attributes:
        normaliser: of the floating leaves, logarithms taken.
        logarithms: pairs of a path and what is added to the leaf before its logarithm is taken.
        others: what is carried along, of the first training network.
        spec: of a tree in this space, or None.

    Example:
        >>> stack = {"w": jnp.array([[1.0, 3.0], [5.0, 7.0]]), "var": jnp.array([[1.0], [100.0]])}
        >>> space = WeightSpace.fit(stack)
        >>> space.logarithms
        (('var', 1e-05),)
        >>> x = space.encode({"w": jnp.array([1.0, 3.0]), "var": jnp.array([100.0])})
        >>> [round(float(v), 2) for v in (*x["w"], *x["var"], *space.decode(x)["var"])]
        [-1.34, -0.45, 1.0, 100.0]
    """

    like: Any
    normaliser: Normaliser
    others: Any
    logarithms: tuple[tuple[str, float], ...] = eqx.field(static=True)
    dtypes: Dtypes = eqx.field(static=True)
    spec: Spec | None = eqx.field(static=True, default=None)

    @staticmethod
    def fit(
        networks: Any,
        *,
        spec: Spec | None = None,
        kind: str | None = None,
        positive: Mapping[str, float] | Sequence[str] | None = None,
    ) -> WeightSpace:
        """Take statistics over training networks.

        Args:
            networks: a ``Population`` or a tree of arrays ``(models, ...)``: training networks alone.
            spec: the symmetry of one network; by default that of the population.
            kind: what one mean and one deviation are taken over, a kind of ``zoo.Normaliser``; by default
                ``"block"`` with a spec and ``"leaf"`` without, which commute with permutations.
            positive: paths of leaves that must stay positive, or ``{path: offset}`` with what is added
                before the logarithm is taken. By default those that the spec says are used with an
                offset (as ``variance + epsilon``), and those called a variance, if no training network
                has a negative entry there.

        Raises:
            ValueError: an unknown kind or path, negative entries where they must be positive, or networks
                that hold NaN.
        """
        stack, one, spec = unpack(networks, spec)
        floating, others = split(one)
        stack = split(stack)[0]
        arrays = arrays_by_path(stack)
        logarithms = tuple(sorted(_positive(arrays, spec, positive).items()))
        if spec is not None:
            spec = restrict(spec, one, list(arrays))
        kind = ("leaf" if spec is None else "block") if kind is None else kind
        normaliser = Normaliser.fit(_logs(widened(stack), logarithms), kind, spec)
        if spec is not None:
            normaliser = about_zero(normaliser, spec)
        like = shapes(widened(floating))
        return WeightSpace(like, normaliser, others, logarithms, dtypes_of(floating), spec)

    def encode(self, params: Any) -> Any:
        """The normalised floating leaves of one network, in at least float32."""
        floating = split(params)[0]
        return self.normaliser.forward(_logs(widened(floating), self.logarithms))

    def decode(self, x: Any) -> Any:
        """One network: the inverse of :meth:`encode`, up to rounding, in the dtypes of the training networks."""
        floors = dict(self.logarithms)

        def back(path, leaf):
            if path not in floors:
                return leaf
            return jnp.maximum(jnp.exp(leaf) - jnp.asarray(floors[path], leaf.dtype), 0)

        floating = map_paths(back, self.normaliser.backward(x))
        return join(with_dtypes(floating, self.dtypes), self.others)


def about_zero(normaliser: Normaliser, spec: Spec) -> Normaliser:
    """The same with a mean of zero for blocks that a sign or a rotation acts on."""
    turned = {
        t.block
        for gen in spec.generators
        if isinstance(gen, (Sign, Orthogonal, Linear))
        for t in gen.terms
    }
    if not turned:
        return normaliser
    shapes_of = {leaf.path: leaf.shape for leaf in spec.leaves}
    trees = {leaf.path: leaf.trees for leaf in spec.leaves}
    mean, deviation = dict(normaliser.mean), dict(normaliser.deviation)
    for path in {b.path for b in spec.layout if b.name in turned}:
        m, d = (jnp.broadcast_to(x, shapes_of[path]) for x in (mean[path], deviation[path]))
        names = [b.name for b in spec.layout if b.path == path]
        pieces = [decompose(x, trees[path]) for x in (m, d)]
        for k, name in enumerate(names):
            if name in turned:
                pieces[1][k] = jnp.sqrt(pieces[0][k] ** 2 + pieces[1][k] ** 2)
                pieces[0][k] = jnp.zeros_like(pieces[0][k])
        mean[path], deviation[path] = (recompose(x, trees[path]) for x in pieces)
    return replace(normaliser, mean=mean, deviation=deviation)


def _logs(floating: Any, logarithms: tuple[tuple[str, float], ...]) -> Any:
    floors = dict(logarithms)

    def logarithm(path, x):
        return jnp.log(x + jnp.asarray(floors[path], x.dtype)) if path in floors else x

    return map_paths(logarithm, floating) if floors else floating


def _positive(arrays: Mapping[str, Any], spec: Spec | None, asked: Any) -> dict[str, float]:
    """``{path: offset}`` of the leaves of which logarithms are taken."""
    offsets: dict[str, float] = {}
    if spec is not None:
        path_of = {b.name: b.path for b in spec.layout}
        terms = [t for gen in spec.generators for t in gen.terms if t.offset > 0]
        offsets = {path_of[t.block]: float(t.offset) for t in terms}
    if asked is None:
        found = {
            path: offsets.get(path, FLOOR)
            for path in arrays
            if path in offsets or _VARIANCE.search(path)
        }
        return {
            path: v for path, v in found.items() if np.asarray(arrays[path]).min(initial=1) >= 0
        }
    found = dict(asked) if isinstance(asked, Mapping) else {p: offsets.get(p, FLOOR) for p in asked}
    for path, offset in found.items():
        if path not in arrays:
            raise ValueError(
                f"`positive`: there is no leaf {path!r}; there are {sorted(arrays)[:20]}"
            )
        smallest = float(np.asarray(arrays[path], np.float64).min(initial=np.inf))
        if smallest + offset <= 0:
            raise ValueError(
                f"`positive`: {path!r} has an entry {smallest:.3g}, of which no logarithm can be taken "
                f"with the offset {offset:g}"
            )
    return {path: float(offset) for path, offset in found.items()}
