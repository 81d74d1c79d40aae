"""The universal equivariant linear layer: every linear map that commutes with the exchange of units.

Zhou, Finn, Harrison, *Universal Neural Functionals*, 2024, equation 7, gives the layer as a sum over
basis maps for every pair of weight tensors. Here the same sum is factored (see :mod:`.basis`): each
block is read once into its reductions, the reductions of one index type are laid side by side as
channels and go through one matrix product, and the results are written back. Cost and program size
are linear in the number of blocks (constant for repeated layers of small blocks, which are stacked),
and no parameter knows a width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.indices import Structure, structure
from ..blocks.product import times_stacked
from ..blocks.stacks import Cell, assemble
from .basis import Basis
from .basis import basis as _basis
from .components import masked, of_components
from .initial import initial_weights
from .products import operands_of, products_of, written

BASES = ("partition", "orthogonal")
"""In what the weights of a layer are expressed."""

AnyFeatures = TypeVar("AnyFeatures", Features, Mapping[str, jax.Array])


def universal_linear(
    found: Basis,
    weights: Mapping[str, jax.Array],
    bias: jax.Array | None,
    x: Features,
    *,
    components: bool = False,
    ones: tuple[str, ...] = (),
) -> Features:
    """Apply one combination of the basis maps; :class:`UniversalLinear` as a pure function.

    Args:
        found: the factored basis.
        weights: ``{role name: (members, reads * c_in, writes * c_out)}``.
        bias: ``(writes of constants * c_out,)``, or None.
        x: features with ``c_in`` channels, of any widths.
        components: the weights are those of the orthogonal basis; see :mod:`.components`.
        ones: labels of width one, whose superfluous maps are left out.

    Returns:
        Features with ``c_out`` channels, in the dtype of ``x``.
    """
    widths = x.widths
    weights = masked(found, weights, ones)
    weights = of_components(found, weights, ones) if components else weights
    products = products_of(found, widths)
    operands = operands_of(found, products, x)
    matrices = assemble({**weights}, [[Cell(p.role.name, n) for n in p.members] for p in products])
    results = []
    for product, z, w in zip(products, operands, matrices, strict=True):
        y = times_stacked(z.reshape(z.shape[0], -1, z.shape[-1]), w)
        y = y.reshape(*z.shape[:-1], -1)
        if bias is not None and not product.types[0].key:
            y = y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        results.append(y)
    return written(found, products, results, widths)


class UniversalLinear(eqx.Module):
    """All equivariant linear maps between the features of two specs, plus equivariant biases.

    Equivariant: exchanging units of the network exchanges the layer's output in the same way.
    Complete: at one channel its weights span the whole space of equivariant linear maps. (Named fixed
    axes that units nest over are the exception: the layer treats them like units and is shared over
    them, so that no weight depends on how many layers are stacked.)
    Independent: where units of the spec are only one, maps coincide or vanish, and their weights are held
    at zero, so that the others are a basis. (Units of which there are two or three, several times in
    one block, make further maps coincide; :func:`.count_terms` counts the independent ones.)
    Features are of one network; ``jax.vmap`` the layer over networks.

    Attributes:
        weights: ``{role: (members, reads * c_in, writes * c_out)}``, no axis of which is a width:
            the layer runs on features of any widths, as long as blocks and axes are the same.
        bias: ``(writes of constants * c_out,)``.
        components: whether the weights are those of the orthogonal basis.
        ones: the labels of width one whose superfluous maps are left out.

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
    components: bool = eqx.field(static=True)
    ones: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec | Structure,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array,
        spec_out: Spec | Structure | None = None,
        use_bias: bool = True,
        basis: str = "partition",
        drop_dependent: bool = True,
        widths: Mapping[str, int] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a layer.

        Args:
            spec: annotation of the networks that come in, or the structure of their features.
            c_in, c_out: channels of the features that come in and go out.
            key: of the initial weights, which keep the size of the signal (see :mod:`.initial`).
            spec_out: annotation of what goes out, over the same units; by default ``spec``.
            use_bias: add one constant for every way to tie the indices of each output block.
            basis: what the weights count: ``"partition"``, plain means; or ``"orthogonal"``, components
                that do not mix (the same span, better conditioned; see :mod:`.components`).
            drop_dependent: leave out maps that others contain where the spec has units of width one.
                Shapes stay, so the layer still runs on networks with more of these units; what it does
                is then what one unit let it learn.
            widths: the size of every label, where a structure is given; without it none is dropped.
            dtype: of the weights. The layer computes in the dtype of its features.
        """
        if c_in < 1 or c_out < 1:
            raise ValueError(f"`c_in` and `c_out` must be positive; got {c_in} and {c_out}")
        if basis not in BASES:
            raise ValueError(f"`basis` must be one of {BASES}; got {basis!r}")
        specs = (spec, spec if spec_out is None else spec_out)
        self.inputs, self.outputs = map(structure, specs)
        self.components = basis == "orthogonal"
        known = dict(widths or {})
        for given in specs:
            if isinstance(given, Spec):
                labels = {a for block in structure(given) for a in block.labels}
                known |= {a: given.size_of(a) for a in labels}
        self.ones = tuple(sorted(a for a, n in known.items() if n == 1)) if drop_dependent else ()
        self.weights = initial_weights(
            self.basis,
            c_in,
            c_out,
            key=key,
            components=self.components,
            ones=self.ones,
            dtype=dtype,
        )
        self.bias = jnp.zeros(self.basis.constants * c_out, dtype) if use_bias else None

    @property
    def basis(self) -> Basis:
        """The basis maps that the weights combine."""
        return _basis(self.inputs, self.outputs)

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
        return universal_linear(
            self.basis, self.weights, self.bias, x, components=self.components, ones=self.ones
        )
