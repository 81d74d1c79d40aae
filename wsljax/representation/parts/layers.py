"""Stacks of equal layers: drawn all at once, run one after the other by one ``lax.scan``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

Layer = TypeVar("Layer")
State = TypeVar("State")


def draw_layers(draw: Callable[[jax.Array], Layer], count: int, key: jax.Array) -> Layer:
    """``count`` layers in one: every array has a leading axis of layers.

    Args:
        draw: makes one layer of a key.
        count: how many.
        key: split into one for each layer.

    Raises:
        ValueError: fewer than one layer.

    Example:
        >>> layers = draw_layers(lambda key: eqx.nn.Linear(4, 4, key=key), 3, jax.random.key(0))
        >>> layers.weight.shape
        (3, 4, 4)
    """
    if count < 1:
        raise ValueError(f"`layers` must be positive; got {count}")
    return eqx.filter_vmap(draw)(jax.random.split(key, count))


def _call(layer: Any, x: Any) -> Any:
    return layer(x)


def run_layers(
    layers: Any,
    x: State,
    unroll: int = 1,
    remat: bool = False,
    call: Callable[[Any, State], State] = _call,
) -> State:
    """What comes out of the last layer; programs do not grow with the number of layers.

    Args:
        layers: as :func:`draw_layers` gives them.
        x: what goes into the first: any pytree, which every layer gives back in the same shapes.
        unroll: how many layers one step of the scan runs (compiles longer, may run faster).
        remat: compute layers again in the backward pass instead of keeping what is in them.
        call: ``call(layer, x)``, for layers that are called in another way than ``layer(x)``.

    Example:
        >>> layers = draw_layers(lambda key: eqx.nn.Linear(4, 4, key=key), 3, jax.random.key(0))
        >>> run_layers(layers, jax.numpy.ones(4)).shape
        (4,)
    """
    arrays, rest = eqx.partition(layers, eqx.is_array)

    def step(x: State, layer: Any) -> tuple[State, None]:
        return call(eqx.combine(layer, rest), x), None

    step = jax.checkpoint(step) if remat else step
    return jax.lax.scan(step, x, arrays, unroll=unroll)[0]
