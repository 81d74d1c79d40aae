"""Normalisation of features by statistics that no exchange of units changes."""

from __future__ import annotations

from collections import defaultdict

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, structure
from ..blocks.stacks import Cell, assemble


class BlockNorm(eqx.Module):
    """Divide every block by its root mean square, then scale every channel by a learned gain.

    Statistics run over all indices of a block, so they are invariant and the layer is equivariant
    (never per position, as batch norm on flattened weights has them). After Zhang and Sennrich, *Root
    Mean Square Layer Normalization*, 2019.

    Attributes:
        gain: ``{kind: (blocks of the kind, channels)}``.
        per_channel: one root mean square for every channel rather than one for all channels of a
            block. Blocks with a single index tuple have one for all channels either way, since
            otherwise nothing but signs would be left of them.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.blocks.features import Features
        >>> spec = symmetry.parse({"w": jnp.zeros((3, 5))}, {"w": "_ h"})
        >>> x = Features.of(structure(spec), {"w": 3 * jnp.ones((5, 4))})
        >>> BlockNorm(spec, 4)(x)["w"][0].round(3).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    gain: dict[str, jax.Array]
    structure: Structure = eqx.field(static=True)
    per_channel: bool = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        per_channel: bool = False,
        epsilon: float = 1e-6,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        self.structure = structure(spec)
        self.per_channel, self.epsilon = per_channel, epsilon
        counts: dict[str, int] = defaultdict(int)
        for block in self.structure:
            counts[block.kind] += 1
        self.gain = {kind: jnp.ones((n, channels), dtype) for kind, n in counts.items()}

    def __call__(self, x: Features) -> Features:
        """Features of the same shapes and dtype."""
        counts: dict[str, int] = defaultdict(int)
        cells = []
        for block in self.structure:
            cells.append(Cell(block.kind, counts[block.kind]))
            counts[block.kind] += 1
        gains = assemble(self.gain, [[cells[b] for b in members] for members in x.groups])
        arrays = []
        for a, gain in zip(x.arrays, gains, strict=True):
            several = any(n > 1 for n in a.shape[1:-1])
            axes = tuple(range(1, a.ndim - (1 if self.per_channel and several else 0)))
            wide = a.astype(a.dtype if a.dtype.itemsize >= 4 else jnp.float32)
            size = jnp.mean(jnp.square(wide), axis=axes, keepdims=True)
            gain = gain.reshape(gain.shape[0], *(1 for _ in a.shape[1:-1]), gain.shape[-1])
            factor = jax.lax.rsqrt(size + self.epsilon) * gain.astype(size.dtype)
            arrays.append((wide * factor).astype(a.dtype))
        return Features(tuple(arrays), x.structure, x.groups)
