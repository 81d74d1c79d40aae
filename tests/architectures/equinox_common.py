"""What every equinox case shares: turning a module into ``(fn, params, inputs)``."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .registry import generic


def make(build: Callable[[jax.Array], eqx.Module], key: jax.Array, *inputs: jax.Array):
    """Builds a module from a key and moves its arrays to a generic point; ``fn`` is vmapped."""
    first, second = jax.random.split(key)
    params, static = eqx.partition(eqx.filter_jit(build)(first), eqx.is_array)

    def fn(params, *xs):
        return jax.vmap(eqx.combine(params, static))(*xs)

    return fn, generic(params, second), inputs


def make_stateful(build: Callable, key: jax.Array, *inputs: jax.Array, inference: bool):
    """As ``make``, for ``module(x, state) -> (y, state)``; parameters are ``(module, state)``.

    Only floating leaves are parameters: counters and flags of the state are closed over, with a
    dtype that does not depend on jax's default. The updated state is thrown away. What is stored
    is made positive, because some of it is variances, which may start at zero.
    """
    first, second = jax.random.split(key)
    model, state = eqx.nn.make_with_state(build)(first)
    model = eqx.nn.inference_mode(model, inference)
    params, static = eqx.partition((model, state), eqx.is_inexact_array)
    static = jax.tree.map(lambda x: np.asarray(x) if eqx.is_array(x) else x, static)
    model, state = generic(params, second)
    params = model, jax.tree.map(lambda x: 0.5 + jnp.abs(x), state)

    def fn(params, *xs):
        model, state = eqx.combine(params, static)
        batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        return batched(*xs, state)[0]

    return fn, params, inputs
