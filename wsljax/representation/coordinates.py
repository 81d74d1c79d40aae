"""NeRN: a small network that says what each weight of another is, from where the weight stands.

Ashkenazi et al., *NeRN: Learning Neural Representations for Neural Networks*, 2023. A weight's place is
its layer, its input, its output and its position in the kernel; sinusoids of these go into a dense
network, whose one output is the weight. Smooth weights are easier to represent, and since units may be
exchanged without changing the function, :func:`~.unit_order.smooth_order` puts them in an order in which neighbours
resemble each other. (The paper also reorders kernels within a layer, which changes the function and
must be stored beside the network; an element of the spec's group needs no storing.)

Training is on the error of the weights and, as the paper has it, on what the rebuilt network computes:
:func:`reconstruction`, :func:`logit_distillation`, :func:`feature_distillation`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..symmetry.spec import Spec
from .parts.norm import standardise
from .universal.initial import normals

SLOTS = 5
"""Axes with encodings of their own, counted from the last (outputs, inputs, kernel); others share."""


class CoordinateNetwork(eqx.Module):
    """Places to weights; called without arguments it is the tree of all weights.

    Attributes:
        places: ``(1 + SLOTS, encodings, width)``: the first layer, split by what is encoded.
        first_bias, hidden, hidden_bias, last: the other layers, the hidden ones stacked and residual.
        scale, centre: ``(leaves,)``, typical size and mean of each leaf.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> net = CoordinateNetwork(spec, 32, 2, key=jax.random.key(0), like=params)
        >>> jax.tree.map(jnp.shape, net())
        {'b': (5,), 'w': (3, 5)}
    """

    places: jax.Array
    first_bias: jax.Array
    hidden: jax.Array
    hidden_bias: jax.Array
    last: jax.Array
    scale: jax.Array
    centre: jax.Array
    spec: Spec = eqx.field(static=True)
    highest: float = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        width: int,
        layers: int,
        *,
        key: jax.Array,
        like: Any = None,
        encodings: int = 32,
        highest: float | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a coordinate network.

        Args:
            spec: annotation of the weights to predict; any architecture.
            width: of the hidden layers.
            layers: how many hidden layers.
            key: of the initial weights.
            like: weights to take the size and the mean of each leaf from; without them 1 and 0.
            encodings: sinusoids of each coordinate, half of them sines.
            highest: the highest frequency, in half turns over an axis; by default the length of the
                longest axis, which tells neighbours apart. Lower ones see smooth weights only.
            dtype: of its weights.

        Raises:
            ValueError: fewer than one layer or two encodings.
        """
        if layers < 1 or encodings < 2 or encodings % 2:
            raise ValueError(
                f"`layers` must be positive and `encodings` even; got {layers} and {encodings}"
            )
        count = len(spec.leaves)
        longest = max([count, *(n for leaf in spec.leaves for n in leaf.shape)])
        self.spec, self.highest = spec, max(2.0, longest) if highest is None else highest
        shapes = ((1 + SLOTS, encodings, width), (width,), (layers, width, width), (layers, width))
        places, bias, hidden, hidden_bias, last = normals(key, (*shapes, (width,)), dtype)
        root = jnp.asarray(width**0.5, dtype)
        self.places = places / jnp.asarray((encodings / 2) ** 0.5, dtype)
        self.first_bias, self.hidden_bias = bias, hidden_bias * jnp.asarray(0.1, dtype)
        self.hidden, self.last = hidden * jnp.asarray(2**0.5, dtype) / root, last / (10 * root)
        leaves = [] if like is None else spec.flatten(like)
        sizes = [float(jnp.std(x)) or float(jnp.abs(x).max()) or 1.0 for x in leaves]
        self.scale = jnp.asarray(sizes or [1.0] * count, dtype)
        self.centre = jnp.asarray([float(jnp.mean(x)) for x in leaves] or [0.0] * count, dtype)

    def __call__(self, spec: Spec | None = None) -> Any:
        """The tree of weights, in the dtype of the network.

        Args:
            spec: another annotation with as many leaves, for instance of other widths: coordinates are
                relative to the length of their axes.

        Raises:
            ValueError: a spec with another number of leaves.
        """
        spec = self.spec if spec is None else spec
        if len(spec.leaves) != len(self.spec.leaves):
            raise ValueError(
                f"the spec has {len(spec.leaves)} leaves, this network predicts "
                f"{len(self.spec.leaves)}; draw one for the spec"
            )
        if spec.treedef is None:
            raise ValueError("the spec does not know its tree; infer or parse it from the weights")
        rows, sizes = [], []
        for n, leaf in enumerate(spec.leaves):
            rows.append(self._first(n, leaf.shape).reshape(-1, self.last.shape[0]))
            sizes.append(rows[-1].shape[0])

        def layer(h: jax.Array, weights: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            w, bias = weights
            return h + jax.nn.gelu(standardise(h) @ w + bias), None

        h = jax.nn.gelu(jnp.concatenate(rows))
        h = jax.lax.scan(layer, h, (self.hidden, self.hidden_bias))[0]
        found = jnp.split(standardise(h) @ self.last, np.cumsum(sizes)[:-1])
        leaves = [
            self.centre[n] + self.scale[n] * x.reshape(leaf.shape)
            for n, (x, leaf) in enumerate(zip(found, spec.leaves, strict=True))
        ]
        return jax.tree.unflatten(spec.treedef, leaves)

    def _first(self, n: int, shape: tuple[int, ...]) -> jax.Array:
        """The first layer at every place of one leaf: a sum over its axes."""
        h = self.first_bias + self._encoded(len(self.spec.leaves), 0)[n]
        h = h.reshape((1,) * len(shape) + (-1,))
        for k, size in enumerate(shape):
            slot = 1 + min(len(shape) - 1 - k, SLOTS - 1)
            wide = [1] * len(shape) + [-1]
            wide[k] = size
            h = h + self._encoded(size, slot).reshape(wide)
        return jnp.broadcast_to(h, (*shape, h.shape[-1]))

    def _encoded(self, size: int, slot: int) -> jax.Array:
        """Sinusoids of the places along one axis through their part of the first layer."""
        place = (np.arange(size) + 0.5) / size
        count = self.places.shape[1] // 2
        angles = pi * place[:, None] * self.highest ** (np.arange(count) / max(count - 1, 1))
        codes = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
        return jnp.asarray(codes, self.places.dtype) @ self.places[slot]


def reconstruction(predicted: Any, params: Any) -> jax.Array:
    """Mean squared error of the weights, every leaf relative to its own variance; 1 is predicting means.

    Example:
        >>> w = {"w": jnp.array([1.0, 3.0])}
        >>> float(reconstruction(w, w)), float(reconstruction({"w": jnp.full(2, 2.0)}, w))
        (0.0, 1.0)
    """
    errors, count = jnp.zeros(()), 0
    for p, x in zip(*map(jax.tree.leaves, (predicted, params)), strict=True):
        size = jnp.var(x)
        size = jnp.where(size > 0, size, jnp.maximum(jnp.mean(jnp.square(x)), 1e-12))
        errors, count = errors + jnp.sum(jnp.square(p - x)) / size, count + x.size
    return errors / count


def logit_distillation(
    student: jax.Array, teacher: jax.Array, temperature: float = 1.0
) -> jax.Array:
    """Kullback-Leibler divergence of the classes that two networks predict, averaged over a batch.

    Args:
        student, teacher: logits ``(batch, classes)`` of the rebuilt and of the original network.
        temperature: logits are divided by it, and the result multiplied by its square. Hinton,
            Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015.

    Example:
        >>> x = jnp.array([[1.0, 2.0]])
        >>> float(logit_distillation(x, x + 3))
        0.0
    """
    p = jax.nn.log_softmax(teacher / temperature)
    q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * jnp.mean(jnp.sum(jnp.exp(p) * (p - q), axis=-1))


def feature_distillation(student: Any, teacher: Any) -> jax.Array:
    """Squared distance between the features of two networks, relative to those of the original.

    Args:
        student, teacher: trees of hidden activations.

    Example:
        >>> float(feature_distillation([jnp.zeros(3)], [jnp.ones(3)]))
        1.0
    """
    pairs = list(zip(*map(jax.tree.leaves, (student, teacher)), strict=True))
    errors = [jnp.mean(jnp.square(s - t)) / jnp.mean(jnp.square(t)) for s, t in pairs]
    return sum(errors, jnp.zeros(())) / max(len(errors), 1)


def fit_coordinates(
    net: CoordinateNetwork,
    loss: Callable[[Any], jax.Array],
    *,
    steps: int,
    rate: float = 1e-2,
) -> tuple[CoordinateNetwork, jax.Array]:
    """Train a coordinate network by Adam with a cosine schedule, gradients clipped to norm one.

    Args:
        net: what to train.
        loss: a function of the predicted tree of weights, for instance
            ``lambda predicted: reconstruction(predicted, params)`` plus multiples of distillations.
        steps: how many.
        rate: the highest learning rate.

    Returns:
        The trained network and the loss at every step.
    """
    import optax

    adam = optax.adam(optax.cosine_decay_schedule(rate, steps))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), adam)
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        arrays, state = carry
        value, grads = jax.value_and_grad(lambda a: loss(eqx.combine(a, rest)()))(arrays)
        updates, state = optimiser.update(grads, state)
        return (eqx.apply_updates(arrays, updates), state), value

    @jax.jit
    def run(arrays):
        return jax.lax.scan(step, (arrays, optimiser.init(arrays)), None, steps)

    (arrays, _), values = run(arrays)
    return eqx.combine(arrays, rest), values
