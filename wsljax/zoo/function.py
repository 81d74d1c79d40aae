"""What the weights of a population compute: the function itself, as data.

A stack of weights without padding, residuals, activation, input normalisation or output offset is
not a network: a published pipeline that guessed the padding took networks of 95% for networks of
19%. A `Function` holds all of it: the name of an architecture and its settings, which are JSON. A
function of the user's own is kept as the program it compiles to (StableHLO, by `jax.export`).
"""

from __future__ import annotations

import base64
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp

from wsljax import symmetry
from wsljax._compat import require

PLATFORMS = ("cpu", "cuda", "tpu")


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


@jax.tree_util.register_static
class Function:
    """An architecture and its settings: everything needed to run a network but its weights.

    Frozen, hashable, static in a pytree, and JSON.

    Attributes:
        architecture: a name in `zoo.ARCHITECTURES`.
        settings: all of them, those left at their defaults too.

    Example:
        >>> siren = Function("siren", {"widths": (2, 32, 32, 1)})
        >>> params = siren.init({}, key=jax.random.key(0))
        >>> siren.apply(params, jnp.zeros((784, 2))).shape
        (784, 1)
        >>> Function.from_json(siren.to_json()) == siren
        True
    """

    def __init__(self, architecture: str, settings: Mapping[str, Any] | None = None):
        """See the class.

        Raises:
            ValueError: an unknown architecture, or settings that it refuses or that are not JSON.
        """
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {architecture!r}; there are {sorted(ARCHITECTURES)}, and "
                "`zoo.register_architecture` adds one."
            )
        try:
            bound = inspect.signature(ARCHITECTURES[architecture]).bind(**dict(settings or {}))
            bound.apply_defaults()  # what a default is today is kept with the weights
            text = json.dumps(bound.arguments, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as e:
            raise ValueError(f"settings of {architecture!r}, which are to be JSON: {e}") from None
        object.__setattr__(self, "architecture", architecture)
        object.__setattr__(self, "_text", text)
        _ = self._made  # refuses settings that the architecture does not know

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Function is frozen; make another one to change {name!r}.")

    @property
    def settings(self) -> dict[str, Any]:
        return _tuples(json.loads(self._text))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of one sample; None where any length will do."""
        return self._made.input_shape

    @property
    def input_dtype(self) -> Any:
        return self._made.dtype

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of a network's row that say what it computes, e.g. its activation."""
        return self._made.reads

    def init(self, row: Mapping[str, Any] | None = None, *, key: jax.Array) -> Any:
        """The weights of one new network; `row` may hold its `init_scale` and other columns."""
        return self._made.init(dict(row or {}), key=key)

    def apply(
        self,
        params: Any,
        x: jax.Array,
        row: Mapping[str, Any] | None = None,
        *,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """The outputs of one network for a batch `(n, *input_shape)`.

        Args:
            params: weights of one network.
            x: a batch of inputs.
            row: the network's columns; those in `reads` must be there.
            key: draws dropout (rate `row["dropout"]`); None: there is none.

        Raises:
            ValueError: a column that the function reads is missing, or inputs of another shape.
        """
        _read(self, row)
        wanted = self.input_shape
        if x.ndim != len(wanted) + 1 or any(
            n is not None and n != m for n, m in zip(wanted, x.shape[1:], strict=True)
        ):
            raise ValueError(
                f"{self.architecture!r} takes a batch (n, {', '.join(map(str, wanted))}); "
                f"the inputs are {x.shape}."
            )
        return self._made.apply(params, x, dict(row or {}), key)

    def apply_all(self, params: Any, x: jax.Array, rows: Mapping[str, Any] | None = None) -> Any:
        """Outputs `(models, n, ...)` of a stack of networks on one batch; `rows` are columns."""
        rows = _read(self, rows)
        return jax.vmap(lambda params, row: self.apply(params, x, row))(params, rows)

    def infer(self, params: Any, row: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The symmetry of one network's weights, `symmetry.infer` of `apply`.

        Args:
            params: of one network, arrays or ShapeDtypeStructs.
            row: its columns; if those that the function reads are not given, what holds for every
                value of them is looked for, among permutations.
            **options: of `symmetry.infer`.
        """
        row = dict(row or {})
        shape = tuple(8 if n is None else n for n in self.input_shape)
        x = jax.ShapeDtypeStruct((1, *shape), self.input_dtype)
        free = [name for name in self.reads if name not in row]
        if free:
            options.setdefault("kinds", ("permutation",))
        codes = [jax.ShapeDtypeStruct((), jnp.int32)] * len(free)

        def run(params, x, *codes):
            return self._made.apply(params, x, {**row, **dict(zip(free, codes))}, None)

        return symmetry.infer(run, params, x, *codes, **options)

    def to_json(self) -> dict[str, Any]:
        return {"architecture": self.architecture, "settings": json.loads(self._text)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Any:
        """A `Function` or an `ExportedFunction`, from what `to_json` gave.

        Raises:
            ValueError: the data is of neither kind.
        """
        if "exported" in data:
            return ExportedFunction.from_json(data)
        if "architecture" not in data:
            raise ValueError(
                f"no function: {sorted(data)} has neither 'architecture' nor 'exported'."
            )
        return Function(data["architecture"], data.get("settings"))

    @property
    def _made(self) -> Architecture:
        return _make(self.architecture, self._text)

    def _key(self) -> tuple[str, str]:
        return self.architecture, self._text

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Function) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        usual = inspect.signature(ARCHITECTURES[self.architecture]).parameters
        inside = [f"{k}={_short(v)}" for k, v in self.settings.items() if v != usual[k].default]
        return f"Function({', '.join([self.architecture, *inside])})"


@jax.tree_util.register_static
class ExportedFunction:
    """A user's own function, as the program that jax compiles it to; made by `export_function`.

    It runs without the code it was written in. The program takes a stack of networks
    (`apply_all`); it cannot be differentiated or vmapped.
    """

    architecture = "exported"

    def __init__(self, program: bytes, settings: Mapping[str, Any]):
        object.__setattr__(self, "program", bytes(program))
        object.__setattr__(self, "_text", json.dumps(dict(settings), sort_keys=True))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an ExportedFunction is frozen; {name!r} cannot be changed.")

    @property
    def settings(self) -> dict[str, Any]:
        return _tuples(json.loads(self._text))

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
        rows = _read(self, rows)
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


@functools.lru_cache(maxsize=256)
def _make(architecture: str, text: str) -> Architecture:
    return ARCHITECTURES[architecture](**_tuples(json.loads(text)))


@functools.lru_cache(maxsize=32)
def _deserialised(program: bytes) -> Any:
    require("flatbuffers", extra="data")
    return jax.export.deserialize(bytearray(program))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def _read(function: Any, rows: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns that a function reads."""
    rows = rows or {}
    missing = [name for name in function.reads if name not in rows]
    if missing:
        raise ValueError(
            f"{function.architecture!r} reads {missing} from a network's row; it has {sorted(rows)}."
        )
    return {name: rows[name] for name in function.reads}


def _tuples(value: Any) -> Any:
    """JSON lists as tuples, throughout."""
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return value
