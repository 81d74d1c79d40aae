"""The universal layer with some of its maps left out or made equal: the layers published for chains.

Layers that were derived by hand for multilayer perceptrons span a part of what
:class:`~..universal.linear.UniversalLinear` spans. A :class:`Rule` says which part, for any spec; without
one the layer is complete.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, structure
from .basis import Basis, IndexType, Read, Write, basis
from .initial import initial_weights
from .linear import universal_linear


class Rule(Protocol):
    """Which maps a layer has; hashable."""

    def keeps(self, found: Basis, kind: IndexType, read: Read, write: Write) -> bool:
        """Whether the map is there at all."""
        ...

    def alike(self, found: Basis, kind: IndexType, read: Read, write: Write) -> Hashable:
        """Writes of one read that give the same (and not None) have one weight."""
        ...


class Restriction(NamedTuple):
    """What a rule does to the weights of one role, ``(members, reads, writes)`` each.

    Attributes:
        keeps: whether the map is there.
        same: the write whose weight is used, of the same member and read.
    """

    keeps: np.ndarray
    same: np.ndarray


@lru_cache(maxsize=64)
def restrictions(found: Basis, rule: Rule) -> dict[str, Restriction]:
    """For each role that the rule changes, how."""
    out = {}
    for role in found.roles:
        keeps = np.ones((len(role.members), role.reads, role.writes), bool)
        same = np.broadcast_to(np.arange(role.writes), keeps.shape).copy()
        for m, t in enumerate(role.members):
            kind = found.types[t]
            for r, read in enumerate(kind.reads):
                first: dict[Hashable, int] = {}
                for w, write in enumerate(kind.writes):
                    keeps[m, r, w] = rule.keeps(found, kind, read, write)
                    name = rule.alike(found, kind, read, write)
                    if name is not None:
                        same[m, r, w] = first.setdefault(name, w)
        if not keeps.all() or (same != np.arange(role.writes)).any():
            out[role.name] = Restriction(keeps, same)
    return out


def restricted(
    found: Basis, rule: Rule | None, weights: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Weights of the universal layer, of which the rule's maps alone are left.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax.representation.blocks.indices import Indices
        >>> found = basis(*[(Indices("b", ("h",), ((),)),)] * 2)
        >>> class Constants:
        ...     def keeps(self, found, kind, read, write):
        ...         return not kind.key
        ...     def alike(self, found, kind, read, write):
        ...         return None
        >>> weights = {role.name: jnp.ones((1, 1, 1)) for role in found.roles}
        >>> {name: w.item() for name, w in restricted(found, Constants(), weights).items()}
        {'1: 1x1': 1.0, 'a: 1x1': 0.0}
    """
    out = dict(weights)
    for role in found.roles if rule is not None else ():
        change = restrictions(found, rule).get(role.name)
        if change is None:
            continue
        w = weights[role.name]
        w = w.reshape(w.shape[0], role.reads, -1, role.writes, w.shape[-1] // role.writes)
        w = jnp.take_along_axis(w, change.same[:, :, None, :, None], axis=3)
        w = w * change.keeps[:, :, None, :, None].astype(w.dtype)
        out[role.name] = w.reshape(weights[role.name].shape)
    return out


class RestrictedLinear(eqx.Module):
    """The equivariant linear maps that a rule leaves of all there are, and an equivariant bias.

    Attributes:
        weights, bias: those of :class:`~..universal.linear.UniversalLinear`.
        rule: which maps there are; None for all.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"w": jnp.zeros((3, 5))}, {"w": "a b"})
        >>> layer = RestrictedLinear(spec, 4, 4, key=jax.random.key(0))
        >>> layer(Features.of(structure(spec), {"w": jnp.ones((3, 5, 4))}))["w"].shape
        (3, 5, 4)
    """

    weights: dict[str, jax.Array]
    bias: jax.Array
    blocks: Structure = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec | Structure,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array,
        rule: Rule | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        self.blocks, self.rule = structure(spec), rule
        self.weights = initial_weights(self.basis, c_in, c_out, key=key, dtype=dtype)
        self.bias = jnp.zeros(self.basis.constants * c_out, dtype)

    @property
    def basis(self) -> Basis:
        """All maps there are without the rule."""
        return basis(self.blocks, self.blocks)

    def __call__(self, x: Features) -> Features:
        """Features with ``c_in`` channels to features with ``c_out``."""
        weights = restricted(self.basis, self.rule, self.weights)
        return universal_linear(self.basis, weights, self.bias, x)
