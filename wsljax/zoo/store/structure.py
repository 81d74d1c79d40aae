"""The tree of a population's parameters as JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import leaf_paths
from wsljax.zoo.chunks import is_stacked
from wsljax.zoo.store.tensor_file import CODES, dtype_name

LEAF = "*"


@dataclass(frozen=True)
class Leaf:
    """One leaf of the tree.

    Attributes:
        path: as in `"dense_0/kernel"`.
        kind: "array", one a network; "value", JSON that all share; "given", something else that all
            share (a function), which is not stored: it comes from `like`.
        dtype: of an array.
        shape: of one network's array.
        value: of a value; the name of the type of what is to be given.
    """

    path: str
    kind: str
    dtype: str | None = None
    shape: tuple[int, ...] = ()
    value: Any = None


@dataclass(frozen=True)
class Structure:
    """The leaves of a tree in order, and the tree around them.

    Attributes:
        leaves: in the order of `jax.tree.leaves`.
        nodes: the tree in lists, dicts and `"*"` for leaves; None for a tree of other nodes (named
            tuples, modules), which is built from `like`.
    """

    leaves: tuple[Leaf, ...]
    nodes: Any

    @property
    def arrays(self) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in self.leaves if leaf.kind == "array")

    def to_json(self) -> dict[str, Any]:
        leaves = [
            {name: value for name, value in vars(leaf).items() if value not in (None, ())}
            | ({"shape": list(leaf.shape)} if leaf.kind == "array" else {})
            | ({"value": leaf.value} if leaf.kind == "value" else {})
            for leaf in self.leaves
        ]
        return {"leaves": leaves, "nodes": self.nodes}

    @staticmethod
    def from_json(data: Any) -> Structure:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is no such description.
        """
        leaves = tuple(
            Leaf(**{**entry, "shape": tuple(entry.get("shape", ()))}) for entry in data["leaves"]
        )
        for leaf in leaves:
            if leaf.kind not in ("array", "value", "given") or type(leaf.path) is not str:
                raise ValueError(f"an unknown kind of leaf: {leaf}")
            if leaf.kind == "array" and leaf.dtype not in CODES:
                raise ValueError(f"leaf {leaf.path!r} has the unknown dtype {leaf.dtype!r}")
            if any(type(n) is not int or n < 0 for n in leaf.shape):
                raise ValueError(f"leaf {leaf.path!r} has the shape {leaf.shape}")
        if len({leaf.path for leaf in leaves}) < len(leaves):
            raise ValueError("two leaves have one path")
        structure = Structure(leaves, data["nodes"])
        if structure.nodes is not None:
            count = jax.tree.structure(_tree(structure.nodes)).num_leaves
            if count != len(leaves):
                raise ValueError(f"a tree of {count} leaves, and {len(leaves)} leaves")
        return structure


def describe(params: Any) -> Structure:
    """The structure of a stack of networks, arrays `(models, ...)`.

    Raises:
        ValueError: an array that cannot be stored; names its path.
    """
    paths, leaves = leaf_paths(params), jax.tree.leaves(params)
    nodes = _nodes(jax.tree.structure(params))
    return Structure(tuple(map(_leaf, paths, leaves)), nodes)


def builder(structure: Structure, like: Any = None) -> Callable[[Sequence[Any]], Any]:
    """A function that makes the tree of the arrays of `structure.arrays`.

    Args:
        structure: what was stored.
        like: one network of the same structure, arrays or ShapeDtypeStructs; needed for named
            tuples, modules, and leaves that are functions.

    Raises:
        ValueError: `like` is needed, or another tree; names the path.
    """
    given = [leaf for leaf in structure.leaves if leaf.kind == "given"]
    if like is None and (structure.nodes is None or given):
        what = (
            f"leaf {given[0].path!r} is a {given[0].value}"
            if structure.nodes is not None
            else "the parameters are a tree of named tuples or modules"
        )
        raise ValueError(
            f"{what}, which JSON does not hold; give `like=`, the parameters of one network of the "
            "same structure."
        )
    others: Sequence[Any] = [None] * len(structure.leaves)
    treedef = jax.tree.structure(_tree(structure.nodes))
    if like is not None:
        treedef, others = jax.tree.structure(like), jax.tree.leaves(like)
        _compare(structure, like)
    values = [
        _value(leaf) if leaf.kind == "value" else x for leaf, x in zip(structure.leaves, others)
    ]
    places = [i for i, leaf in enumerate(structure.leaves) if leaf.kind == "array"]

    def build(arrays: Sequence[Any]) -> Any:
        filled = list(values)
        for place, array in zip(places, arrays, strict=True):
            filled[place] = array
        return jax.tree.unflatten(treedef, filled)

    return build


def _leaf(path: str, leaf: Any) -> Leaf:
    if is_stacked(leaf):
        if dtype_name(leaf.dtype) is None:
            remedy = (
                "store `jax.random.key_data` of it"
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                else f"convert it to one of {', '.join(CODES)}"
            )
            raise ValueError(f"{path!r} has dtype {leaf.dtype}, which cannot be stored; {remedy}.")
        return Leaf(path, "array", dtype_name(leaf.dtype), tuple(leaf.shape[1:]))
    if type(leaf) in (bool, int, float, str):
        return Leaf(path, "value", value=_plain(leaf))
    return Leaf(path, "given", value=type(leaf).__name__)


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    finite = not isinstance(value, float) or np.isfinite(value)
    return value if finite else {"float": repr(value)}


def _value(leaf: Leaf) -> Any:
    return float(leaf.value["float"]) if isinstance(leaf.value, dict) else leaf.value


def _nodes(treedef: Any) -> Any:
    """A treedef of dicts, lists, tuples and None as JSON, else None."""
    node = treedef.node_data()
    if node is None:
        return LEAF if treedef.num_leaves == 1 else {"none": True}
    kind, keys = node
    if kind is type(None):
        return {"none": True}
    children = [_nodes(child) for child in treedef.children()]
    if any(child is None for child in children):
        return None
    if kind is dict and all(type(key) in (str, int) for key in keys):
        return {"dict": list(keys), "of": children}
    return {kind.__name__: children} if kind in (list, tuple) else None


def _tree(nodes: Any) -> Any:
    if nodes is None or nodes == LEAF:
        return 0
    if "none" in nodes:
        return None
    if "dict" in nodes:
        return dict(zip(nodes["dict"], map(_tree, nodes["of"]), strict=True))
    if "list" in nodes:
        return [_tree(child) for child in nodes["list"]]
    return tuple(_tree(child) for child in nodes["tuple"])


def _compare(structure: Structure, like: Any) -> None:
    paths, leaves = leaf_paths(like), jax.tree.leaves(like)
    stored = [leaf.path for leaf in structure.leaves]
    if paths != stored:
        other = sorted(set(paths) ^ set(stored)) or [p for p, q in zip(paths, stored) if p != q]
        where = "`like`" if other[0] in paths else "the zoo"
        raise ValueError(
            f"`like` is not of the structure that was stored: only {where} has {other[0]!r} there."
        )
    for found, leaf in zip(leaves, structure.leaves, strict=True):
        if leaf.kind == "array" and tuple(getattr(found, "shape", ())) != leaf.shape:
            raise ValueError(
                f"{leaf.path!r} has shape {getattr(found, 'shape', ())} in `like` and {leaf.shape} in "
                "each network of the zoo; `like` is one network, without a model axis."
            )


def same_structure(stored: Structure, found: Structure) -> None:
    """Refuse networks of another architecture.

    Raises:
        ValueError: names the first leaf that differs.
    """
    if stored == found:
        return
    for a, b in zip(stored.leaves, found.leaves):
        if a != b:
            raise ValueError(
                "these networks are of another architecture than those in the zoo: "
                f"{b.path!r} is {_words(b)}, there {a.path!r} is {_words(a)}. Keep one folder for "
                "each architecture."
            )
    if len(stored.leaves) != len(found.leaves):
        n, m = len(found.leaves), len(stored.leaves)
        raise ValueError(
            f"these networks are of another architecture: {n} leaves, in the zoo {m}. Keep one "
            "folder for each architecture."
        )
    raise ValueError(
        "these networks have another tree of parameters than those in the zoo: "
        f"{json.dumps(found.nodes)}, there {json.dumps(stored.nodes)}."
    )


def _words(leaf: Leaf) -> str:
    if leaf.kind == "array":
        return f"{leaf.dtype} {leaf.shape}"
    return repr(leaf.value) if leaf.kind == "value" else f"a {leaf.value}"
