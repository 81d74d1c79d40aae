"""Path norms: how large a unit is, in a way that scales exactly as the unit does.

For each unit the root mean square of what comes in, ``n_i^2 = b_i^2 + mean_j w_ij^2 n_j^2`` (``n = 1`` at
inputs; after Neyshabur et al., *Path-SGD*, 2015), is multiplied by ``s`` when the unit is. Weights
divided by such norms, ``w_ij n_j / n_i``, no scale moves: they are the *canonical* weights. A network
of canonical weights is invariant to scales, and multiplied by norms again its answers move as weights
do. In this sense a layer between canonical features is a layer between raw ones:
``x -> n * layer(x / n)``. Where a message goes backwards, it is multiplied by the canonical weight too,
which in raw coordinates is ``w_ij (n_j / n_i)^2``: it moves as ``1 / w_ij`` does, and is smooth and
bounded where that is not.

A unit of norm zero is dead: nothing reaches it. Its canonical weights are zeros, on the way in and on
the way out, so that they too are invariant, and nothing is divided by zero.

Several scales of one set of units (before and after a BatchNorm) are told apart by solving the small
linear system of their exponents; exponents may be any numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.layout import spread
from ...symmetry.spec import Spec
from ..blocks.dtypes import wide
from .pieces import Piece, Pieces, pieces

Exponents = tuple[float, ...]
"""One for each generator of a family."""


@dataclass(frozen=True)
class Family:
    """The scales of one set of units, and what their norms are computed from.

    Attributes:
        generators: their names.
        rows: combinations of exponents, and the places ``(piece, axes)`` that are moved by just these.
        solution: what :func:`numpy.linalg.pinv` says of the rows: exponents times it are those of norms.
    """

    generators: tuple[str, ...]
    rows: tuple[tuple[Exponents, tuple[tuple[str, tuple[int, ...]], ...]], ...]
    solution: tuple[tuple[float, ...], ...]

    def powers(self, exponents: Exponents) -> Exponents:
        """The powers of the norms that move by the given exponents."""
        found = np.asarray(exponents) @ np.asarray(self.solution)
        return tuple(float(round(x, 9)) for x in found)


Place = tuple[int, tuple[int, ...], Exponents]
"""A family, the axes of a piece where it acts, and with what exponents."""


@lru_cache(maxsize=64)
def families(spec: Spec) -> tuple[tuple[Family, ...], dict[str, tuple[Place, ...]]]:
    """The scales of a spec in an order in which their norms can be computed, and where they act.

    Raises:
        ValueError: if the norms of some scales depend on each other in a circle.
    """
    own = pieces(spec)
    labels = {b.name: b.axes for b in own.spec.layout}
    groups: dict[tuple[str, ...], list[str]] = {}
    for p in own.members:
        for m in p.moves:
            if not m.sign:
                group = groups.setdefault(tuple(labels[p.name][k] for k in m.where), [])
                group += [] if m.generator in group else [m.generator]
    keys = list(groups)
    places: dict[str, tuple[Place, ...]] = {}
    for p in own.members:
        found: dict[tuple[int, tuple[int, ...]], dict[str, float]] = defaultdict(dict)
        for m in p.moves:
            if not m.sign:
                key = keys.index(tuple(labels[p.name][k] for k in m.where))
                found[key, m.where][m.generator] = m.exponent
        places[p.name] = tuple(
            (f, where, tuple(at.get(g, 0.0) for g in groups[keys[f]]))
            for (f, where), at in found.items()
        )
    order: list[int] = []
    out: dict[int, Family] = {}
    while len(order) < len(keys):
        # what comes in, all of it; else some of it; else anything
        for incoming, whole in ((True, True), (True, False), (False, True), (False, False)):
            for f in range(len(keys)):
                if f in out:
                    continue
                family = _solved(tuple(groups[keys[f]]), f, places, set(order), incoming, whole)
                if family is not None:
                    out[f] = family
                    order.append(f)
                    break
            else:
                continue
            break
        else:
            stuck = sorted(g for f in range(len(keys)) if f not in out for g in groups[keys[f]])
            raise ValueError(
                f"the norms of the scales {stuck} cannot be computed one after the other; leave one "
                "of them out: dataclasses.replace(spec, generators=...)"
            )
    rank = {f: n for n, f in enumerate(order)}
    return tuple(out[f] for f in order), {
        name: tuple((rank[f], where, e) for f, where, e in found) for name, found in places.items()
    }


def _solved(
    generators: tuple[str, ...],
    f: int,
    places: Mapping[str, Sequence[Place]],
    known: set[int],
    incoming: bool,
    whole: bool,
) -> Family | None:
    """The family, if places where all other families are known suffice for its norms."""
    rows: dict[Exponents, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
    every = []
    for name, found in places.items():
        own = [(where, e) for k, where, e in found if k == f]
        every += [e for _, e in own]
        for where, e in own:
            if incoming and min(e) < 0:
                continue
            if len(own) == 1 and all(k == f or k in known for k, _, _ in found):
                rows[e].append((name, where))
            elif whole and len(own) == 1:
                return None
    if not rows:
        return None
    matrix = np.array(list(rows))
    solution = np.linalg.pinv(matrix)
    if not np.allclose(np.array(every) @ solution @ matrix, every):
        return None
    return Family(
        generators,
        tuple((e, tuple(at)) for e, at in rows.items()),
        tuple(map(tuple, solution.tolist())),
    )


class Frame:
    """The norms of one network's units.

    Args:
        own: the pieces of the spec.
        found: the pieces of one network, straightened (see :mod:`.straight`).
        channels: whether the pieces have a last axis of channels, all of which move alike.
    """

    def __init__(self, own: Pieces, found: Mapping[str, jax.Array], channels: bool = False):
        self.own = own
        self.channels = channels
        self.families, self.places = families(own.source)
        self.norms: list[list[jax.Array]] = []
        found = {name: wide(x) for name, x in found.items()}
        for f, family in enumerate(self.families):
            self.norms.append([self._norm(found, at, f) for _, at in family.rows])
        self._alike: dict[tuple[int, Exponents], list] = defaultdict(list)
        for name, at in self.places.items():
            for f, where, e in at:
                if sum(k == f for k, _, _ in at) == 1:
                    self._alike[f, e].append((name, where))
        self._sizes: dict[tuple[int, Exponents], jax.Array] = {}
        self._found = found

    def _norm(self, found, at, f: int) -> jax.Array:
        """The root mean square of the places ``at``, all other families divided out."""
        sizes = []
        for name, where in at:
            x = found[name]
            for g, other, e in self.places[name]:
                if g != f:
                    x = x * self._factor(g, other, e, -1.0, x.ndim)
            axes = tuple(k for k in range(x.ndim) if k not in where)
            y = _root_mean_square(x, axes)
            kept = [k for k in range(x.ndim) if k in where]
            sizes.append(y.transpose([kept.index(k) for k in where]))
        return sizes[0] if len(sizes) == 1 else _root_mean_square(jnp.stack(sizes, -1), (-1,))

    def _factor(self, f: int, where, exponents: Exponents, times: float, rank: int) -> jax.Array:
        """What moves by ``exponents * times`` of a family; zero where a norm is."""
        out = None
        powers = self.families[f].powers(exponents)
        for norm, power in zip(self.norms[f], powers, strict=True):
            if power:
                y = _power(norm, power * times)
                out = y if out is None else out * y
        assert out is not None
        return spread(out, where, rank)

    def _move(self, piece: Piece, x: jax.Array, times: float) -> jax.Array:
        y = wide(x)
        for f, where, e in self.places[piece.name]:
            y = y * self._factor(f, where, e, times, y.ndim)
        return y.astype(x.dtype)

    def canonical(self, found: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Pieces divided by their norms: no scale moves them."""
        return {p.name: self._move(p, found[p.name], -1.0) for p in self.own.members}

    def raw(self, found: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Canonical pieces times their norms: they move as weights do."""
        return {p.name: self._move(p, found[p.name], 1.0) for p in self.own.members}

    def sizes(self) -> dict[str, jax.Array]:
        """How large a change of each piece may be: it moves as the piece does.

        A norm to a negative power is no measure for the way out of a nearly dead unit. So at each place
        it is the root mean square of all weights that are moved by the same exponents there.
        """
        out = {}
        for p in self.own.members:
            x = self._found[p.name]
            rank = x.ndim - self.channels
            y = jnp.ones((1,) * rank, x.dtype)
            for f, where, e in self.places[p.name]:
                at = self._alike[f, e]
                if any(name == p.name for name, _ in at):
                    if (f, e) not in self._sizes:
                        self._sizes[f, e] = self._norm(self._found, at, f)
                    y = y * spread(self._sizes[f, e], where, rank)
                else:
                    y = y * self._factor(f, where, e, 1.0, rank)
            out[p.name] = y
        return out


def _root_mean_square(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """As told; nothing overflows in the squares, and the gradient at zero is zero."""
    if not axes:
        return jnp.abs(x)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axes, keepdims=True))
    some = largest > 0
    unit = x / jnp.where(some, largest, 1)
    square = jnp.mean(jnp.square(unit), axis=axes, keepdims=True)
    root = jnp.sqrt(jnp.where(some, square, 1)) * largest
    return jnp.squeeze(jnp.where(some, root, 0), axis=axes)


def _power(x: jax.Array, power: float) -> jax.Array:
    """``x ** power`` for ``x >= 0``, and zero where ``x`` is."""
    some = x > 0
    safe = jnp.where(some, x, 1)
    y = safe if power == 1 else 1 / safe if power == -1 else safe**power
    return jnp.where(some, y, 0)
