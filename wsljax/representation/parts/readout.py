"""Out of features: arrays of the weights' own shapes, fixed axes as they were (see :mod:`.folding`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.stacks import Cell, assemble, split
from ..universal.initial import normals
from .folding import Fold, folds_of, same_structure, unfolded


class Readout(eqx.Module):
    """Features to arrays of the weights' own shapes: an equivariant map into weight space.

    Attributes:
        weights: ``{role: (members, channels, fixed coordinates)}``.
        bias: ``{role: (members, fixed coordinates)}``.
        spec: the annotation of the networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Embed
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> features = Embed(spec, 16, key=jax.random.key(0))(spec.blocks(params))
        >>> blocks = Readout(spec, 16, key=jax.random.key(1))(features)
        >>> jax.tree.map(jnp.shape, spec.unblocks(blocks))
        {'b': (5,), 'w': (3, 5)}
    """

    weights: dict[str, jax.Array]
    bias: dict[str, jax.Array]
    spec: Spec = eqx.field(static=True)
    fixed: str = eqx.field(static=True)
    up_to: int | None = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        fixed: str = "fold",
        up_to: int | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a readout.

        Args:
            spec, channels, key, dtype: see :class:`.Embed`.
            scales: multiplies the initial output of each block; by default 1.
            fixed, up_to: what has become of fixed axes; as in the embedding.
        """
        self.spec, self.fixed, self.up_to = spec, fixed, up_to
        members: dict[str, list[Fold]] = defaultdict(list)
        for fold in folds_of(spec, fixed, up_to):
            members[fold.role].append(fold)
        self.weights, self.bias = {}, {}
        counts = [sum(len(f.copies) for f in found) for found in members.values()]
        shapes = tuple(
            (n, channels, f[0].fixed) for n, f in zip(counts, members.values(), strict=True)
        )
        for (role, found), w in zip(members.items(), normals(key, shapes, dtype), strict=True):
            sizes = [(scales or {}).get(f.indices.name, 1.0) for f in found for _ in f.copies]
            times = np.array(sizes)[:, None, None] / channels**0.5
            self.weights[role] = w * jnp.asarray(times, dtype)
            self.bias[role] = jnp.zeros((w.shape[0], found[0].fixed), dtype)

    def __call__(self, features: Features, spec: Spec | None = None) -> dict[str, jax.Array]:
        """``{block: array of the block's shape}``, ready for ``spec.unblocks``."""
        folds = folds_of(self.spec, self.fixed, self.up_to)
        if spec is not None and spec != self.spec:
            folds = same_structure(folds, folds_of(spec, self.fixed, self.up_to))
        place = {b: (g, n) for g, m in enumerate(features.groups) for n, b in enumerate(m)}
        inputs: dict[tuple, list[Cell]] = defaultdict(list)
        cells: dict[tuple, list[Cell]] = defaultdict(list)
        found: dict[tuple, list[Fold]] = defaultdict(list)
        number = 0
        for fold in folds:
            stack = (fold.role, fold.widths)
            found[stack].append(fold)
            for n in range(len(fold.copies)):
                inputs[stack].append(Cell(*place[number], tuple(range(len(fold.widths)))))
                cells[stack].append(Cell(fold.role, fold.member + n))
                number += 1
        wanted = list(cells.values())
        out = {}
        for members, x, w, bias in zip(
            found.values(),
            assemble(dict(enumerate(features.arrays)), list(inputs.values())),
            assemble({**self.weights}, wanted),
            assemble({**self.bias}, wanted),
            strict=True,
        ):
            y = jnp.matmul(x.reshape(x.shape[0], -1, x.shape[-1]), w.astype(x.dtype))
            y = (y + bias.astype(x.dtype)[:, None]).reshape(*x.shape[:-1], -1)
            stops = np.cumsum([len(fold.copies) for fold in members])[:-1]
            for fold, block in zip(members, split(y, stops.tolist(), 0), strict=True):
                out[fold.indices.name] = unfolded(block, fold)
        return out
