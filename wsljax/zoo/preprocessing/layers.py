"""Which arrays of a network belong to one layer, and in which order layers come.

Weight statistics, tokens and normalisation all speak of "the layer". Arrays are of one layer if they
share a parent in the tree and, but for the word for their part, a name: `dense_0/kernel` and
`dense_0/bias`, `w0` and `b0`, `conv1.weight` and `conv1.bias`. Layers come in the order of the tree,
except that the numbers in names count as numbers: `conv_2` before `conv_10`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import numpy as np

from wsljax._compat import key_path_str

_PART = re.compile(
    r"^(?:(?P<stem>.*)\.)?(?:(?P<kernel>weight|kernel|scale|gain|gamma|w)|"
    r"(?P<bias>bias|beta|offset|shift|b))(?P<rest>$|[_\d].*$)",
    re.IGNORECASE,
)


class Layer(NamedTuple):
    """The arrays of one layer, by path; `path` is what their paths share."""

    path: str
    kernels: tuple[str, ...]
    biases: tuple[str, ...]


def layers(params: Any) -> tuple[Layer, ...]:
    """The layers of a network.

    An array is a bias if it is called one, or if it has one axis where another array of the layer has
    more; everything else is a kernel, the gain of a normalisation too.

    Args:
        params: one network; arrays or `ShapeDtypeStruct`s.

    Returns:
        Every array in one `Layer`.

    Example:
        >>> params = {"conv_10": {"kernel": np.zeros((3, 3)), "bias": np.zeros(3)},
        ...           "conv_2": {"kernel": np.zeros((3, 3))}}
        >>> for layer in layers(params):
        ...     print(layer)
        Layer(path='conv_2', kernels=('conv_2/kernel',), biases=())
        Layer(path='conv_10', kernels=('conv_10/kernel',), biases=('conv_10/bias',))
    """
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    entries = [(path, np.ndim(leaf)) for path, leaf in flat if hasattr(leaf, "shape")]
    entries.sort(key=_sorter([path for path, _ in entries]))
    groups: dict[str, list[tuple[str, int, bool]]] = {}
    for path, rank in entries:
        name, is_bias = _name(path)
        groups.setdefault(name, []).append((key_path_str(path), rank, is_bias))
    return tuple(_layer(name, members) for name, members in groups.items())


def leaf_order(params: Any, *, bias_first: bool = False) -> tuple[str, ...]:
    """Paths of all arrays, layer by layer, kernels before biases or after them.

    >>> leaf_order({"b1": np.zeros(2), "w1": np.zeros((2, 2)), "b2": np.zeros(2)})
    ('w1', 'b1', 'b2')
    """
    out: list[str] = []
    for _, kernels, biases in layers(params):
        out += [*biases, *kernels] if bias_first else [*kernels, *biases]
    return tuple(out)


def arrays_by_path(params: Any) -> dict[str, Any]:
    """`{path: array}` of the arrays of a tree, in the order of the tree."""
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    return {key_path_str(path): leaf for path, leaf in flat if hasattr(leaf, "shape")}


def _name(path: tuple) -> tuple[str, bool]:
    """The layer's name, and whether the last part of the path says that this is a bias."""
    parent, last = key_path_str(path[:-1]), key_path_str(path[-1:])
    if path and isinstance(path[-1], jax.tree_util.SequenceKey):
        return parent, False
    if key_path_str(path[-2:]) == last and len(path) > 1:  # flax's `value`, left out of paths
        parent = key_path_str(path[:-2])
    found = _PART.match(last)
    own = last if found is None else (found["stem"] or "") + found["rest"]
    joined = "/".join(part for part in (parent, own) if part)
    return joined, found is not None and found["bias"] is not None


def _layer(name: str, members: list[tuple[str, int, bool]]) -> Layer:
    highest = max(rank for _, rank, _ in members)
    biases = [path for path, rank, said in members if said or (rank == 1 and highest > 1)]
    return Layer(name, tuple(p for p, _, _ in members if p not in biases), tuple(biases))


def _sorter(paths: list[tuple]):
    """Names in dicts by their text and numbers; everything else where the tree has it."""
    place: dict[tuple, int] = {}
    for path in paths:
        for depth in range(1, len(path) + 1):
            place.setdefault(path[:depth], len(place))

    def natural(entry: Any) -> tuple:
        words = re.split(r"(\d+)", str(entry.key))
        return tuple((0, int(w), "") if i % 2 else (1, 0, w) for i, w in enumerate(words))

    def key(item: tuple) -> tuple:
        path = item[0]
        return tuple(
            natural(entry)
            if isinstance(entry, jax.tree_util.DictKey)
            else ((0, place[path[: depth + 1]], ""),)
            for depth, entry in enumerate(path)
        )

    return key
