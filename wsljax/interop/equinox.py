"""Equinox modules as ``(fn, params)`` and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from .trees import by_paths, is_float


def from_equinox(
    module: Any, state: Any = None, *, method: str | None = None, **kwargs: Any
) -> tuple[Callable[..., Any], dict]:
    """A pure function of an equinox module's arrays.

    Call ``eqx.nn.inference_mode(module)`` first where dropout or BatchNorm should be in evaluation. Equinox
    works on single examples: ``jax.vmap(fn, in_axes=(None, 0))`` is for batches.

    Args:
        module: any pytree that can be called.
        state: the ``eqx.nn.State`` of a stateful module, which is called as ``module(*inputs, state)``;
            ``fn`` gives the outputs alone, the new state is thrown away.
        method: name of the method to call, where it is not ``__call__``.
        **kwargs: go on to each call, as in ``key=key``.

    Returns:
        ``(fn, params)`` with ``fn(params, *inputs)``. ``params`` is a plain nested dict of the
        floating-point arrays under the parts of their paths, as in ``params["layers"]["0"]["weight"]``. With
        a state it is ``{"module": ..., "state": ...}``, since running statistics move with their units.
        Counters, flags and static fields are kept as they are.

    Raises:
        TypeError: ``module`` cannot be called, or is stateful and comes without its state.
        ValueError: the module has no floating-point arrays.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> fn, params = from_equinox(eqx.nn.MLP(2, 1, 8, 1, key=jax.random.key(0)))
        >>> params["layers"]["0"]["weight"].shape, fn(params, jnp.ones(2)).shape
        ((8, 2), (1,))
    """
    if not callable(module if method is None else getattr(module, method, None)):
        raise TypeError(
            f"`module` ({type(module).__name__}) has no method {method or '__call__'!r}"
        )
    whole = _whole(module, state)
    floats, rest = eqx.partition(whole, is_float)
    params, _ = by_paths(floats)
    if not params:
        raise ValueError(f"{type(module).__name__} has no floating-point arrays, so no parameters")

    def fn(params: Any, *inputs: Any) -> Any:
        merged = eqx.combine(_leaves_like(floats, params), rest)
        called = merged["module"] if state is not None else merged
        called = called if method is None else getattr(called, method)
        if state is None:
            return called(*inputs, **kwargs)
        return called(*inputs, merged["state"], **kwargs)[0]

    return fn, params


def to_equinox(params: Any, like: Any, state: Any = None) -> Any:
    """A module with the values of ``params``; with a state, the pair ``(module, state)``.

    Args:
        params: as `from_equinox` gave them, with new values.
        like: the module that the network was made from.
        state: its state, if it was given there.

    Raises:
        ValueError: ``params`` and ``like`` differ in leaves or shapes.

    Example:
        >>> import equinox as eqx, jax
        >>> layer = eqx.nn.Linear(2, 3, key=jax.random.key(0))
        >>> fn, params = from_equinox(layer)
        >>> bool(eqx.tree_equal(to_equinox(params, layer), layer))
        True
    """
    floats, rest = eqx.partition(_whole(like, state), is_float)
    merged = eqx.combine(_leaves_like(floats, params), rest)
    return merged if state is None else (merged["module"], merged["state"])


def _whole(module: Any, state: Any) -> Any:
    if state is None:
        return module
    # an equinox state is spent by a call, so each call has its own
    leaves, structure = jax.tree.flatten(state)
    return {"module": module, "state": jax.tree.unflatten(structure, leaves)}


def _leaves_like(floats: Any, params: Any) -> Any:
    """The pytree ``floats`` with the values that nested dicts have at the same paths."""
    expected, paths = by_paths(floats)
    leaves = []
    for parts in paths:
        node: Any = params
        there: Any = expected
        for part in parts:
            node = node.get(part) if isinstance(node, dict) else None
            there = there[part]
        if node is None:
            raise ValueError(
                f"params lack the array {'/'.join(parts)!r}; give the tree that was read, with new values"
            )
        if node.shape != there.shape:
            raise ValueError(
                f"params {'/'.join(parts)!r} has shape {node.shape}, not {there.shape}"
            )
        leaves.append(node)
    left = {path for path in by_paths(params)[1]} - set(paths)
    if left:
        raise ValueError(f"params have {'/'.join(min(left))!r}, which is not in the network")
    return jax.tree.unflatten(jax.tree.structure(floats), leaves)
