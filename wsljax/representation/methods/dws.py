"""Deep weight space networks: equivariant layers of deep sets over rows, columns and layers.

Navon, Shamsian, Achituve, Fetaya, Chechik, Maron, *Equivariant Architectures for Learning in Deep Weight
Spaces*, 2023, section 5. A layer has four families of blocks: kernels to kernels, kernels to biases,
biases to kernels, biases to biases. Each block pools over the neurons that its target does not have,
maps channels, and broadcasts over those that its source does not have; where both have the same neurons it
is a deep-sets layer. Here all of them are one matrix product an index type (see :mod:`..parts.set_pools`), for
any spec and any number of layers.

With means as pools that is the space of all equivariant linear maps. The published layers span less:
what goes to the last kernel from the kernel before it, or (whole) from the biases of earlier layers,
is the same for all outputs: ``layers * (outputs - 1)`` maps fewer. By default nothing is lacking;
``published=True`` gives what was.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, structure
from ..parts.norm import BlockNorm
from ..parts.set_pools import POOLS, attention_pool, pool_features, pooled
from ..universal.basis import Basis, IndexType, Read, Write
from ..universal.linear import universal_linear
from ..universal.restricted import RestrictedLinear, Rule, restricted
from .end_trunk import EndTrunk
from .ends import Ends, at_outputs, recut
from .registry import register_method
from .universal import EquivariantLayer

FAMILIES = ("kernel to kernel", "kernel to bias", "bias to kernel", "bias to bias")

SetPool = Literal["mean", "max", "sum", "attention"]


@dataclass(frozen=True)
class DwsMaps:
    """Which maps a layer has; a :class:`.restricted.Rule`.

    Attributes:
        families: those of :data:`FAMILIES` that it has.
        biases: blocks with at most one axis; all others are kernels.
        tied: for each piece of a last kernel the kernel, and the blocks from which all its pieces
            hear the same, with whether that holds of what they hear neuron by neuron as well.
    """

    families: tuple[str, ...] = FAMILIES
    biases: frozenset[str] = frozenset()
    tied: tuple[tuple[str, str, frozenset[tuple[str, bool]]], ...] = ()

    def keeps(self, found: Basis, kind: IndexType, read: Read, write: Write) -> bool:
        source, target = found.inputs[read.block].name, found.outputs[write.block].name
        family = f"{self._sort(source)} to {self._sort(target)}"
        return family in self.families

    def alike(self, found: Basis, kind: IndexType, read: Read, write: Write) -> Hashable:
        source, target = found.inputs[read.block].name, found.outputs[write.block].name
        for piece, kernel, sources in self.tied:
            if piece == target:
                each = (source, True) in sources
                if each or ((source, False) in sources and not kind.key):
                    return kernel, write.tie, write.kept
        return None

    def _sort(self, block: str) -> str:
        return "bias" if block in self.biases else "kernel"


def dws_maps(
    spec: Spec,
    ends: Ends = "fixed",
    *,
    families: tuple[str, ...] = FAMILIES,
    published: bool = False,
) -> DwsMaps | None:
    """The maps of a layer for networks of ``spec``; None if it has all.

    Raises:
        ValueError: for unknown families, or if ends are not fixed and the published layer is asked for.
    """
    if not families or set(families) - set(FAMILIES):
        raise ValueError(f"`families` must be among {FAMILIES}; got {families}")
    if published and ends != "fixed":
        raise ValueError(f"the published layer has ends='fixed'; got ends={ends!r}")
    if not published and set(families) == set(FAMILIES):
        return None
    layout = {block.name: block for block in spec.layout}
    pieces = {block.name: block.path for block in recut(spec, ends).layout}
    biases = frozenset(p for p, b in pieces.items() if len(layout[b].axes) <= 1)
    labels = {block.name: set(block.labels) for block in structure(spec)}
    tied = []
    for piece, block in pieces.items() if published else ():
        if block in at_outputs(spec) and piece not in biases:
            beside = {p for p, b in pieces.items() if labels[b] & labels[block]}
            before = {(p, True) for p in beside - biases if pieces[p] != block}
            ends_too = {p for p, b in pieces.items() if b in at_outputs(spec)}
            earlier = {(p, False) for p in biases - beside - ends_too}
            tied.append((piece, block, frozenset(before | earlier)))
    return DwsMaps(tuple(families), biases, tuple(tied))


class DwsLinear(RestrictedLinear):
    """Pooled reductions of all blocks, mixed and broadcast to all blocks.

    Linear if the pool is a mean or a sum; with means it is a :class:`.RestrictedLinear`.

    Attributes:
        query: of the pool by attention, ``(c_in,)``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> spec = symmetry.parse({"w": jnp.zeros((3, 5))}, {"w": "a b"})
        >>> layer = DwsLinear(spec, 4, 8, key=jax.random.key(0), pool="max")
        >>> layer(Features.of(structure(spec), {"w": jnp.ones((3, 5, 4))}))["w"].shape
        (3, 5, 8)
    """

    query: jax.Array | None
    pool: SetPool = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec | Structure,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array,
        pool: SetPool = "mean",
        rule: Rule | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        if pool not in (*POOLS, "attention"):
            raise ValueError(f"`pool` must be one of {(*POOLS, 'attention')}; got {pool!r}")
        key, key_query = jax.random.split(key)
        super().__init__(spec, c_in, c_out, key=key, rule=rule, dtype=dtype)
        attends = pool == "attention"
        self.query = jax.random.normal(key_query, (c_in,), dtype) / c_in**0.5 if attends else None
        self.pool = pool

    def __call__(self, x: Features) -> Features:
        plan = pooled(self.basis)
        pool = POOLS[self.pool] if self.query is None else attention_pool(self.query)
        weights = restricted(self.basis, self.rule, self.weights)
        return universal_linear(plan.basis, weights, self.bias, pool_features(plan, pool, x))


@register_method("dws")
def dws_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    pool: SetPool = "max",
    ends: Ends = "folded",
    families: tuple[str, ...] = FAMILIES,
    published: bool = False,
    norm: bool = True,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> EndTrunk:
    """The trunk of a deep weight space network.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        pool: what is taken over neurons: ``"mean"``, ``"max"``, ``"sum"``, or ``"attention"``, a mean
            with learned weights.
        ends: ``"fixed"`` as published, where each input and output coordinate has features of its own
            (weights then grow with the square of their number), or ``"folded"``, ``"free"``; see
            :mod:`.ends`.
        families: which of the four families of blocks the layers have.
        published: tie what the published layer ties; see above. For fixed ends only.
        norm: normalise after every linear layer; see :class:`.BlockNorm`.
        activation: a function of single numbers.
    """
    rule = dws_maps(spec, ends, families=families, published=published)

    def draw(own: Spec, key: jax.Array) -> EquivariantLayer:
        linear = DwsLinear(own, channels, channels, key=key, pool=pool, rule=rule, dtype=dtype)
        return EquivariantLayer(
            linear, BlockNorm(own, channels, dtype=dtype) if norm else None, activation
        )

    return EndTrunk(spec, channels, layers, draw, ends=ends, key=key, dtype=dtype, **options)
