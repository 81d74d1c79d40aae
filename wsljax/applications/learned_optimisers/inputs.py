"""What a learned optimiser is told of each weight: its value, its gradient, and what came before.

After Metz, Freeman, Harrison, Maheswaranathan, Sohl-Dickstein, *Practical tradeoffs between memory,
compute, and performance in learned optimizers*, 2022, section 3, and Zhou, Finn, Harrison, *Universal
Neural Functionals*, 2024, section 4.2. Every input is divided by its root mean square over its block, which
no exchange of units changes; the sizes that are lost so come in as logarithms, one for each block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

TIMES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""In steps; the time is told as ``tanh(step / time)`` for each."""

SIZES = 2
"""Logarithms of sizes that are told of each block: of its weights and of its gradients."""

TINY = 1e-16
"""Added to mean squares before roots are taken: gradients below 1e-8 count as none."""


class Accumulators(NamedTuple):
    """Moving averages of gradients; at least float32.

    Attributes:
        count: updates so far.
        momenta: one tree for each rate of decay.
        squares: of the squares.
    """

    count: jax.Array
    momenta: tuple[Any, ...]
    squares: Any


def empty_accumulators(params: Any, decays: Sequence[float]) -> Accumulators:
    """Accumulators before the first gradient."""

    def zeros() -> Any:
        return jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), wide(p)), params)

    return Accumulators(jnp.zeros((), jnp.int32), tuple(zeros() for _ in decays), zeros())


def accumulate(
    old: Accumulators, gradients: Any, decays: Sequence[float], squares_decay: float
) -> Accumulators:
    """Take in one more gradient.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient = {"w": jnp.array([1.0, -2.0])}
        >>> state = accumulate(empty_accumulators(gradient, (0.9,)), gradient, (0.9,), 0.999)
        >>> momenta, squares = unbiased(state, (0.9,), 0.999)
        >>> momenta[0]["w"].round(3), squares["w"].round(3)
        (Array([ 1., -2.], dtype=float32), Array([1., 4.], dtype=float32))
    """

    def average(decay: float, tree: Any, values: Any) -> Any:
        return jax.tree.map(lambda m, g: decay * m + (1 - decay) * g.astype(m.dtype), tree, values)

    wider = jax.tree.map(lambda g, m: g.astype(m.dtype), gradients, old.squares)
    return Accumulators(
        old.count + 1,
        tuple(average(d, m, wider) for d, m in zip(decays, old.momenta, strict=True)),
        average(squares_decay, old.squares, jax.tree.map(jnp.square, wider)),
    )


def unbiased(
    state: Accumulators, decays: Sequence[float], squares_decay: float
) -> tuple[tuple[Any, ...], Any]:
    """Momenta and squares divided by the weight that gradients, not zeros, have in them."""

    def correct(decay: float, tree: Any) -> Any:
        return jax.tree.map(
            lambda m: m / (1 - jnp.asarray(decay, m.dtype) ** state.count.astype(m.dtype)), tree
        )

    momenta = tuple(correct(d, m) for d, m in zip(decays, state.momenta, strict=True))
    return momenta, correct(squares_decay, state.squares)


def number_of_inputs(decays: Sequence[float]) -> int:
    """How many channels :func:`weight_inputs` has."""
    return 3 + 2 * len(decays)


def weight_inputs(
    params: Mapping[str, jax.Array],
    gradients: Mapping[str, jax.Array],
    momenta: Sequence[Mapping[str, jax.Array]],
    squares: Mapping[str, jax.Array],
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The channels of each weight, and the sizes of each block.

    Args:
        params, gradients, momenta, squares: ``{block: array}``, each.

    Returns:
        ``{block: (*shape, channels)}``: weight, gradient, momenta, gradient and momenta over the root
        of the squares, each with mean square one in its block. ``{block: (2,)}``: a tenth of the
        logarithms of what the weights and the gradients were divided by.
    """
    channels, sizes = {}, {}
    for name, p in params.items():
        g, own = gradients[name].astype(squares[name].dtype), [m[name] for m in momenta]
        scale = jax.lax.rsqrt(squares[name] + TINY)
        raw = [p.astype(g.dtype), g, *own, g * scale, *(m * scale for m in own)]
        means = [jnp.mean(jnp.square(x)) + TINY for x in raw]
        stacked = [x * jax.lax.rsqrt(m) for x, m in zip(raw, means, strict=True)]
        channels[name] = jnp.stack(stacked, axis=-1)
        sizes[name] = 0.05 * jnp.log(jnp.stack(means[:SIZES]))
    return channels, sizes


def time_inputs(count: jax.Array, dtype: Any) -> jax.Array:
    """The time, ``(len(TIMES),)``.

    Example:
        >>> print(time_inputs(jnp.int32(10), jnp.float32).round(2))
        [1.   1.   0.76 0.32 0.1  0.03 0.01 0.   0.  ]
    """
    return jnp.tanh(count.astype(dtype) / jnp.asarray(TIMES, dtype))


def wide(x: Any) -> Any:
    """float32 for what is narrower, else the dtype of ``x``."""
    return jnp.promote_types(jnp.asarray(x).dtype, jnp.float32)
