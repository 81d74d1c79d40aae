"""A product of spheres: the weights into each unit have one length, and paths turn them.

For networks whose units may be scaled (see ``incoming.py``) the lengths of the weights going in say nothing
about the function. Flows on the product of spheres leave them alone: they move along great circles there,
and along straight lines in what is free.

References: R. Chen, Y. Lipman, "Flow matching on general geometries", ICLR 2024 (geodesic paths, closed
form on spheres); for the spheres of networks, L. Huang et al., "Projection based weight normalization",
Pattern Recognition 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry import Generator, Spec
from .euclidean import Euclidean
from .incoming import Blocks, incoming, masks, products, radii, scaled, squares


class Spheres(eqx.Module):
    """Great circles for the weights into each unit, straight lines for all others.

    Points are trees that the spec describes, as ``SphereSpace`` gives them; :meth:`project` makes one of any
    tree. Every tangent velocity is orthogonal to the weights into each unit, and every path keeps their
    lengths.

    Attributes:
        spec: of the trees.
        spheres: the generators whose ways in are spheres, as :func:`incoming` gives them.
        lengths: pairs of a generator's name and the radius of its spheres.

    Example:
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jax.random.normal(jax.random.key(0), (4, 3)), "b": jnp.ones((3, 2))}
        >>> inputs = jax.random.normal(jax.random.key(1), (8, 4))
        >>> spec = symmetry.infer(fn, p, inputs, kinds=("permutation", "scale"))
        >>> geometry = Spheres(spec)
        >>> x0, x1 = geometry.project(p), geometry.project(jax.tree.map(jnp.cos, p))
        >>> x, v = geometry.interpolate(x0, x1, jnp.asarray(0.3))
        >>> print(jnp.linalg.norm(x["a"], axis=0).round(4))
        [2. 2. 2.]
        >>> bool(jnp.all(jnp.abs(jnp.sum(x["a"] * v["a"], 0)) < 1e-5))
        True
    """

    spec: Spec = eqx.field(static=True)
    spheres: tuple[Generator, ...] = eqx.field(static=True)
    lengths: tuple[tuple[str, float], ...] = eqx.field(static=True)

    def __init__(self, spec: Spec, *, lengths: Mapping[str, float] | float | None = None):
        """Find the spheres.

        Args:
            spec: with ``Scale`` generators.
            lengths: the radius of all spheres, or of those of each generator by its name; by default the
                square root of the number of weights, at which each of them is of size one.

        Raises:
            ValueError: a spec without units whose way in may be scaled, or a radius that is not positive.
        """
        self.spec, self.spheres = spec, incoming(spec)
        if not self.spheres:
            raise ValueError(
                "this spec has no unit whose incoming weights may be scaled: infer it with "
                'kinds=("permutation", "scale"), or use `Euclidean`'
            )
        if isinstance(lengths, (int, float)):
            lengths = {gen.name: float(lengths) for gen in self.spheres}
        found = radii(self.spheres, spec) | dict(lengths or {})
        self.lengths = tuple((gen.name, found[gen.name]) for gen in self.spheres)
        if any(r <= 0 for _, r in self.lengths):
            raise ValueError(f"lengths of weights must be positive, got {dict(self.lengths)}")

    def project(self, x: Any) -> Any:
        """The nearest point of the product; weights that are all zero stay where they are."""
        return self._on_spheres(lambda r, gen, x: scaled(gen, r * _inverse(squares(gen, x)), x), x)

    def tangent(self, x: Any, v: Any) -> Any:
        """The part of ``v`` that is tangent at ``x``."""

        def without_radial(_, gen, x, v):
            share = products(gen, x, v) * _inverse(squares(gen, x)) ** 2
            radial = scaled(gen, share, {t.block: x[t.block] for t in gen.terms})
            mask = masks([gen], x)
            return {t.block: v[t.block] - mask[t.block] * radial[t.block] for t in gen.terms}

        return self._on_spheres(without_radial, x, v, base=1)

    def interpolate(self, x0: Any, x1: Any, t: jax.Array) -> tuple[Any, Any]:
        """The point at ``t`` on the shortest path from ``x0`` to ``x1``, and the velocity there.

        Between opposite points of a sphere no path is the shortest; one that is nearly so is taken.
        """
        line, velocity = Euclidean().interpolate(x0, x1, t)

        def point(_, gen, x0, x1, *line):
            first, second = _slerp(_angle(gen, x0, x1), t)
            return _mixed(gen, first, x0, second, x1, line[0])

        def speed(_, gen, x0, x1, *line):
            first, second = _slerp_velocity(_angle(gen, x0, x1), t)
            return _mixed(gen, first, x0, second, x1, line[0])

        return (
            self._on_spheres(point, x0, x1, line, base=2),
            self._on_spheres(speed, x0, x1, velocity, base=2),
        )

    def exp(self, x: Any, v: Any) -> Any:
        """Where one gets from ``x`` with the tangent velocity ``v`` in a time of one."""
        there = Euclidean().exp(x, v)

        def turned(r, gen, x, v, there):
            angle = _root(squares(gen, v)) / r
            return _mixed(gen, jnp.cos(angle), x, jnp.sinc(angle / jnp.pi), v, there)

        return self.project(self._on_spheres(turned, x, v, there, base=2))

    def log(self, x: Any, y: Any) -> Any:
        """The velocity that leads from ``x`` to ``y`` in a time of one."""
        return self.interpolate(x, y, jnp.zeros(()))[1]

    def distance(self, x: Any, y: Any) -> jax.Array:
        """The length of the shortest path."""
        return Euclidean().distance(self.log(x, y), jax.tree.map(jnp.zeros_like, x))

    def _on_spheres(self, fn: Callable[..., Blocks], *trees: Any, base: int = 0) -> Any:
        """The tree ``trees[base]`` with ``fn(radius, sphere, *blocks)`` in its place on each sphere."""
        blocks = [self.spec.blocks(tree) for tree in trees]
        out = dict(blocks[base])
        for gen, (_, radius) in zip(self.spheres, self.lengths, strict=True):
            used = blocks.copy()
            used[base] = out
            parts = [{t.block: b[t.block] for t in gen.terms} for b in used]
            out |= fn(radius, gen, *parts)
        return self.spec.unblocks(out, like=trees[base])


def _inverse(square: jax.Array) -> jax.Array:
    """One over the root, and one where there is nothing; with a derivative."""
    alive = square > 0
    return jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, square, 1)), 1)


def _mixed(gen: Generator, first, x0: Blocks, second, x1: Blocks, rest: Blocks) -> Blocks:
    """``first * x0 + second * x1`` on the way in, ``rest`` elsewhere in these blocks."""
    a, b, mask = scaled(gen, first, x0), scaled(gen, second, x1), masks([gen], x0)
    return {n: jnp.where(mask[n] > 0, a[n] + b[n], rest[n]) for n in mask}


def _angle(gen: Generator, x0: Blocks, x1: Blocks) -> jax.Array:
    """Between 0 and pi; exact for small ones too."""
    inverse = [_inverse(squares(gen, x)) for x in (x0, x1)]
    u, v = (scaled(gen, s, x) for s, x in zip(inverse, (x0, x1)))
    apart = squares(gen, {n: u[n] - v[n] for n in u})
    together = squares(gen, {n: u[n] + v[n] for n in u})
    return 2 * jnp.arctan2(_root(apart), _root(together))


def _root(square: jax.Array) -> jax.Array:
    alive = square > 0
    return jnp.where(alive, jnp.sqrt(jnp.where(alive, square, 1)), 0)


def _slerp(angle: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``sin((1 - t) angle) / sin(angle)`` and ``sin(t angle) / sin(angle)``."""
    t = jnp.asarray(t, angle.dtype)
    whole = jnp.sinc(jnp.minimum(angle / jnp.pi, 1 - 1e-6))
    return (1 - t) * jnp.sinc((1 - t) * angle / jnp.pi) / whole, t * jnp.sinc(
        t * angle / jnp.pi
    ) / whole


def _slerp_velocity(angle: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    t = jnp.asarray(t, angle.dtype)
    whole = jnp.sinc(jnp.minimum(angle / jnp.pi, 1 - 1e-6))
    return -jnp.cos((1 - t) * angle) / whole, jnp.cos(t * angle) / whole
