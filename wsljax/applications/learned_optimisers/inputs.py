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
        momenta: a tree like the weights, each leaf with a last axis of the rates of decay.
        squares: of the squares, a tree like the weights.
    """

    count: jax.Array
    momenta: Any
    squares: Any


def empty_accumulators(params: Any, decays: Sequence[float]) -> Accumulators:
    """Accumulators before the first gradient."""

    def zeros(*axes: int) -> Any:
        return jax.tree.map(lambda p: jnp.zeros((*jnp.shape(p), *axes), wide(p)), params)

    return Accumulators(jnp.zeros((), jnp.int32), zeros(len(decays)), zeros())


def accumulate(
    old: Accumulators, gradients: Any, decays: Sequence[float], squares_decay: float
) -> Accumulators:
    """Take in one more gradient.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient = {"w": jnp.array([1.0, -2.0])}
        >>> state = accumulate(empty_accumulators(gradient, (0.9,)), gradient, (0.9,), 0.999)
        >>> momenta, squares = unbiased(state, (0.9,), 0.999)
        >>> momenta["w"][:, 0].round(3), squares["w"].round(3)
        (Array([ 1., -2.], dtype=float32), Array([1., 4.], dtype=float32))
    """

    def average(old: jax.Array, new: jax.Array, decay: Any) -> jax.Array:
        decay = jnp.asarray(decay, old.dtype)
        return decay * old + (1 - decay) * new

    wider = jax.tree.map(lambda g, v: g.astype(v.dtype), gradients, old.squares)
    momenta = jax.tree.map(lambda m, g: average(m, g[..., None], decays), old.momenta, wider)
    squares = jax.tree.map(lambda v, g: average(v, g * g, squares_decay), old.squares, wider)
    return Accumulators(old.count + 1, momenta, squares)


def unbiased(state: Accumulators, decays: Sequence[float], squares_decay: float) -> tuple[Any, Any]:
    """Momenta and squares divided by the weight that gradients, not zeros, have in them."""

    def correct(x: jax.Array, decay: Any) -> jax.Array:
        return x / (1 - jnp.asarray(decay, x.dtype) ** state.count.astype(x.dtype))

    return (
        jax.tree.map(lambda m: correct(m, decays), state.momenta),
        jax.tree.map(lambda v: correct(v, squares_decay), state.squares),
    )


def number_of_inputs(decays: Sequence[float]) -> int:
    """How many channels :func:`weight_inputs` has."""
    return 3 + 2 * len(decays)


def weight_inputs(params: Any, gradients: Any, momenta: Any, squares: Any) -> Any:
    """The channels of each weight, a tree of ``(*shape, channels)``.

    They are: weight, gradient, momenta, gradient and momenta over the root of the squares.

    Args:
        params, gradients, squares: trees of one structure.
        momenta: likewise, with a last axis.
    """

    def one(p: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        first = jnp.stack([p.astype(v.dtype), g.astype(v.dtype)], axis=-1)
        past = jnp.concatenate([g.astype(v.dtype)[..., None], m], axis=-1)
        return jnp.concatenate([first, m, past * jax.lax.rsqrt(v + TINY)[..., None]], axis=-1)

    return jax.tree.map(one, params, gradients, momenta, squares)


def normalised(
    blocks: Mapping[str, jax.Array],
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Channels with mean square one in each block, and the sizes of each block.

    Args:
        blocks: ``{block: (*shape, channels)}``.

    Returns:
        The same, normalised, and ``{block: (2,)}``: a tenth of the logarithms of what the weights and the
        gradients were divided by.
    """
    out, sizes = {}, {}
    for name, x in blocks.items():
        squares = jnp.mean(jnp.square(x), axis=tuple(range(x.ndim - 1))) + TINY
        out[name] = x * jax.lax.rsqrt(squares)
        sizes[name] = 0.05 * jnp.log(squares[:SIZES])
    return out, sizes


def time_inputs(count: jax.Array, dtype: Any) -> jax.Array:
    """The time, ``(len(TIMES),)``.

    Example:
        >>> [f"{t:.2f}" for t in time_inputs(jnp.int32(10), jnp.float32)[:4]]
        ['1.00', '1.00', '0.76', '0.32']
    """
    return jnp.tanh(count.astype(dtype) / jnp.asarray(TIMES, dtype))


def wide(x: Any) -> Any:
    """float32 for what is narrower, else the dtype of ``x``."""
    return jnp.promote_types(jnp.asarray(x).dtype, jnp.float32)
