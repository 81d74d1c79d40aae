"""Conditions that are sometimes hidden, so that one network learns both distributions.

Ho and Salimans, *Classifier-Free Diffusion Guidance*, 2022. What is told where nothing is, is learned.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .condition import Condition, Told


class Dropped(Condition):
    """A condition that in training is replaced by a learned null at random.

    Also where it is not known (a class below 0, numbers that are NaN). Nothing of a hidden condition
    is left in what is told, nor in gradients.

    Attributes:
        condition: what is hidden.
        nothing: the learned null, ``(size,)``; None where there is no vector.
        rate: how often it is hidden.

    Example:
        >>> from wsljax.generation.conditions import ClassCondition
        >>> keys = jax.random.split(jax.random.key(0))
        >>> condition = Dropped(ClassCondition(10, 4, key=keys[0]), rate=0.1, key=keys[1])
        >>> shown, null = condition(jnp.asarray(3)), condition.null()
        >>> bool((shown.vector == null.vector).any())
        False
    """

    condition: Condition
    nothing: jax.Array | None
    rate: float = eqx.field(static=True)
    size: int | None = eqx.field(static=True)
    beside: int = eqx.field(static=True)

    def __init__(
        self,
        condition: Condition,
        rate: float = 0.1,
        *,
        key: jax.Array,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Hide ``condition`` with probability ``rate``; ``key`` draws the null."""
        if not 0 <= rate <= 1:
            raise ValueError(f"`rate` is a probability; got {rate}")
        self.condition, self.rate = condition, rate
        self.size, self.beside = condition.size, condition.beside
        self.nothing = None
        if condition.size is not None:
            self.nothing = jax.random.normal(key, (condition.size,), dtype)

    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        hidden = self.condition.missing(raw)
        inner = None
        if key is not None:
            own, inner = jax.random.split(key)
            hidden = hidden | jax.random.bernoulli(own, self.rate)
        blank = _blank(raw)
        safe = jax.tree.map(lambda a, b: jnp.where(hidden, b, a), raw, blank)
        told = self.condition(safe, key=inner)
        vector = told.vector
        if vector is not None:
            assert self.nothing is not None
            vector = jnp.where(hidden, self.nothing.astype(vector.dtype), vector)
        shown = tuple(s * ~hidden for s in told.shown)
        return Told(vector, told.beside, shown)

    def null(self, raw: Any = None) -> Told:
        """The learned null; networks beside are hidden.

        Raises:
            ValueError: there are networks beside, and no ``raw`` to tell their shapes.
        """
        if not self.beside:
            return Told(self.nothing)
        if raw is None:
            raise ValueError(
                "a condition with networks beside has a null of their shapes; give any raw condition"
            )
        told = self.condition(_blank(raw))
        return Told(self.nothing, told.beside, tuple(jnp.zeros_like(s) for s in told.shown))


def _blank(raw: Any) -> Any:
    """A raw condition of zeros, masks all true: a valid one of the same shapes, whatever was in it."""

    def blank(x: Any) -> Any:
        if not hasattr(x, "dtype"):
            return x
        if x.dtype == bool:
            return jnp.ones_like(x)
        return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.number) else x

    return jax.tree.map(blank, raw)
