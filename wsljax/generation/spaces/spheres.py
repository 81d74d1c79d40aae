"""Networks of which the weights into each unit have one length: points on a product of spheres."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry import Spec
from ...zoo.preprocessing.layers import arrays_by_path
from ...zoo.preprocessing.normalise import Normaliser
from ..geometry.incoming import masks, normalising
from ..geometry.spheres import Spheres
from .leaves import Dtypes, dtypes_of, join, shapes, split, unpack, widened, with_dtypes
from .restrict import restrict
from .space import Space
from .weights import about_zero


class SphereSpace(Space):
    """Weights into units that may be scaled, brought to one length; all others normalised.

    ``decode(encode(params))`` is the network of the same function whose incoming weights have these
    lengths. With :attr:`geometry` flows stay on the spheres; with ``Euclidean()`` networks are only
    normalised first.

    Attributes:
        geometry: the product of spheres.
        normaliser: of what is free.

    Example:
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> stack = {"a": jax.random.normal(k1, (9, 4, 3)), "b": jax.random.normal(k2, (9, 3, 2))}
        >>> p, x = jax.tree.map(lambda v: v[0], stack), jax.random.normal(k3, (8, 4))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> space = SphereSpace.fit(stack, spec=spec)
        >>> print(jnp.linalg.norm(space.encode(p)["a"], axis=0).round(4))
        [2. 2. 2.]
        >>> bool(jnp.allclose(fn(space.decode(space.encode(p)), x), fn(p, x), atol=1e-5))
        True
    """

    like: Any
    normaliser: Normaliser
    geometry: Spheres
    others: Any
    spec: Spec = eqx.field(static=True)
    dtypes: Dtypes = eqx.field(static=True)

    @staticmethod
    def fit(networks: Any, *, spec: Spec | None = None, lengths: Any = None) -> SphereSpace:
        """Find the spheres, and take statistics of what is free over training networks.

        Args:
            networks: a ``Population`` or a tree of arrays ``(models, ...)``: training networks alone.
            spec: the symmetry of one network, with ``Scale`` generators; by default that of the
                population.
            lengths: as in :class:`.Spheres`.

        Raises:
            ValueError: no spec, or one without units whose incoming weights may be scaled.
        """
        stack, one, spec = unpack(networks, spec)
        if spec is None:
            raise ValueError(
                "a space of spheres needs a `spec` with scalings: see `symmetry.infer`"
            )
        floating, others = split(one)
        dtypes = dtypes_of(floating)
        spec = restrict(spec, one, [path for path, _ in dtypes])
        geometry = Spheres(spec, lengths=lengths)
        wide = widened(split(stack)[0])
        stack = jax.vmap(lambda p: _normalised(p, geometry))(wide)
        normaliser = about_zero(Normaliser.fit(stack, "block", spec), spec)
        normaliser = _of_the_rest(normaliser, geometry, widened(floating))
        like = shapes(widened(floating))
        return SphereSpace(like, normaliser, geometry, others, spec, dtypes)

    def encode(self, params: Any) -> Any:
        """The network as a point on the product of spheres and free numbers."""
        return self.normaliser.forward(_normalised(widened(split(params)[0]), self.geometry))

    def decode(self, x: Any) -> Any:
        """The network of a point."""
        return join(with_dtypes(self.normaliser.backward(x), self.dtypes), self.others)


def _normalised(floating: Any, geometry: Spheres) -> Any:
    lengths = dict(geometry.lengths)
    element = normalising(floating, geometry.spec, geometry.spheres, lengths)
    return geometry.spec.act(element, floating)


def _of_the_rest(normaliser: Normaliser, geometry: Spheres, like: Any) -> Normaliser:
    """The same that leaves weights on spheres as they are."""
    spec = geometry.spec
    on_spheres = masks(geometry.spheres, spec.blocks(like))
    mask = arrays_by_path(spec.unblocks(on_spheres, like=like))

    def kept(numbers: dict[str, jax.Array], neutral: float) -> dict[str, jax.Array]:
        out = {path: jnp.broadcast_to(x, mask[path].shape) for path, x in numbers.items()}
        return {
            path: jnp.where(mask[path] > 0, jnp.asarray(neutral, x.dtype), x)
            for path, x in out.items()
        }

    return replace(
        normaliser, mean=kept(normaliser.mean, 0.0), deviation=kept(normaliser.deviation, 1.0)
    )
