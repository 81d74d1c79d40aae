"""Generated networks whose stored statistics are measured again from data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..understanding.connectivity import reset_statistics
from .generator import Batch, Generator


class Recalibrated(Generator):
    """Another generator, whose networks get means and variances of a BatchNorm from data.

    Statistics that were generated hardly ever fit weights that were generated; all published generators of
    such networks measure them anew, some without saying so. It is a wrapper, so that what is shown
    with it and without it can be told apart.

    Attributes:
        generator: what draws the networks.
        fn: ``fn(params, *inputs)`` in evaluation mode: it reads the stored statistics.
        inputs: trees of arrays with a leading axis of examples: training data.
        chunk: how many examples go through at once; it must divide their number.
    """

    generator: Generator
    inputs: tuple[Any, ...]
    fn: Callable = eqx.field(static=True)
    chunk: int | None = eqx.field(static=True)

    def __init__(self, generator: Generator, fn: Callable, *inputs: Any, chunk: int | None = None):
        """See the class.

        Raises:
            ValueError: no inputs.
        """
        if not inputs:
            raise ValueError("statistics are measured on data: pass `inputs` after the function")
        self.generator, self.fn, self.chunk = generator, fn, chunk
        self.inputs = jax.tree.map(jnp.asarray, inputs)

    def loss(self, batch: Batch, *, key: jax.Array) -> Any:
        return self.generator.loss(batch, key=key)

    def prepare(self, batch: Batch) -> Batch:
        return self.generator.prepare(batch)

    def trainable(self) -> Any:
        nothing = jax.tree.map(lambda _: False, self)
        return eqx.tree_at(lambda g: g.generator, nothing, self.generator.trainable())

    def draw(
        self, key: jax.Array, *, condition: Any = None, guidance: Any = None, **options: Any
    ) -> Any:
        """One network, with the statistics that it has on the data.

        Raises:
            ValueError: the function reads no stored statistics.
        """
        params = self.generator.draw(key, condition=condition, guidance=guidance, **options)
        return reset_statistics(self.fn, params, *self.inputs, chunk=self.chunk).params
