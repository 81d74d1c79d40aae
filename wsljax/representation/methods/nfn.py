"""Neural functional networks: NP, whose ends are units like all others, and HNP, whose ends are fixed.

Zhou, Yang, Burns, Cardace, Jiang, Sokota, Kolter, Finn, *Permutation Equivariant Neural Functionals*,
2023 (NP: equation 3; HNP: appendix). Each weight hears from itself, from the means over the rows and
columns of its own matrix and of those that share neurons with it, from the biases of these neurons,
and from the means of all layers.

On a multilayer perceptron that is nearly the universal linear layer, of which it is a restriction
here: which blocks are neighbours follows from the units they share, in any spec. The published NP layer
is complete there; the published HNP layer lacks the ``outputs`` maps that take the last hidden bias to
the last kernel neuron by neuron. By default nothing is lacking; ``published=True`` gives what was.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..parts.norm import BlockNorm
from ..universal.basis import Basis, IndexType, Read, Write
from ..universal.restricted import RestrictedLinear
from .end_trunk import Encoding, EndTrunk
from .ends import Ends, at_outputs, recut
from .registry import register_method
from .universal import EquivariantLayer


@dataclass(frozen=True)
class PublishedNfn:
    """The maps of the published layers, for blocks of any number of axes; a :class:`.restricted.Rule`.

    Entries go to themselves, means that keep one set of units (with those it is nested over) go
    between all blocks that have it, and means of whole blocks go everywhere. Indices are never tied.

    Attributes:
        biases: hidden biases: blocks with one axis.
        last: pieces of the last kernels, if ends are fixed; they hear no bias neuron by neuron.
    """

    biases: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()

    def keeps(self, found: Basis, kind: IndexType, read: Read, write: Write) -> bool:
        if not _plain(read) or not _plain(write):
            return False
        source, target = found.inputs[read.block].name, found.outputs[write.block].name
        if not kind.key:
            return True
        if any(len(above) == len(kind.key) - 1 for _, above in kind.key):  # one set of units
            return not (source in self.biases and target in self.last)
        whole = len(read.tie) == len(read.kept)
        return whole and source == target and read.kept == write.kept

    def alike(self, found: Basis, kind: IndexType, read: Read, write: Write) -> Hashable:
        return None


def _plain(term: Read | Write) -> bool:
    return len(set(term.tie)) == len(term.tie)


def published_nfn(spec: Spec, ends: Ends = "fixed") -> PublishedNfn:
    """What the published layer has of the universal one, for networks of a spec.

    Args:
        spec: their annotation.
        ends: ``"free"`` for NP, ``"fixed"`` (or ``"folded"``) for HNP.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w0": jnp.zeros((2, 4)), "b0": jnp.zeros(4), "w1": jnp.zeros((4, 2))}
        >>> rule = published_nfn(symmetry.parse(params, {"w0": "_ h", "b0": "h", "w1": "h _"}))
        >>> sorted(rule.biases), sorted(rule.last)
        (['b0'], ['w1#0', 'w1#1'])
    """
    if ends == "free":
        return PublishedNfn()
    rank = {block.name: len(block.axes) for block in spec.layout}
    pieces = {block.name: block.path for block in recut(spec, ends).layout}
    return PublishedNfn(
        frozenset(
            p for p, block in pieces.items() if rank[block] == 1 and block not in at_outputs(spec)
        ),
        frozenset(
            p for p, block in pieces.items() if rank[block] > 1 and block in at_outputs(spec)
        ),
    )


@register_method("nfn")
def nfn_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    ends: Ends = "free",
    published: bool = False,
    io_encoding: Encoding | None = "learned",
    norm: bool = True,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> EndTrunk:
    """The trunk of a neural functional network.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        ends: ``"free"`` for NP, ``"fixed"`` for HNP, where each input and output coordinate has
            features of its own (weights then grow with the square of their number), ``"folded"`` for
            HNP with one feature vector for all of them.
        published: leave out what the published layer lacks; see :class:`PublishedNfn`.
        io_encoding: what tells inputs, and outputs, apart where ends are free: a learned table, or
            sinusoids, which take any number of them; None for no difference.
        norm: normalise after every linear layer; see :class:`.BlockNorm`.
        activation: a function of single numbers.
    """
    rule = published_nfn(spec, ends) if published else None

    def draw(own: Spec, key: jax.Array) -> EquivariantLayer:
        linear = RestrictedLinear(own, channels, channels, key=key, rule=rule, dtype=dtype)
        return EquivariantLayer(
            linear, BlockNorm(own, channels, dtype=dtype) if norm else None, activation
        )

    return EndTrunk(
        spec,
        channels,
        layers,
        draw,
        ends=ends,
        io_encoding=io_encoding if ends == "free" else None,
        key=key,
        dtype=dtype,
        **options,
    )
