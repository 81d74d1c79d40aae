"""Conditions that are numbers: metrics that are asked for, embeddings of texts or of datasets."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...representation.blocks.dtypes import cast, wide
from ..denoisers.levels import LevelEmbedding, as_floating
from .condition import Condition, Told


class VectorCondition(Condition):
    """Numbers to a vector: standardised, if wanted with waves of each, through a dense network.

    Attributes:
        mean, deviation: of each number over the training networks; they are not trained.
        embed: sines and cosines of each number, which make small differences of few numbers legible; None
            for embeddings, which are many numbers.
        net: one hidden layer.

    Example:
        >>> condition = VectorCondition.fit(jnp.array([0.1, 0.3]), 16, key=jax.random.key(0), waves=8)
        >>> condition(jnp.asarray(0.2)).vector.shape
        (16,)
    """

    net: eqx.nn.MLP
    embed: LevelEmbedding | None
    mean: tuple[float, ...] = eqx.field(static=True)
    deviation: tuple[float, ...] = eqx.field(static=True)
    size: int | None = eqx.field(static=True)
    beside: int = eqx.field(static=True, default=0)

    def __init__(
        self,
        inputs: int,
        size: int,
        *,
        key: jax.Array,
        mean: Any = 0.0,
        deviation: Any = 1.0,
        waves: int = 0,
        highest: float = 30.0,
        hidden: int | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw one.

        Args:
            inputs: how many numbers a condition has.
            size: of the vector.
            key: of the initial weights.
            mean, deviation: of the numbers, or one for all of them; see :meth:`fit`.
            waves: how many sines and as many cosines of each number.
            highest: their highest frequency, in radians a deviation.
            hidden: width of the hidden layer, by default ``2 * size``.
            dtype: of the weights.
        """
        if inputs < 1 or size < 1 or waves < 0:
            raise ValueError(
                f"`inputs` and `size` must be positive and `waves` not negative; got {inputs}, {size}, "
                f"{waves}"
            )
        self.mean, self.deviation = (
            tuple(np.broadcast_to(np.asarray(v, float), (inputs,)).tolist())
            for v in (mean, deviation)
        )
        if min(self.deviation) <= 0:
            raise ValueError(f"`deviation` must be positive; got {min(self.deviation)}")
        self.embed = LevelEmbedding(2 * waves + 1, highest=highest) if waves else None
        self.net = eqx.nn.MLP(
            inputs * (2 * waves + 1),
            size,
            2 * size if hidden is None else hidden,
            depth=1,
            activation=jax.nn.silu,
            dtype=dtype,
            key=key,
        )
        self.size, self.beside = size, 0

    @staticmethod
    def fit(values: Any, size: int, *, key: jax.Array, **options: Any) -> VectorCondition:
        """With mean and deviation of the conditions ``(networks,)`` or ``(networks, inputs)`` of training.

        Numbers that are not known (NaN) are left out. Options are those of the class.
        """
        values = np.asarray(values, float)
        values = values.reshape(len(values), -1)
        if not np.isfinite(values).any(axis=0).all():
            raise ValueError("`values`: a number of the condition is known of no network")
        deviation = np.nanstd(values, axis=0)
        return VectorCondition(
            values.shape[1],
            size,
            key=key,
            mean=np.nanmean(values, axis=0),
            deviation=np.where(deviation > 0, deviation, 1.0),
            **options,
        )

    def __call__(self, raw: Any, *, key: jax.Array | None = None) -> Told:
        """A number, or ``(inputs,)``."""
        del key
        x = wide(as_floating(raw))
        if x.shape not in {(len(self.mean),), () if len(self.mean) == 1 else (len(self.mean),)}:
            raise ValueError(
                f"the condition has shape {x.shape}; expected ({len(self.mean)},)"
                + ("; for a batch use jax.vmap" if x.ndim > 1 else "")
            )
        mean, deviation = (jnp.asarray(v, x.dtype) for v in (self.mean, self.deviation))
        x = (x.reshape(-1) - mean) / deviation
        if self.embed is not None:
            x = jax.vmap(self.embed)(x).reshape(-1)
        return Told(cast(self.net, x.dtype)(x))
