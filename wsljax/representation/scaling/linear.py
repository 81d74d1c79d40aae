"""Every linear map that commutes with permutations, scales and signs.

Of the basis of permutation-equivariant maps (:mod:`..universal.basis`) those remain whose charges agree:
what is averaged away or spread must not be moved, and what is kept must be moved alike on both sides.
For positive scales these are the maps of net exponent zero, for signs those of even exponent; see Tran
et al., *Monomial Matrix Group Equivariant Neural Functional Networks*, 2024, section 4.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from math import prod, sqrt

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import index_axes, pattern, structure
from ..blocks.stacks import Cell, assemble
from ..blocks.ties import Tie
from ..universal.basis import Basis, Role, alive, basis
from ..universal.initial import initial_weights, normals
from ..universal.linear import universal_linear
from .pieces import pieces

TiedCharge = frozenset[tuple[str, tuple[int, ...], float]]
"""Generators, the positions in an index type where each acts, and exponents."""


@lru_cache(maxsize=64)
def charged_basis(spec: Spec) -> Basis:
    """The factored basis of linear maps between pieces that commute with the whole group.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.scaling.pieces import with_generators
        >>> spec = symmetry.parse({"w": jnp.zeros((2, 4)), "b": jnp.zeros(4)}, {"w": "_ h", "b": "h"})
        >>> flip = symmetry.Sign("e", "h", (symmetry.Term("w", 1), symmetry.Term("b", 0)), 4)
        >>> count_charged_terms(spec), count_charged_terms(with_generators(spec, [flip]))
        (18, 9)
    """
    own = pieces(spec)
    blocks = structure(own.spec)
    layout = {b.name: b for b in own.spec.layout}
    moves = {p.name: p.moves for p in own.members}
    factors = []
    for indices in blocks:
        axes = index_axes(own.spec, layout[indices.name])
        factors.append(
            [
                (m.generator, tuple(axes.index(k) for k in m.where), m.exponent, m.sign)
                for m in moves[indices.name]
            ]
        )

    def charge(block: int, tie: Tie, kept: tuple[int, ...]) -> TiedCharge | None:
        """How a reduction moves; None if what it averages away is moved."""
        total: dict[tuple[str, tuple[int, ...]], float] = defaultdict(float)
        for generator, where, exponent, sign in factors[block]:
            at = generator, tuple(tie[i] for i in where)
            total[at] = (total[at] + exponent) % 2 if sign else total[at] + exponent
        left = {at: e for at, e in total.items() if e}
        if any(i not in kept for _, where in left for i in where):
            return None
        return frozenset((g, tuple(kept.index(i) for i in at), e) for (g, at), e in left.items())

    found = basis(blocks, blocks)
    types = []
    for kind in found.types:
        sides: list[dict] = [defaultdict(list), defaultdict(list)]
        for side, terms in zip(sides, (kind.reads, kind.writes), strict=True):
            for term in terms:
                side[charge(term.block, term.tie, term.kept)].append(term)
        reads, writes = sides
        for c in reads:
            if c is not None and c in writes:
                types.append(replace(kind, reads=tuple(reads[c]), writes=tuple(writes[c])))
    if types == list(found.types):
        return found
    members: dict[str, list[int]] = defaultdict(list)
    for t, kind in enumerate(types):
        name = pattern(kind.labels, [above for _, above in kind.key]) or "1"
        members[f"{name}: {len(kind.reads)}x{len(kind.writes)}"].append(t)
    roles = tuple(
        Role(name, tuple(ts), len(types[ts[0]].reads), len(types[ts[0]].writes))
        for name, ts in members.items()
    )
    return Basis(blocks, blocks, tuple(types), roles)


def count_charged_terms(spec: Spec, fixed: bool = True) -> int:
    """The number of independent linear maps that commute with permutations, scales and signs.

    Args:
        spec: annotation with generators.
        fixed: count each coordinate of fixed axes by itself, as the embedding has them; else one.
    """
    own = pieces(spec)
    layout = {b.name: b for b in own.spec.layout}
    found = charged_basis(spec)
    count = []
    for indices in found.inputs:
        block = layout[indices.name]
        axes = index_axes(own.spec, block)
        rest = [n for k, n in enumerate(block.shape) if k not in axes]
        count.append(prod(rest) if fixed else 1)
    labels = {a for i in found.inputs for a in i.labels}
    widths = {a: own.spec.size_of(a) for a in labels}
    total = 0
    for kind in found.types:
        ok = alive(found, kind, widths)
        for p, r in enumerate(kind.reads):
            for q, w in enumerate(kind.writes):
                if ok is None or ok[p, q]:
                    total += count[r.block] * count[w.block]
    return total


class MonomialLinear(eqx.Module):
    """All linear maps that commute with permutations, scales and signs, with the biases that do.

    Acts on features of the pieces of a spec, in raw coordinates or canonical ones (it commutes with
    the norms that take one to the other).

    Attributes:
        weights, bias: as of :class:`~..universal.linear.UniversalLinear`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "v": jnp.ones((5, 2))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "v": "h _"})
        >>> layer = MonomialLinear(spec, 4, 8, key=jax.random.key(0))
        >>> x = Features.of(structure(spec), {"w": jnp.ones((5, 4)), "v": jnp.ones((5, 4))})
        >>> layer(x).channels
        8
    """

    weights: dict[str, jax.Array]
    bias: jax.Array | None
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array,
        use_bias: bool = True,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        self.spec = spec
        found = charged_basis(spec)
        if found is basis(found.inputs, found.outputs):
            self.weights = initial_weights(found, c_in, c_out, key=key, dtype=dtype)
        else:
            shapes = tuple((len(r.members), r.reads * c_in, r.writes * c_out) for r in found.roles)
            draws = normals(key, shapes, dtype)
            self.weights = {
                r.name: w / jnp.asarray(sqrt(w.shape[1]), dtype)
                for r, w in zip(found.roles, draws, strict=True)
            }
        has_bias = use_bias and found.constants
        self.bias = jnp.zeros(found.constants * c_out, dtype) if has_bias else None

    def __call__(self, x: Features) -> Features:
        """Features with ``c_in`` channels to features with ``c_out``, of any widths."""
        y = universal_linear(charged_basis(self.spec), self.weights, self.bias, x)
        if y.groups == x.groups:
            return y
        place = {b: (g, n) for g, members in enumerate(y.groups) for n, b in enumerate(members)}
        wanted = [
            [Cell(*place[b], tuple(range(a.ndim - 2))) for b in members]
            for a, members in zip(x.arrays, x.groups, strict=True)
        ]
        arrays = assemble(dict(enumerate(y.arrays)), wanted)
        return Features(tuple(arrays), x.structure, x.groups)
