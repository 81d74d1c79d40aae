"""Out of features: arrays of the weights' own shapes, fixed axes unfolded again (see :mod:`.folding`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.stacks import Cell, assemble, unstack
from ..universal.initial import normals
from .folding import Fold, folds_of, same_structure


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

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a readout; ``scales`` multiplies the initial output of each block, by default 1."""
        self.spec = spec
        members: dict[str, list[Fold]] = defaultdict(list)
        for fold in folds_of(spec):
            members[fold.role].append(fold)
        self.weights, self.bias = {}, {}
        shapes = tuple((len(f), channels, f[0].fixed) for f in members.values())
        for (role, found), w in zip(members.items(), normals(key, shapes, dtype), strict=True):
            sizes = [(scales or {}).get(f.indices.name, 1.0) for f in found]
            times = np.array(sizes)[:, None, None] / channels**0.5
            self.weights[role] = w * jnp.asarray(times, dtype)
            self.bias[role] = jnp.zeros((len(found), found[0].fixed), dtype)

    def __call__(self, features: Features, spec: Spec | None = None) -> dict[str, jax.Array]:
        """``{block: array of the block's shape}``, ready for ``spec.unblocks``."""
        folds = folds_of(self.spec)
        if spec is not None and spec != self.spec:
            folds = same_structure(folds, folds_of(spec))
        place = {b: (g, n) for g, m in enumerate(features.groups) for n, b in enumerate(m)}
        found: dict[tuple, list[int]] = defaultdict(list)
        for b, fold in enumerate(folds):
            found[fold.role, fold.widths].append(b)
        inputs = assemble(
            dict(enumerate(features.arrays)),
            [
                [Cell(*place[b], tuple(range(len(folds[b].axes)))) for b in bs]
                for bs in found.values()
            ],
        )
        cells = [[Cell(folds[b].role, folds[b].member) for b in bs] for bs in found.values()]
        out = {}
        for bs, x, w, bias in zip(
            found.values(),
            inputs,
            assemble(self.weights, cells),
            assemble(self.bias, cells),
            strict=True,
        ):
            y = jnp.matmul(x.reshape(x.shape[0], -1, x.shape[-1]), w.astype(x.dtype))
            y = y + bias.astype(x.dtype)[:, None]
            for b, block in zip(bs, unstack(y), strict=True):
                fold = folds[b]
                back = sorted(range(len(fold.shape)), key=lambda k, order=fold.order: order[k])
                shape = [fold.shape[k] for k in fold.order]
                out[fold.indices.name] = block.reshape(shape).transpose(back)
        return out
