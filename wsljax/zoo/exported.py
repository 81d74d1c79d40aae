"""Functions of the user's own, kept as the program that jax compiles them to (StableHLO)."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from wsljax._compat import require
from wsljax.zoo.architecture import read_columns, tuples

PLATFORMS = ("cpu", "cuda", "tpu")


@jax.tree_util.register_static
class ExportedFunction:
    """A user's own function, as the program that jax compiles it to; made by `export_function`.

    It runs without the code it was written in. The program takes a stack of networks
    (`apply_all`); it cannot be differentiated or vmapped.
    """

    architecture = "exported"
    program: bytes
    _text: str

    def __init__(self, program: bytes, settings: Mapping[str, Any]):
        object.__setattr__(self, "program", bytes(program))
        object.__setattr__(self, "_text", json.dumps(dict(settings), sort_keys=True))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an ExportedFunction is frozen; {name!r} cannot be changed.")

    @property
    def settings(self) -> dict[str, Any]:
        return tuples(json.loads(self._text))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self.settings["input_shape"]

    @property
    def input_dtype(self) -> Any:
        return jnp.dtype(self.settings["dtype"])

    @property
    def reads(self) -> tuple[str, ...]:
        return self.settings["reads"]

    def apply(
        self, params: Any, x: jax.Array, row: Mapping[str, Any] | None = None, *, key=None
    ) -> jax.Array:
        """As `Function.apply`; `key` is not used."""
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (params, dict(row or {})))
        return self.apply_all(one[0], x, one[1])[0]

    def apply_all(self, params: Any, x: jax.Array, rows: Mapping[str, Any] | None = None) -> Any:
        """Outputs `(models, n, ...)` of a stack of networks on one batch."""
        rows = read_columns(self, rows)
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]
        dtypes = self.settings["row_dtypes"]
        values = [jnp.asarray(rows[n], d) for n, d in zip(self.reads, dtypes)]
        return _deserialised(self.program).call(leaves, x, values)

    def to_json(self) -> dict[str, Any]:
        program = base64.b64encode(self.program).decode()
        return {"exported": program, "settings": json.loads(self._text)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ExportedFunction:
        return ExportedFunction(base64.b64decode(data["exported"]), data["settings"])

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ExportedFunction) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[bytes, str]:
        return self.program, self._text

    def __repr__(self) -> str:
        return f"ExportedFunction({len(self.program)} bytes, inputs {self.input_shape})"


def export_function(
    apply: Callable[..., Any],
    params: Any,
    x: jax.Array,
    row: Mapping[str, Any] | None = None,
    *,
    platforms: tuple[str, ...] = PLATFORMS,
) -> ExportedFunction:
    """Any function as data: compiled once, stored with the weights, run without its source.

    Args:
        apply: `apply(params, x)`, or `apply(params, x, row)` if there is a `row`: one network on a
            batch `(n, ...)`.
        params: of one network; shapes and dtypes are read.
        x: a batch of inputs, or its ShapeDtypeStruct; the number `n` stays free.
        row: columns that the function reads, one network's values.
        platforms: that it is to run on.

    Raises:
        ImportError: flatbuffers is not installed; names the extra.

    Returns:
        An `ExportedFunction`. jax reads it back for six months of later releases at least (its
        promise for serialised programs): register an architecture for what is to last.

    Example:
        >>> from wsljax.zoo import Function
        >>> fn = export_function(lambda p, x: jnp.tanh(x @ p["w"]), {"w": jnp.ones((3, 2))},
        ...                      jnp.ones((1, 3)))
        >>> Function.from_json(fn.to_json()).apply({"w": jnp.zeros((3, 2))}, jnp.ones((5, 3))).shape
        (5, 2)
    """
    row = {name: jnp.asarray(value) for name, value in (row or {}).items()}
    structure = jax.tree.structure(params)

    def run(leaves, x, values):
        tree = jax.tree.unflatten(structure, leaves)
        return apply(tree, x, dict(zip(row, values))) if row else apply(tree, x)

    require("flatbuffers", extra="data")
    m, n = jax.export.symbolic_shape("m, n")
    stacked = lambda leaf: jax.ShapeDtypeStruct((m, *leaf.shape), leaf.dtype)  # noqa: E731
    shapes = [stacked(leaf) for leaf in jax.tree.leaves(params)]
    batch = jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype)
    values = [stacked(value) for value in row.values()]
    run = jax.vmap(run, in_axes=(0, None, 0))
    exported = jax.export.export(jax.jit(run), platforms=platforms)(shapes, batch, values)
    settings = {
        "input_shape": x.shape[1:],
        "dtype": jnp.dtype(x.dtype).name,
        "reads": tuple(row),
        "row_dtypes": tuple(v.dtype.name for v in row.values()),
    }
    return ExportedFunction(bytes(exported.serialize()), settings)


@functools.lru_cache(maxsize=32)
def _deserialised(program: bytes) -> Any:
    require("flatbuffers", extra="data")
    return jax.export.deserialize(bytearray(program))
