"""The flat geometry: straight lines, each number for itself."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Euclidean(eqx.Module):
    """Straight lines between trees of arrays.

    Example:
        >>> x, velocity = Euclidean().interpolate(jnp.zeros(2), jnp.array([2.0, 4.0]), jnp.asarray(0.5))
        >>> x.tolist(), velocity.tolist()
        ([1.0, 2.0], [2.0, 4.0])
    """

    def project(self, x: Any) -> Any:
        """The nearest point: ``x``."""
        return x

    def tangent(self, x: Any, v: Any) -> Any:
        """The part of ``v`` that is tangent at ``x``: all of it."""
        return v

    def interpolate(self, x0: Any, x1: Any, t: jax.Array) -> tuple[Any, Any]:
        """The point at ``t`` on the line from ``x0`` to ``x1``, and the velocity."""
        velocity = jax.tree.map(lambda a, b: b - a, x0, x1)
        return jax.tree.map(lambda a, v: a + jnp.asarray(t, a.dtype) * v, x0, velocity), velocity

    def exp(self, x: Any, v: Any) -> Any:
        """Where one gets from ``x`` with the velocity ``v`` in a time of one."""
        return jax.tree.map(lambda a, b: a + b, x, v)

    def log(self, x: Any, y: Any) -> Any:
        """The velocity that leads from ``x`` to ``y`` in a time of one."""
        return jax.tree.map(lambda a, b: b - a, x, y)

    def distance(self, x: Any, y: Any) -> jax.Array:
        """The length of the line between two points."""
        parts = [((a - b) ** 2).sum() for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y))]
        return sum(parts[1:], parts[0]) ** 0.5
