"""Networks in one form by what they say: each fitted anew, all from one start.

Where networks of other starts differ by more than their symmetry, no exchange of units brings them together. Fitted
to the outputs of each, from one start and by the same steps, networks lie side by side: weights then say
what the functions say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from wsljax.generation.spaces import IdentitySpace, Space

AT_ONCE = 64


class RefittedSpace(Space):
    """A network fitted to the outputs of another one at given inputs.

    A projection: `decode(encode(params))` says nearly the same at these inputs, and is another network.

    Attributes:
        start: the network that all fits start from.
        inputs: where outputs are compared: training data, or coordinates.
        function: `function(params, inputs)`.
        steps, rate, batch: of the fit; SGD with momentum for classes, else Adam on all inputs. All networks
            see the same batches in the same order.
        temperature: outputs are logits, compared as classes at this temperature; None: by squares.

    Reference: for classes, Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015.
    """

    like: Any
    start: Any
    inputs: jax.Array
    function: Callable[..., jax.Array] = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    rate: float = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    temperature: float | None = eqx.field(static=True)

    def __init__(
        self, start: Any, inputs: Any, function: Callable[..., jax.Array], *, steps: int,
        rate: float, batch: int = 64, temperature: float | None = None,
    ):  # fmt: skip
        """See the class."""
        self.like = IdentitySpace(start).like
        self.start, self.inputs, self.function = start, jnp.asarray(inputs), function
        self.steps, self.rate, self.temperature = int(steps), float(rate), temperature
        self.batch = min(int(batch), len(self.inputs))

    def encode(self, params: Any) -> Any:
        """The fitted network."""
        wanted = self.function(params, self.inputs)
        schedule = optax.cosine_decay_schedule(self.rate, self.steps)
        classes = self.temperature is not None
        optimiser = optax.sgd(schedule, 0.9) if classes else optax.adam(schedule)

        def loss(network: Any, rows: jax.Array) -> jax.Array:
            said, goal = self.function(network, self.inputs[rows]), wanted[rows]
            if self.temperature is None:
                return jnp.mean((said - goal) ** 2)
            soft = jax.nn.softmax(goal / self.temperature)
            found = optax.softmax_cross_entropy(said / self.temperature, soft)
            return self.temperature**2 * found.mean()

        def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
            network, state = carry
            rows = jnp.arange(len(self.inputs))
            if classes:
                key = jax.random.fold_in(jax.random.key(0), number)
                rows = jax.random.randint(key, (self.batch,), 0, len(self.inputs))
            updates, state = optimiser.update(jax.grad(loss)(network, rows), state)
            return (optax.apply_updates(network, updates), state), None

        start = jax.tree.map(jnp.asarray, self.start)
        carry = start, optimiser.init(start)
        return jax.lax.scan(step, carry, jnp.arange(self.steps))[0][0]

    def encode_all(self, params: Any) -> Any:
        """Many networks, some at a time."""
        return jax.jit(lambda p: jax.lax.map(self.encode, p, batch_size=AT_ONCE))(params)

    def decode(self, x: Any) -> Any:
        """The network, as it is."""
        return x
