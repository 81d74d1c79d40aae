"""Conditions that are datasets: the examples a network should be good at, as a set.

Soro et al., *Diffusion-Based Neural Network Weights Generation*, 2024, condition on datasets by a set encoder;
so do Lee et al., *Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets*, 2021. The order
of the examples does not matter, and masked ones are as if they were not there.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.blocks.dtypes import wide
from ...representation.parts.norm import standardise
from ...representation.parts.set_attention import SetEncoder
from ..denoisers.levels import Linear, as_floating
from .condition import Condition, Told


class Examples(NamedTuple):
    """A dataset.

    Attributes:
        inputs: ``(examples, ...)``.
        labels: ``(examples,)`` classes, or ``(examples, outputs)`` numbers; None where there are none.
        mask: ``(examples,)``, true for those that count; None for all.
    """

    inputs: Any
    labels: Any = None
    mask: Any = None


class SetCondition(Condition):
    """A dataset to a vector, the same for all orders of its examples.

    Attributes:
        inputs: of what an example is.
        classes: a learned vector for each class of labels; None without.
        targets: of labels that are numbers; None without.
        encoder: of the set.
        out: to the vector.

    Example:
        >>> condition = SetCondition((8, 8), 16, classes=10, key=jax.random.key(0))
        >>> data = Examples(jnp.ones((5, 8, 8)), jnp.array([0, 1, 2, 1, 0]))
        >>> condition(data).vector.shape
        (16,)
    """

    inputs: Linear
    classes: jax.Array | None
    targets: Linear | None
    encoder: SetEncoder
    out: Linear
    shape: tuple[int, ...] = eqx.field(static=True)
    size: int | None = eqx.field(static=True)
    beside: int = eqx.field(static=True, default=0)

    def __init__(
        self,
        shape: tuple[int, ...],
        size: int,
        *,
        key: jax.Array,
        classes: int | None = None,
        outputs: int | None = None,
        channels: int = 64,
        layers: int = 2,
        points: int = 8,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw one.

        Args:
            shape: of one example's input.
            size: of the vector.
            key: of the initial weights.
            classes: how many classes labels have; None where they are no classes.
            outputs: how many numbers labels have; None where they are no numbers.
            channels, layers, points: of the :class:`~wsljax.representation.parts.set_attention.SetEncoder`.
            dtype: of the weights.
        """
        if classes is not None and outputs is not None:
            raise ValueError("labels are classes or numbers; give `classes` or `outputs`, not both")
        keys = jax.random.split(key, 4)
        self.shape, self.size, self.beside = tuple(shape), size, 0
        self.inputs = Linear(prod(shape), channels, key=keys[0], dtype=dtype)
        self.classes = self.targets = None
        if classes is not None:
            self.classes = jax.random.normal(keys[1], (classes, channels), dtype)
        if outputs is not None:
            self.targets = Linear(outputs, channels, key=keys[1], dtype=dtype)
        self.encoder = SetEncoder(channels, layers, key=keys[2], points=points, dtype=dtype)
        self.out = Linear(channels, size, key=keys[3], dtype=dtype)

    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        """A dataset: :class:`Examples`, or its inputs alone."""
        del key
        data = raw if isinstance(raw, Examples) else Examples(raw)
        x = wide(as_floating(data.inputs))
        if x.ndim < 1 or x.shape[1:] != self.shape:
            raise ValueError(
                f"the examples have shape {x.shape}; expected (examples, "
                f"{', '.join(map(str, self.shape))})"
            )
        mask = None if data.mask is None else jnp.asarray(data.mask, bool)
        x = x.reshape(len(x), -1)
        if mask is not None:
            x = jnp.where(mask[:, None], x, 0)
        tokens = self.inputs(x) + self._labels(data.labels, x.dtype, mask)
        vector, _ = self.encoder(tokens, mask)
        return Told(self.out(standardise(vector)))

    def missing(self, raw: Any) -> jax.Array:
        """Examples that count have NaN among their inputs, or none counts."""
        data = raw if isinstance(raw, Examples) else Examples(raw)
        x = as_floating(data.inputs)
        mask = jnp.ones(len(x), bool) if data.mask is None else jnp.asarray(data.mask, bool)
        bad = jnp.isnan(x.reshape(len(x), -1)).any(axis=1)
        return jnp.any(bad & mask) | ~jnp.any(mask)

    def _labels(self, labels: Any, dtype: jnp.dtype, mask: jax.Array | None) -> jax.Array | float:
        if (labels is None) != (self.classes is None and self.targets is None):
            raise ValueError(
                "the dataset has "
                + ("no labels, " if labels is None else "labels, ")
                + "the condition was drawn "
                + ("with" if labels is None else "without")
                + " them: see `classes` and `outputs`"
            )
        if labels is None:
            return 0.0
        if self.classes is not None:
            return self.classes.astype(dtype)[jnp.asarray(labels)]
        assert self.targets is not None
        y = jnp.asarray(labels, dtype)
        y = y.reshape(len(y), -1)
        return self.targets(y if mask is None else jnp.where(mask[:, None], y, 0))
