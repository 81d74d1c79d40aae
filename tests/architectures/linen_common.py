"""What every linen case shares: turning a module into ``(fn, params, inputs)``."""

import flax.linen as nn
import jax

from .registry import generic, quickly


def make(module: nn.Module, key: jax.Array, *inputs: jax.Array, mutable=False, **options):
    """Initialises ``module`` on ``inputs`` and moves all its variables to a generic point.

    Parameters are the bare ``params`` collection when it is the only one, else the whole
    dictionary of collections. Collections in ``mutable`` are updated and thrown away.
    Modules with a ``param_dtype`` field follow the dtype of the parameters.
    """
    first, second = jax.random.split(key)
    variables = generic(quickly(lambda key: module.init(key, *inputs, **options))(first), second)
    bare = set(variables) == {"params"}

    def fn(params, *xs):
        net = module
        if hasattr(module, "param_dtype"):
            net = module.clone(param_dtype=jax.tree.leaves(params)[0].dtype)
        out = net.apply({"params": params} if bare else params, *xs, mutable=mutable, **options)
        return out[0] if mutable else out

    return fn, variables["params"] if bare else variables, inputs


def normal(key: jax.Array, *shape: int) -> jax.Array:
    """Standard normal float32 input, drawn apart from the keys that ``make`` uses.

    Flax's cells start their carry in the dtype of their parameters, and refuse inputs of a wider one.
    """
    return jax.random.normal(jax.random.fold_in(key, 7), shape, jax.numpy.float32)


def tokens(key: jax.Array, batch: int, length: int, vocabulary: int) -> jax.Array:
    """Integer tokens in which every word of the vocabulary occurs."""
    assert batch * length >= vocabulary
    flat = jax.numpy.arange(batch * length) % vocabulary
    return jax.random.permutation(jax.random.fold_in(key, 8), flat).reshape(batch, length)
