"""Specs as JSON text, and back."""

from __future__ import annotations

import json
from typing import Any

import jax

from .annotation import Leaf, Pinned, Units
from .axes import Axis
from .generators.text import from_data, to_data
from .grammar import format_axes, parse_axes

FORMAT = "wsljax.Spec/1"


def write(spec) -> str:
    """See :meth:`Spec.to_json`."""

    def leaves(group: tuple[Leaf, ...] | None):
        if group is None:
            return None
        return [
            {
                "path": x.path,
                "shape": list(x.shape),
                "axes": format_axes(x.trees, spec._overs, sizes=True),
            }
            for x in group
        ]

    return json.dumps(
        {
            "format": FORMAT,
            "leaves": leaves(spec.leaves),
            "units": [
                {"name": u.name, "size": u.size, "over": list(u.over), "parts": list(u.parts)}
                for u in spec.units
            ],
            "inputs": leaves(spec.inputs),
            "outputs": leaves(spec.outputs),
            "generators": [to_data(gen) for gen in spec.generators],
            "approximate": [[to_data(gen), change] for gen, change in spec.approximate],
            "skipped": list(spec.skipped),
            "pinned": [[p.path, p.axis, p.size, p.reason] for p in spec.pinned],
            "structure": _structure(spec.treedef),
        },
        indent=1,
    )


def read(text: str) -> dict[str, Any]:
    """The fields of the spec that :func:`write` wrote.

    Raises:
        ValueError: if the text is not such a spec.
    """
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"unknown format {data['format']!r}")

        def leaves(group):
            if group is None:
                return None
            return tuple(
                Leaf(x["path"], tuple(x["shape"]), _read_axes(x["path"], x["axes"])) for x in group
            )

        units = tuple(
            Units(u["name"], u["size"], tuple(u["over"]), tuple(u["parts"])) for u in data["units"]
        )
        pinned = tuple(Pinned(*row) for row in data["pinned"])
        main = leaves(data["leaves"])
        generators = tuple(map(from_data, data.get("generators", ())))
        skipped = tuple(data.get("skipped", ()))
        nearly = tuple((from_data(gen), change) for gen, change in data.get("approximate", ()))
        inputs, outputs, structure = (
            leaves(data["inputs"]),
            leaves(data["outputs"]),
            data["structure"],
        )
    except (KeyError, TypeError, json.JSONDecodeError) as e:
        raise ValueError(f"not a spec in JSON: {e!r}") from e
    treedef = None
    if structure is not None:
        treedef = jax.tree_util.tree_structure(_rebuild(structure))
    return {
        "leaves": main,
        "units": units,
        "generators": generators,
        "inputs": inputs,
        "outputs": outputs,
        "pinned": pinned,
        "treedef": treedef,
        "skipped": skipped,
        "approximate": nearly,
    }


def _read_axes(path: str, text: str) -> tuple[Axis, ...]:
    try:
        return parse_axes(text)
    except ValueError as e:
        raise ValueError(f"{path!r}: {e}") from None


def _structure(treedef: Any):
    """A treedef of dicts, lists, tuples and None as JSON, else None."""
    if treedef is None:
        return None
    node = treedef.node_data()
    if node is None:
        return "leaf" if treedef.num_leaves == 1 else "none"
    kind, data = node
    children = [_structure(c) for c in treedef.children()]
    if any(c is None for c in children):
        return None
    if kind is dict and all(isinstance(k, str) for k in data):
        return {"dict": list(data), "of": children}
    if kind in (list, tuple):
        return {kind.__name__: children}
    return {"none": True} if kind is type(None) else None


def _rebuild(structure):
    if structure == "leaf":
        return 0
    if structure == "none" or "none" in structure:
        return None
    if "dict" in structure:
        return dict(zip(structure["dict"], map(_rebuild, structure["of"]), strict=True))
    if "list" in structure:
        return [_rebuild(c) for c in structure["list"]]
    return tuple(_rebuild(c) for c in structure["tuple"])
