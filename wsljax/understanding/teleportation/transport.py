"""How what belongs to the params moves when they do: points, directions, and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ...symmetry import Spec
from .action import Action


@dataclass(frozen=True)
class Transport:
    """The move from ``params`` to ``forward(params)``, for all that is attached to them.

    Attributes:
        forward: a map of params to params.
        backward: its inverse.
        params: where the move begins.
    """

    forward: Callable[[Any], Any]
    backward: Callable[[Any], Any]
    params: Any

    def point(self, other: Any) -> Any:
        """Other params, moved likewise."""
        return self.forward(other)

    def vector(self, direction: Any) -> Any:
        """A direction at ``params`` (an update) as one at the new point."""
        return jax.jvp(self.forward, (self.params,), (_as(direction, self.params),))[1]

    def covector(self, gradient: Any) -> Any:
        """A gradient at ``params`` as one at the new point: ``(d backward / dp)^T gradient`` there.

        For a loss that the move leaves unchanged this is its gradient at the new point, exactly.
        """
        moved = self.forward(self.params)
        return jax.vjp(self.backward, moved)[1](_as(gradient, moved))[0]


def by_element(spec: Spec, g: Mapping[str, jax.Array], params: Any) -> Transport:
    """The move by an element of a spec's group."""
    inverse = spec.inverse(g)
    return Transport(lambda p: spec.act(g, p), lambda p: spec.act(inverse, p), params)


def along_path(action: Action, path: Any, params: Any) -> Transport:
    """The move by the steps of ``path`` (directions stacked along a leading axis) in turn."""

    def back(p: Any) -> Any:
        step = lambda q, v: (action.act(jax.tree.map(jnp.negative, v), q), None)  # noqa: E731
        return jax.lax.scan(step, p, path, reverse=True)[0]

    def forth(p: Any) -> Any:
        return jax.lax.scan(lambda q, v: (action.act(v, q), None), p, path)[0]

    return Transport(forth, back, params)


def covector_along(action: Action, v: Any, params: Any, gradient: Any) -> Any:
    """A gradient at ``params``, moved by the element in the direction ``v``; differentiable in ``v``."""
    back = lambda q: action.act(jax.tree.map(jnp.negative, v), q)  # noqa: E731
    return jax.vjp(back, action.act(v, params))[1](gradient)[0]


def _as(tree: Any, like: Any) -> Any:
    return jax.tree.map(lambda x, p: jnp.asarray(x).astype(jnp.asarray(p).dtype), tree, like)
