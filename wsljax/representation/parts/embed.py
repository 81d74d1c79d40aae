"""Into features; what becomes of fixed axes is told in :mod:`.folding`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.spec import Spec
from ..blocks.features import Features, group
from ..blocks.incoming import block_of, check_scales, floating
from ..blocks.stacks import Cell, assemble
from ..universal.initial import normals
from .folding import Fold, folded, folds_of, same_structure, widths_of


class Embed(eqx.Module):
    """Weights to features: one linear map for each block, over its fixed axes where they are folded.

    Equivariant: exchanging units of the network exchanges indices of the features.

    Attributes:
        weights: ``{role: (members, fixed coordinates * c_in + codes, channels)}``.
        bias: ``{role: (members, channels)}``; by it blocks of one shape are told apart.
        spec: the annotation of the networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> features = Embed(spec, 16, key=jax.random.key(0))(spec.blocks(params))
        >>> {name: x.shape for name, x in features.blocks().items()}
        {'b': (5, 16), 'w': (5, 16)}
    """

    weights: dict[str, jax.Array]
    bias: dict[str, jax.Array]
    spec: Spec = eqx.field(static=True)
    c_in: int | None = eqx.field(static=True)
    fixed: str = eqx.field(static=True)
    up_to: int | None = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        c_in: int | None = None,
        scales: Mapping[str, float] | None = None,
        fixed: str = "fold",
        up_to: int | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an embedding.

        Args:
            spec: the annotation of the networks.
            channels: how many channels the features get.
            key: of the initial weights.
            c_in: channels of the blocks that come in (weights, gradients, momenta, … side by side on
                a last axis); None if they have no such axis.
            scales: the typical size of the numbers in each block, by which the initial weights are
                divided; see :func:`block_scales`. By default 1.
            fixed, up_to: what becomes of fixed axes, and of how many coordinates at most; see
                :mod:`.folding`. Layers behind it are drawn for ``feature_structure(spec, fixed, up_to)``.
            dtype: of the weights.
        """
        self.spec, self.c_in = spec, c_in
        self.fixed, self.up_to = fixed, up_to
        folds = folds_of(spec, fixed, up_to)
        check_scales(scales, (f.indices.name for f in folds))
        members: dict[str, list[Fold]] = defaultdict(list)
        for fold in folds:
            members[fold.role].append(fold)
        shapes: list[tuple[int, ...]] = []
        for found in members.values():
            count = sum(len(fold.copies) for fold in found)
            inputs = found[0].fixed * (c_in or 1) + found[0].codes
            shapes += [(count, inputs, channels), (count, channels)]
        draws = iter(normals(key, tuple(shapes), dtype))
        self.weights, self.bias = {}, {}
        for role, found in members.items():
            w, bias = next(draws), next(draws)
            divide = np.ones((*w.shape[:2], 1))
            for fold in found:
                own = slice(fold.member, fold.member + len(fold.copies))
                size = (scales or {}).get(fold.indices.name, 1.0)
                divide[own, : fold.fixed * (c_in or 1)] = size
            self.weights[role] = w / jnp.asarray(divide * (2 * w.shape[1]) ** 0.5, dtype)
            self.bias[role] = bias / jnp.asarray(2**0.5, dtype)

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Features:
        """Embed ``spec.blocks(params)``.

        Args:
            blocks: ``{block: array of the block's shape}``, with a last axis of ``c_in`` channels if
                the embedding was drawn for such.
            spec: the annotation of these blocks, where it is another one of the same structure
                (other widths).

        Raises:
            ValueError: if the spec has another structure or other fixed axes, or a block has another
                shape or is no array of numbers; each names the block.
        """
        folds = self._folds_of(spec)
        parts: dict[tuple, list[jax.Array]] = defaultdict(list)
        cells: dict[tuple, list[Cell]] = defaultdict(list)
        where = []
        dtype = floating(blocks)
        for fold in folds:
            stack = (fold.role, fold.widths)
            x = block_of(blocks, fold.indices.name, fold.shape, self.c_in)
            parts[stack].append(folded(x.astype(dtype), fold, self.c_in is not None))
            for n in range(len(fold.copies)):
                where.append(Cell(stack, len(cells[stack]), tuple(range(len(fold.widths)))))
                cells[stack].append(Cell(fold.role, fold.member + n))
        stacks = {}
        wanted = list(cells.values())
        for stack, w, b in zip(
            cells, assemble({**self.weights}, wanted), assemble({**self.bias}, wanted), strict=True
        ):
            x = jnp.concatenate(parts[stack])
            y = jnp.matmul(x.reshape(x.shape[0], -1, x.shape[-1]), w.astype(dtype))
            y = y + b.astype(dtype)[:, None]
            stacks[stack] = y.reshape(*x.shape[:-1], -1)
        indices = tuple(copy for fold in folds for copy in fold.copies)
        groups = group(indices, widths_of(folds))
        arrays = assemble(stacks, [[where[b] for b in members] for members in groups])
        return Features(tuple(arrays), indices, groups)

    def _folds_of(self, spec: Spec | None) -> list[Fold]:
        own = folds_of(self.spec, self.fixed, self.up_to)
        if spec is None or spec == self.spec:
            return own
        return same_structure(own, folds_of(spec, self.fixed, self.up_to))


def block_scales(spec: Spec, params: object) -> dict[str, float]:
    """The root mean square of every block, for ``Embed(scales=...)``.

    Args:
        spec: the annotation.
        params: the weights of one network, or of a population stacked on a leading axis.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.full((3, 5), 0.5)}
        >>> block_scales(symmetry.parse(params, {"w": "_ h"}), params)
        {'w': 0.5}
    """
    stacked = jnp.ndim(jax.tree.leaves(params)[0]) == len(spec.leaves[0].shape) + 1
    blocks = jax.vmap(spec.blocks)(params) if stacked else spec.blocks(params)
    sizes = {name: float(jnp.sqrt(jnp.mean(jnp.square(x)))) for name, x in blocks.items()}
    return {name: size if size > 0 else 1.0 for name, size in sizes.items()}
