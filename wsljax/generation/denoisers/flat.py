"""A dense denoiser of all weights side by side: what most published flows use.

Knows no symmetry: align the networks first, or train on moved copies. Gupta et al., *DeepWeightFlow*, 2026, take
such a network on aligned, flattened weights; blocks here are modulated by the level (:mod:`.adaptive`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.parts.layers import draw_layers, run_layers
from .adaptive import DenseBlock, adapted
from .levels import LevelEmbedding, Linear, Signal
from .trees import dtype_of, inputs_of, ravel, size_of, unravel


class FlatDenoiser(eqx.Module):
    """A denoiser of vectors, or of trees as one vector; zero at first.

    Attributes:
        signal: level and condition to a vector.
        first: from all numbers to ``width``.
        layers: residual blocks, all in one, run by ``lax.scan``.
        modulation: from the signal to scale and shift before the last map.
        last: to all numbers; zero at first.
        passes: from the signal to a factor of each input, which passes through.

    Example:
        >>> net = FlatDenoiser({"w": jnp.ones((3, 5))}, 16, 2, key=jax.random.key(0))
        >>> net({"w": jnp.ones((3, 5))}, jnp.float32(0.5))["w"].shape
        (3, 5)
    """

    signal: Signal
    first: Linear
    layers: DenseBlock
    modulation: Linear
    last: Linear
    passes: Linear
    beside: int = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __init__(
        self,
        like: Any,
        width: int,
        layers: int,
        *,
        key: jax.Array,
        hidden: int | None = None,
        told: int | None = None,
        beside: int = 0,
        signal: int = 128,
        embed: LevelEmbedding | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a denoiser.

        Args:
            like: what it denoises, or its shapes: ``space.like``.
            width, layers: of the blocks, and how many.
            key: of the initial weights.
            hidden: width of the hidden layer of each block, by default ``2 * width``.
            told: how many numbers the condition has; None where there is none.
            beside: how many networks stand beside.
            signal: size of the vector that level and condition become.
            embed: of the level.
            activation: a function of single numbers.
            dtype: of the weights.
        """
        if beside < 0:
            raise ValueError(f"`beside` is a number of networks; got {beside}")
        keys = jax.random.split(key, 3)
        self.size, self.beside = size_of(like), beside
        self.signal = Signal(signal, told, key=keys[0], embed=embed, dtype=dtype)
        self.first = Linear((1 + beside) * self.size, width, key=keys[1], dtype=dtype)
        inner = 2 * width if hidden is None else hidden
        self.layers = draw_layers(
            lambda key: DenseBlock(
                width, inner, signal, key=key, activation=activation, dtype=dtype
            ),
            layers,
            keys[2],
        )
        self.modulation = Linear(signal, 2 * width, dtype=dtype)
        self.last = Linear(width, self.size, dtype=dtype)
        self.passes = Linear(signal, 1 + beside, dtype=dtype)

    def __call__(
        self,
        x: Any,
        level: jax.Array,
        told: jax.Array | None = None,
        beside: Sequence[Any] | None = None,
    ) -> Any:
        """A tree like ``x``; see :mod:`wsljax.generation.denoisers`."""
        trees = inputs_of(x, beside, self.beside)
        check_size(x, self.size)
        dtype = dtype_of(x)
        signal = self.signal(level, told).astype(dtype)
        rows = jnp.stack([ravel(tree, dtype) for tree in trees])
        h = run_layers(
            self.layers, self.first(rows.reshape(-1)), call=lambda layer, h: layer(h, signal)
        )
        scale, shift = jnp.split(self.modulation(signal), 2)
        return unravel(self.last(adapted(h, scale, shift)) + self.passes(signal) @ rows, x)


def check_size(x: Any, size: int) -> None:
    """That a tree holds so many numbers.

    Raises:
        ValueError: it does not.
    """
    found = size_of(x)
    if found != size:
        hint = "; for a stack of networks use jax.vmap" if found % size == 0 else ""
        raise ValueError(f"there are {found} numbers, the denoiser was drawn for {size}{hint}")
