"""What every nnx case shares: turning a module into ``(fn, params, inputs)``."""

from collections.abc import Callable

import jax
from flax import nnx

from .registry import generic

LEARNED = (nnx.Param, nnx.BatchStat, jax.Array)  # a bare array: the scales of nnx.WeightNorm


def make(build: Callable[[nnx.Rngs], nnx.Module], key: jax.Array, *inputs, pure=False, **options):
    """Builds a module from ``rngs``, splits it, and moves its parameters to a generic point.

    Parameters are the ``nnx.State`` of parameters and batch statistics, or with ``pure`` the same
    as a plain dictionary; what is left (random streams) is closed over. Layers that fix a dtype
    when they are made are told to follow their parameters, so that they run in float64 as well.
    """
    first, second = jax.random.split(key)
    module = nnx.jit(lambda key: build(nnx.Rngs(key)))(first)
    for _, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Module) and getattr(node, "dtype", None) is not None:
            node.dtype = None
    graphdef, state, rest = nnx.split(module, LEARNED, ...)
    state = generic(state, second)

    def fn(params, *xs):
        if pure:
            merged = nnx.map_state(lambda _, variable: variable, state)
            nnx.replace_by_pure_dict(merged, params)
            params = merged
        return nnx.merge(graphdef, params, rest)(*xs, **options)

    return fn, nnx.to_pure_dict(state) if pure else state, inputs
