"""What a pickle left behind as a tree of plain data, of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from wsljax.interop.torch_pickle import Global, Record, TorchFileError

MAX_NODES = 10_000_000
MAX_DEPTH = 200


def finish(value: Any) -> Any:
    """The tree of a pickle's object with plain data for its `Record`s and `Global`s.

    Raises:
        TorchFileError: the object contains itself, is nested deeper than `MAX_DEPTH`, or has more
            than `MAX_NODES` nodes when written out (lists of lists of the same list multiply).

    Example:
        >>> laughs = [1] * 10
        >>> for _ in range(20):
        ...     laughs = [laughs] * 10
        >>> finish(laughs)
        Traceback (most recent call last):
            ...
        wsljax.interop.torch_pickle.TorchFileError: it unfolds into more than 10000000 nodes.
    """
    done: dict[int, tuple[Any, int, int, Any]] = {}  # the original is kept: its id stays its own
    return _finish(value, 0, done, set())[0]


def _finish(value: Any, depth: int, done: dict[int, Any], open_: set[int]) -> tuple[Any, int, int]:
    """`(plain, nodes, height)` of a subtree; shared parts are done once."""
    if isinstance(value, Global):
        return (value.name if value.value is None else value.value), 1, 0
    if not isinstance(value, (dict, list, tuple, Record)) and not hasattr(value, "plain"):
        return value, 1, 0
    found = done.get(id(value))
    if found is None:
        if id(value) in open_:
            raise TorchFileError("an object in it contains itself.")
        if depth > MAX_DEPTH:
            raise TorchFileError(f"it is nested deeper than {MAX_DEPTH}.")
        open_.add(id(value))
        found = (*_finish_children(value, depth, done, open_), value)
        open_.discard(id(value))
        done[id(value)] = found
    plain, nodes, height, _ = found
    if depth + height > MAX_DEPTH:
        raise TorchFileError(f"it is nested deeper than {MAX_DEPTH}.")
    return plain, nodes, height


def _finish_children(value: Any, depth: int, done: dict, open_: set) -> tuple[Any, int, int]:
    if hasattr(value, "plain"):
        plain, nodes, height = _finish(value.plain(), depth + 1, done, open_)
        return plain, nodes + 1, height + 1
    parts = list(value.values()) if isinstance(value, dict) else list(value)
    if len(parts) > MAX_NODES:
        raise TorchFileError(f"it unfolds into more than {MAX_NODES} nodes.")
    made, nodes, height = [], 1, 0
    for part in parts:
        plain, more, high = _finish(part, depth + 1, done, open_)
        made.append(plain)
        nodes, height = nodes + more, max(height, high + 1)
        if nodes > MAX_NODES:
            raise TorchFileError(f"it unfolds into more than {MAX_NODES} nodes.")
    if isinstance(value, dict):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind(zip(value, made)), nodes, height
    return (tuple(made) if isinstance(value, tuple) else made), nodes, height
