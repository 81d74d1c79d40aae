"""Networks that take a few steps on the training data after they were drawn, and networks of new starts.

Steps on the training data are training: what a generator is worth shows beside the same steps from a new start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optax

from wsljax import zoo
from wsljax.generation import Batch, Generator


class NewStart(Generator):
    """Networks as they are initialised, for training.

    Attributes:
        function: what initialises them.
    """

    function: zoo.Function = eqx.field(static=True)

    def loss(self, batch: Batch, *, key: jax.Array) -> Any:
        raise TypeError("a new start has nothing to fit; call `sample` on it as it is.")

    def draw(self, key, *, condition=None, guidance=None, **options) -> Any:
        return self.function.init(key=key)


class StepsAfter(Generator):
    """What another generator draws, after steps of Adam on all training data.

    Attributes:
        generator: fitted.
        loss_of_network: `loss(params, *inputs)`.
        inputs: the training data.
        steps, rate: of Adam.
    """

    generator: Generator
    loss_of_network: Callable[..., jax.Array] = eqx.field(static=True)
    inputs: tuple[Any, ...]
    steps: int = eqx.field(static=True)
    rate: float = eqx.field(static=True)

    def loss(self, batch: Batch, *, key: jax.Array) -> Any:
        raise TypeError("fit the generator that draws; the steps after are not learned.")

    def draw(self, key, **options) -> Any:
        network = self.generator.draw(key, **options)
        optimiser = optax.adam(self.rate)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            network, state = carry
            gradient = jax.grad(self.loss_of_network)(network, *self.inputs)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(network, updates), state), None

        carry = network, optimiser.init(network)
        return jax.lax.scan(step, carry, None, length=self.steps)[0][0]
