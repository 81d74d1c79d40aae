"""Generators that mix coordinates by matrices: ``Linear`` and ``Orthogonal``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm

from ..._compat import orthonormal_columns
from .base import Generator, default_float, wider


@dataclass(frozen=True)
class Matrices(Generator):
    """A group of matrices that multiply an axis from the right, one for each index of ``over``."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.sizes, self.size, self.size)

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.over, self.units or "_", self.units or "_")

    def neutral(self) -> jax.Array:
        return jnp.broadcast_to(jnp.eye(self.size, dtype=default_float()), self.shape)

    def multiply(self, second: jax.Array, first: jax.Array) -> jax.Array:
        return _matmul(first, second)


@dataclass(frozen=True)
class Linear(Matrices):
    """All invertible matrices: query and key, value and output of a head, a linear bottleneck.

    ``pairs``, if not empty, restricts them to rotations with scaling in the plane of each pair of
    coordinates (what is left of query and key under rotary positions).
    """

    pairs: tuple[tuple[int, int], ...] = ()

    kind: ClassVar[str] = "linear"

    @property
    def algebra_shape(self) -> tuple[int, ...]:
        return (*self.sizes, len(self.pairs), 2) if self.pairs else self.shape

    def invert(self, g: jax.Array) -> jax.Array:
        return jnp.linalg.inv(g)

    def exp(self, v: jax.Array) -> jax.Array:
        if not self.pairs:
            return _expm(v)
        first, second = (jnp.asarray(c) for c in zip(*self.pairs, strict=True))
        radius, cos, sin = jnp.exp(v[..., 0]), jnp.cos(v[..., 1]), jnp.sin(v[..., 1])
        rest = [i for i in range(self.size) if not any(i in p for p in self.pairs)]
        out = jnp.zeros(self.shape, v.dtype)
        out = out.at[..., first, first].set(radius * cos).at[..., second, second].set(radius * cos)
        out = out.at[..., first, second].set(radius * sin)
        out = out.at[..., second, first].set(-radius * sin)
        return out.at[..., jnp.asarray(rest, int), jnp.asarray(rest, int)].set(1)

    def draw(self, key: jax.Array) -> jax.Array:
        if self.pairs:
            return super().draw(key)
        k1, k2 = jax.random.split(
            key
        )  # a rotation times a triangle: every matrix, well conditioned
        x = 0.5 * jax.random.normal(k2, self.shape, default_float())
        one = jnp.eye(self.size, dtype=x.dtype)
        return _matmul(
            _rotation(k1, self.shape), one * jnp.exp(x) + jnp.triu(x, 1) / self.size**0.5
        )

    def matrix(self, g: jax.Array, exponent: float) -> jax.Array:
        return g if exponent > 0 else jnp.swapaxes(jnp.linalg.inv(g), -1, -2)


@dataclass(frozen=True)
class Orthogonal(Matrices):
    """All orthogonal matrices: radial activations, the residual stream of RMSNorm.

    ``centred`` restricts them to those that leave the mean of the coordinates where it is (rows and columns
    sum to one): what is left where a LayerNorm subtracts that mean.
    """

    centred: bool = False

    kind: ClassVar[str] = "orthogonal"

    @property
    def turned(self) -> int:
        """Number of coordinates that are turned: all, or those beside the mean."""
        return self.size - self.centred

    @property
    def algebra_shape(self) -> tuple[int, ...]:
        """The entries above the diagonal of a skew matrix."""
        return (*self.sizes, self.turned * (self.turned - 1) // 2)

    def invert(self, g: jax.Array) -> jax.Array:
        return jnp.swapaxes(g, -1, -2)

    def exp(self, v: jax.Array) -> jax.Array:
        n = self.turned
        rows, columns = jnp.triu_indices(n, 1)
        upper = jnp.zeros((*self.sizes, n, n), v.dtype).at[..., rows, columns].set(v)
        return self._beside_mean(_expm(upper - jnp.swapaxes(upper, -1, -2)))

    def draw(self, key: jax.Array) -> jax.Array:
        n = self.turned
        return self._beside_mean(_rotation(key, (*self.sizes, n, n)))

    def _beside_mean(self, q: jax.Array) -> jax.Array:
        """The matrix that turns what is orthogonal to the mean by ``q``."""
        if not self.centred:
            return q
        basis = jnp.asarray(mean_free(self.size), q.dtype)
        turned = _matmul(_matmul(basis, q), basis.T)
        return turned + jnp.asarray(1 / self.size, q.dtype)

    def matrix(self, g: jax.Array, exponent: float) -> jax.Array:
        return g


def mean_free(n: int) -> np.ndarray:
    """An orthonormal basis, ``(n, n - 1)``, of the vectors that sum to zero."""
    helmert = np.zeros((n, n - 1))
    for k in range(n - 1):
        helmert[: k + 1, k], helmert[k + 1, k] = 1.0, -(k + 1.0)
    return helmert / np.linalg.norm(helmert, axis=0)


def _expm(v: jax.Array) -> jax.Array:
    flat = v.reshape(-1, *v.shape[-2:])
    return jax.vmap(expm)(flat).reshape(v.shape)


def _rotation(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Orthogonal matrices, uniformly."""
    return orthonormal_columns(jax.random.normal(key, shape, default_float()))


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    dtype = wider(a.dtype, b.dtype)
    return jnp.matmul(a.astype(dtype), b.astype(dtype), precision="highest")
