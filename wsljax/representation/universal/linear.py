"""The universal equivariant linear layer: every linear map that commutes with the exchange of units.

Zhou, Finn, Harrison, *Universal Neural Functionals*, 2024, equation 7, gives the layer as a sum over
basis maps for every pair of weight tensors. Here the same sum is factored (see :mod:`.basis`): each
block is read once into its reductions, the reductions of one index type are laid side by side as
channels and go through one matrix product, and the results are written back. Cost and program size
are linear in the number of blocks (constant for repeated layers of small blocks, which are stacked),
and no parameter knows a width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import STACK_UP_TO, Features, group
from ..blocks.indices import Structure, structure
from ..blocks.stacks import Cell, assemble, split
from ..blocks.transfer import read, write
from .basis import Basis, IndexType, Role, basis
from .initial import initial_weights

AnyFeatures = TypeVar("AnyFeatures", Features, Mapping[str, jax.Array])


def universal_linear(
    found: Basis, weights: Mapping[str, jax.Array], bias: jax.Array | None, x: Features
) -> Features:
    """Apply one combination of the basis maps; :class:`UniversalLinear` as a pure function.

    Args:
        found: the factored basis.
        weights: ``{role name: (members, reads * c_in, writes * c_out)}``.
        bias: ``(writes of constants * c_out,)``, or None.
        x: features with ``c_in`` channels, of any widths.

    Returns:
        Features with ``c_out`` channels, in the dtype of ``x``.
    """
    widths = x.widths
    products = _products(found, widths)
    operands = _operands(found, products, x)
    matrices = assemble(weights, [[Cell(p.role.name, n) for n in p.members] for p in products])
    results = []
    for product, z, w in zip(products, operands, matrices, strict=True):
        y = _dense(z.reshape(z.shape[0], -1, z.shape[-1]), w.astype(z.dtype))
        y = y.reshape(*z.shape[:-1], -1)
        if bias is not None and not product.types[0].key:
            y = y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        results.append(y)
    return _written(found, products, results, widths)


def _dense(z: jax.Array, w: jax.Array) -> jax.Array:
    """``(members, rows, c_in)`` times ``(members, c_in, c_out)``."""
    product = _tall if z.shape[-2] >= w.shape[-1] else jnp.matmul
    return product(z[0], w[0])[None] if z.shape[0] == 1 else product(z, w)


@jax.custom_jvp
def _tall(z: jax.Array, w: jax.Array) -> jax.Array:
    """A matrix product with at least as many rows as columns.

    Over a batch of networks the gradient in ``w`` contracts two axes, networks and rows, for which
    XLA:CPU writes a transposed copy of all features. One product a network and a sum over networks is
    the same and needs none; what it holds is no larger than the features. The tangent of ``w`` is made
    to depend on the network (by a factor that is always 1), and reverse mode follows.
    """
    return jnp.matmul(z, w)


@_tall.defjvp
def _tall_jvp(primals, tangents):
    (z, w), (dz, dw) = primals, tangents
    one = jnp.where(z[(0,) * z.ndim] > 0, 1, 1).astype(w.dtype)
    return _tall(z, w), jnp.matmul(dz, w) + jnp.matmul(z, dw * one)


class _Product(NamedTuple):
    """Index types of one role and one shape: one matrix product, batched over them."""

    role: Role
    members: tuple[int, ...]
    types: tuple[IndexType, ...]


def _products(found: Basis, widths: Mapping[str, int]) -> list[_Product]:
    out = []
    for role in found.roles:
        shapes: dict[tuple, list[int]] = defaultdict(list)
        for n, t in enumerate(role.members):
            shape = tuple(widths[label] for label in found.types[t].labels)
            shapes[shape, n if prod(shape) > STACK_UP_TO else -1].append(n)
        for members in shapes.values():
            types = tuple(found.types[role.members[n]] for n in members)
            out.append(_Product(role, tuple(members), types))
    return out


def _operands(found: Basis, products: Sequence[_Product], x: Features) -> list[jax.Array]:
    """For every product its reads side by side: ``(members, *index type, reads * c_in)``."""
    place = {b: (g, n) for g, members in enumerate(x.groups) for n, b in enumerate(members)}
    terms: list[dict[tuple, None]] = [{} for _ in x.groups]  # in order, each once
    cells: list[list[Cell]] = []
    for product in products:
        grid = []
        for kind in product.types:
            row = []
            for r in kind.reads:
                g, n = place[r.block]
                term = (r.tie, tuple(sorted(r.kept)))
                terms[g][term] = None
                row.append(Cell((g, term), n, tuple(term[1].index(i) for i in r.kept)))
            grid.append(row)
        cells += zip(*grid, strict=True) if len(grid) > 1 else grid
    stacks = {}
    for g, (array, wanted) in enumerate(zip(x.arrays, terms, strict=True)):
        if wanted:
            got = jax.vmap(lambda a, wanted=tuple(wanted): read(a, wanted))(array)
            stacks.update({(g, term): a for term, a in zip(wanted, got, strict=True)})
    pieces = iter(assemble(stacks, cells))
    out = []
    for product in products:
        if len(product.members) > 1:  # one piece a read, each stacked over the members
            out.append(_side_by_side([next(pieces) for _ in range(product.role.reads)]))
        else:  # one piece, stacked over the reads
            piece = next(pieces)
            out.append(jnp.moveaxis(piece, 0, -2).reshape(1, *piece.shape[1:-1], -1))
    return out


def _written(
    found: Basis,
    products: Sequence[_Product],
    results: Sequence[jax.Array],
    widths: Mapping[str, int],
) -> Features:
    """The results ``(members, *index type, writes * c_out)`` put into the blocks of the output."""
    stacks: dict = {}
    cells: list[dict[tuple, Cell]] = [{} for _ in found.outputs]
    for k, (product, y) in enumerate(zip(products, results, strict=True)):
        lanes, single = product.role.writes, len(product.members) == 1
        if single:  # stacked over the writes
            stacks[k] = jnp.moveaxis(y[0].reshape(*y.shape[1:-1], lanes, -1), -2, 0)
        else:  # for each write stacked over the members
            step = y.shape[-1] // lanes
            for q, lane in enumerate(split(y, range(step, y.shape[-1], step), -1)):
                stacks[k, q] = lane
        for m, kind in enumerate(product.types):
            for q, w in enumerate(kind.writes):
                kept = tuple(sorted(w.kept))
                again = sum(1 for tie, i, _ in cells[w.block] if (tie, i) == (w.tie, kept))
                cells[w.block][w.tie, kept, again] = Cell(
                    k if single else (k, q),
                    q if single else m,
                    tuple(w.kept.index(i) for i in kept),
                )
    groups = group(found.outputs, widths, [tuple(sorted(c)) for c in cells])
    terms = [(g, term) for g, members in enumerate(groups) for term in sorted(cells[members[0]])]
    pieces = assemble(stacks, [[cells[b][term] for b in groups[g]] for g, term in terms])
    parts: list[list[tuple]] = [[] for _ in groups]
    for (g, (tie, kept, _)), piece in zip(terms, pieces, strict=True):
        parts[g].append((tie, kept, piece))
    arrays = []
    for members, found_parts in zip(groups, parts, strict=True):
        shape = [widths[label] for label in found.outputs[members[0]].labels]
        where = [(tie, kept) for tie, kept, _ in found_parts]

        def put(*ys: jax.Array, where=where, shape=shape) -> jax.Array:
            return write([(*term, y) for term, y in zip(where, ys, strict=True)], shape)

        arrays.append(jax.vmap(put)(*(piece for *_, piece in found_parts)))
    return Features(tuple(arrays), found.outputs, groups)


def _side_by_side(arrays: list[jax.Array]) -> jax.Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis=-1)


class UniversalLinear(eqx.Module):
    """All equivariant linear maps between the features of two specs, plus equivariant biases.

    Equivariant: exchanging units of the network exchanges the layer's output in the same way.
    Complete: at one channel its weights span the whole space of equivariant linear maps. (Named fixed
    axes that units nest over are the exception: the layer treats them like units and is shared over
    them, so that no weight depends on how many layers are stacked.)
    Where some units are fewer than a map has ties, maps coincide (an axis of width one is the common
    case) and weights are more than needed; :func:`.count_terms` counts the independent maps.
    Features are of one network; ``jax.vmap`` the layer over networks.

    Attributes:
        weights: ``{role: (members, reads * c_in, writes * c_out)}``, no axis of which is a width:
            the layer runs on features of any widths, as long as blocks and axes are the same.
        bias: ``(writes of constants * c_out,)``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.zeros((3, 5)), "v": jnp.zeros((5, 2))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "v": "h _"})
        >>> layer = UniversalLinear(spec, 4, 8, key=jax.random.key(0))
        >>> out = layer({"w": jnp.ones((5, 4)), "v": jnp.ones((5, 4))})
        >>> {name: y.shape for name, y in out.items()}
        {'v': (5, 8), 'w': (5, 8)}

    References:
        Zhou, Finn, Harrison, "Universal Neural Functionals", 2024, equation 7.
    """

    weights: dict[str, jax.Array]
    bias: jax.Array | None
    inputs: Structure = eqx.field(static=True)
    outputs: Structure = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array,
        spec_out: Spec | None = None,
        use_bias: bool = True,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer.

        Args:
            spec: annotation of the networks that come in.
            c_in, c_out: channels of the features that come in and go out.
            key: of the initial weights, which keep the size of the signal (see :mod:`.initial`).
            spec_out: annotation of what goes out, over the same units; by default ``spec``.
            use_bias: add one constant for every way to tie the indices of each output block.
            dtype: of the weights. The layer computes in the dtype of its features.
        """
        if c_in < 1 or c_out < 1:
            raise ValueError(f"`c_in` and `c_out` must be positive; got {c_in} and {c_out}")
        self.inputs = structure(spec)
        self.outputs = structure(spec if spec_out is None else spec_out)
        self.weights = initial_weights(self.basis, c_in, c_out, key=key, dtype=dtype)
        constants = sum(len(t.writes) for t in self.basis.types if not t.key)
        self.bias = jnp.zeros(constants * c_out, dtype) if use_bias else None

    @property
    def basis(self) -> Basis:
        """The basis maps that the weights combine."""
        return basis(self.inputs, self.outputs)

    def __call__(self, features: AnyFeatures) -> AnyFeatures:
        """``{block: (*indices, c_in)}`` to ``{block: (*indices, c_out)}``, or :class:`Features` alike.

        Raises:
            ValueError: features of other blocks, that do not fit together, or with other channels.
        """
        if isinstance(features, Features):
            return self._apply(features)
        return self._apply(Features.of(self.inputs, features)).blocks()

    def _apply(self, x: Features) -> Features:
        if x.structure != self.inputs:
            raise ValueError(
                f"features have other blocks than the layer: {[b.name for b in x.structure][:5]} and "
                f"{[b.name for b in self.inputs][:5]}, or other indices; embed them by the same spec"
            )
        role = self.basis.roles[0]
        c_in = self.weights[role.name].shape[-2] // role.reads
        if x.channels != c_in:
            raise ValueError(f"features have {x.channels} channels, the layer takes {c_in}")
        return universal_linear(self.basis, self.weights, self.bias, x)
