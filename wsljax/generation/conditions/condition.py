"""What a generator is told: one raw condition (a class, numbers, a dataset, a network) to vectors and trees."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp


class Told(NamedTuple):
    """What a denoiser is told of a condition.

    Attributes:
        vector: ``(size,)``, or None.
        beside: networks that stand beside the one that is generated, as they are: weights, that a
            generator brings into its space (:meth:`encoded`).
        shown: for each network beside, 1, or 0 where it is hidden (for classifier-free guidance).
    """

    vector: jax.Array | None = None
    beside: tuple[Any, ...] = ()
    shown: tuple[jax.Array, ...] = ()

    def encoded(self, encode: Callable[[Any], Any]) -> Told:
        """The same with the networks beside in a space, zero where they are hidden.

        Args:
            encode: of the space, for one network.
        """
        beside = []
        for tree, shown in zip(self.beside, self.shown, strict=True):
            x = encode(tree)
            beside.append(jax.tree.map(lambda a, s=shown: a * s.astype(a.dtype), x))
        return Told(self.vector, tuple(beside), self.shown)


class Condition(eqx.Module):
    """Turns one raw condition into what a denoiser is told; ``jax.vmap`` for a batch.

    Attributes:
        size: of the vector, None if there is none: the ``told`` of a denoiser.
        beside: how many networks stand beside: the ``beside`` of a denoiser.
    """

    size: eqx.AbstractVar[int | None]
    beside: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        """What is told of one raw condition.

        Args:
            raw: of one sample.
            key: in training, by which some conditions are hidden (:class:`.Dropped`); without one none is.
        """

    def null(self, raw: Any = None) -> Told:
        """What is told where nothing is, for classifier-free guidance.

        Args:
            raw: any raw condition, for its shapes; what is in it does not matter.

        Raises:
            ValueError: the condition was not trained to be left out.
        """
        raise ValueError(
            f"{type(self).__name__} always tells something; to leave it out sometimes, and to be guided "
            "by the difference, draw the generator with `Dropped(condition, key=key)`"
        )

    def missing(self, raw: Any) -> jax.Array:
        """Whether a raw condition is not known, a Boolean: some of its numbers are NaN."""
        found = [jnp.isnan(x).any() for x in jax.tree.leaves(raw) if _is_floating(x)]
        return jnp.any(jnp.stack(found)) if found else jnp.asarray(False)


def _is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


class Conditions(Condition):
    """Several conditions at once; raw ones are ``{name: raw condition}``.

    Vectors are put side by side, and so are networks beside, in the order of the names given here.

    Example:
        >>> from wsljax.generation.conditions import ClassCondition, VectorCondition
        >>> keys = jax.random.split(jax.random.key(0))
        >>> both = Conditions(
        ...     {"digit": ClassCondition(10, 4, key=keys[0]), "loss": VectorCondition(1, 8, key=keys[1])}
        ... )
        >>> both.size, both({"digit": jnp.asarray(3), "loss": jnp.asarray(0.1)}).vector.shape
        (12, (12,))
    """

    members: dict[str, Condition]
    names: tuple[str, ...] = eqx.field(static=True)
    size: int | None = eqx.field(static=True)
    beside: int = eqx.field(static=True)

    def __init__(self, members: Mapping[str, Condition]):
        if not members:
            raise ValueError("`members` is empty; give at least one condition")
        self.members = dict(members)
        self.names = tuple(members)
        sizes = [c.size for c in members.values() if c.size is not None]
        self.size = sum(sizes) if sizes else None
        self.beside = sum(c.beside for c in members.values())

    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        self._check(raw)
        keys: Any = (
            [None] * len(self.names) if key is None else jax.random.split(key, len(self.names))
        )
        return self._joined(
            self.members[name](raw[name], key=k) for name, k in zip(self.names, keys, strict=True)
        )

    def null(self, raw: Any = None) -> Told:
        """Of every member its own null."""
        if raw is not None:
            self._check(raw)
        found = (None if raw is None else raw[name] for name in self.names)
        return self._joined(
            self.members[name].null(one) for name, one in zip(self.names, found, strict=True)
        )

    def missing(self, raw: Any) -> jax.Array:
        """Whether any of them is not known."""
        self._check(raw)
        found = [self.members[name].missing(raw[name]) for name in self.names]
        return jnp.any(jnp.stack(found))

    def _check(self, raw: Any) -> None:
        if not isinstance(raw, Mapping) or set(raw) != set(self.names):
            found = sorted(raw) if isinstance(raw, Mapping) else type(raw).__name__
            raise ValueError(f"the condition is {found}; expected {{name: …}} for {self.names}")

    @staticmethod
    def _joined(parts: Any) -> Told:
        parts = list(parts)
        vectors = [p.vector for p in parts if p.vector is not None]
        dtype = jnp.result_type(*vectors) if vectors else None
        return Told(
            jnp.concatenate([v.astype(dtype) for v in vectors]) if vectors else None,
            sum((p.beside for p in parts), ()),
            sum((p.shown for p in parts), ()),
        )
