"""Architectures by name: what makes a function of settings, and which there are."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp


class Architecture(NamedTuple):
    """What a registered architecture makes of its settings.

    Attributes:
        init: `init(row, *, key) -> params`, one network.
        apply: `apply(params, x, row, key) -> y`, one network on a batch; `x` is
            `(n, *input_shape)`. `key` is None, or the randomness of dropout.
        input_shape: of one sample; None where any length will do.
        reads: the columns of a network's row without which `apply` cannot do.
        dtype: of the inputs.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    input_shape: tuple[int | None, ...]
    reads: tuple[str, ...] = ()
    dtype: Any = jnp.float32


#: name -> function of the settings that gives an `Architecture`.
ARCHITECTURES: dict[str, Callable[..., Architecture]] = {}


def register_architecture(name: str) -> Callable[[Callable[..., Architecture]], Callable]:
    """Decorator: makes `Function(name, settings)` call the function with the settings.

    Raises:
        ValueError: the name is taken.

    Example:
        >>> import jax
        >>> from wsljax.zoo import ARCHITECTURES, Architecture, Function, register_architecture
        >>> @register_architecture("documented")
        ... def documented(inputs):
        ...     def init(row, *, key):
        ...         return {"w": jax.random.normal(key, (inputs,))}
        ...     return Architecture(init, lambda p, x, row, key: x @ p["w"], (inputs,))
        >>> Function("documented", {"inputs": 3}).init({}, key=jax.random.key(0))["w"].shape
        (3,)
        >>> del ARCHITECTURES["documented"]
    """

    def register(make: Callable[..., Architecture]) -> Callable[..., Architecture]:
        if name in ARCHITECTURES:
            raise ValueError(f"an architecture {name!r} is registered already.")
        ARCHITECTURES[name] = make
        return make

    return register


@functools.lru_cache(maxsize=256)
def make_architecture(architecture: str, text: str) -> Architecture:
    """The architecture of settings that are given as JSON text."""
    return ARCHITECTURES[architecture](**tuples(json.loads(text)))


def read_columns(function: Any, rows: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns that a function reads."""
    rows = rows or {}
    missing = [name for name in function.reads if name not in rows]
    if missing:
        raise ValueError(
            f"{function.architecture!r} reads {missing} from a network's row; it has {sorted(rows)}."
        )
    return {name: rows[name] for name in function.reads}


def tuples(value: Any) -> Any:
    """JSON lists as tuples, throughout."""
    if isinstance(value, (list, tuple)):
        return tuple(tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: tuples(item) for name, item in value.items()}
    return value
