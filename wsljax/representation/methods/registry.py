"""The methods by name, so that swapping one network for another is one word.

A method is a function ``build(spec, channels, layers, *, key, dtype, c_in, scales, **options)`` that
returns a :class:`~.trunk.Trunk`. :class:`~..metanetwork.Metanetwork` and
:class:`~..metanetwork.Editor` take its name; options that they do not know go on to it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

BUILT_IN = {
    "dws": "dws",
    "flat": "flat",
    "graph_metanetwork": "graph_metanetwork",
    "magep": "magep",
    "monomial": "monomial",
    "nerf_encoder": "nerf_encoder",
    "nfn": "nfn",
    "nft": "nft",
    "pointwise": "pointwise",
    "set_encoder": "set_encoder",
    "neural_graph": "neural_graph",
    "neural_graph_transformer": "neural_graph_transformer",
    "scale_gmn": "scale_gmn",
    "universal": "universal",
}
"""Methods of the library, and the file of this folder that registers each."""

_METHODS: dict[str, Callable[..., Any]] = {}


def register_method(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a trunk known by a name; a decorator of its builder.

    Example:
        >>> @register_method("half as wide")
        ... def half(spec, channels, layers, **options):
        ...     return build_trunk("universal", spec, channels // 2, layers, **options)
        >>> "half as wide" in methods()
        True

    Raises:
        ValueError: if another builder has the name.
    """

    def keep(build: Callable[..., Any]) -> Callable[..., Any]:
        known = _METHODS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            build.__module__,
            build.__qualname__,
        ):
            raise ValueError(f"there is a method {name!r} already; give this one another name")
        _METHODS[name] = build
        return build

    return keep


def methods() -> tuple[str, ...]:
    """The names of all methods.

    Example:
        >>> "universal" in methods()
        True
    """
    return tuple(sorted({*BUILT_IN, *_METHODS}))


def build_trunk(method: str, *args: Any, **options: Any) -> Any:
    """The trunk of a method.

    Args:
        method: its name, one of :func:`methods`.
        args, options: what its builder takes: ``spec, channels, layers, *, key`` and options.

    Raises:
        ValueError: no such method; the message lists those there are.
    """
    if method not in _METHODS and method in BUILT_IN:
        importlib.import_module(f"{__package__}.{BUILT_IN[method]}")
    if method not in _METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(methods())}")
    return _METHODS[method](*args, **options)
