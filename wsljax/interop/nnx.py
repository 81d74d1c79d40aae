"""flax.nnx modules as ``(fn, params)`` and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .trees import merge_leaves, nested, split_floats


def from_nnx(
    module: Any, *, method: str | None = None, **kwargs: Any
) -> tuple[Callable[..., Any], dict]:
    """A pure function of an nnx module's state.

    Call ``module.eval()`` first where dropout or BatchNorm should be in evaluation; a module in training
    draws the same random numbers in each call of ``fn``, and what it updates is thrown away.

    Args:
        module: a ``flax.nnx.Module``; it is not changed.
        method: name of the method to call, where it is not ``__call__``.
        **kwargs: go on to each call.

    Returns:
        ``(fn, params)`` with ``fn(params, *inputs)``. ``params`` is a plain nested dict with every
        floating-point variable: parameters, running statistics, whatever their kind. Random streams and
        counters are kept as they are. A variable that two modules share is one leaf.

    Raises:
        TypeError: ``module`` is not an nnx module.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> fn, params = from_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> params["kernel"].shape, fn(params, jnp.ones((5, 2))).shape
        ((2, 3), (5, 3))
    """
    from flax import nnx

    if not isinstance(module, nnx.Module):
        raise TypeError(f"`module` is {type(module).__name__}, not a flax.nnx.Module")
    graph, state = nnx.split(module)
    params, rest = split_floats(_pure(state))

    def fn(params: Any, *inputs: Any) -> Any:
        merged = nnx.merge(graph, _filled(state, merge_leaves(rest, params)))
        return (merged if method is None else getattr(merged, method))(*inputs, **kwargs)

    return fn, params


def to_nnx(params: Any, like: Any) -> Any:
    """A new module with the values of ``params``.

    Args:
        params: as `from_nnx` gave them, with new values.
        like: the module that the network was made from; it is not changed.

    Raises:
        ValueError: ``params`` and ``like`` differ in leaves or shapes.

    Example:
        >>> from flax import nnx
        >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> fn, params = from_nnx(layer)
        >>> to_nnx({**params, "bias": params["bias"] + 1}, layer).bias[...].tolist()
        [1.0, 1.0, 1.0]
    """
    from flax import nnx

    graph, state = nnx.split(like)
    plain = _pure(state)
    _, rest = split_floats(plain)
    return nnx.merge(graph, _filled(state, merge_leaves(rest, params, like=plain)))


def _pure(state: Any) -> dict:
    from flax import nnx

    return nested(nnx.to_pure_dict(state))


def _filled(state: Any, values: dict) -> Any:
    """A copy of ``state`` with other values."""
    from flax import nnx

    copy = nnx.map_state(lambda _, variable: variable, state)
    nnx.replace_by_pure_dict(copy, values)
    return copy
