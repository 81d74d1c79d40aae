"""What the weights of a population compute: the function itself, as data.

A stack of weights without padding, residuals, activation, input normalisation or output offset is
not a network: a published pipeline that guessed the padding took networks of 95% for networks of
19%. A `Function` holds all of it: the name of an architecture and its settings, which are JSON. A
function of the user's own is kept as the program it compiles to (StableHLO, by `jax.export`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from wsljax import symmetry
from wsljax.zoo.architecture import (
    ARCHITECTURES,
    Architecture,
    make_architecture,
    read_columns,
    tuples,
)
from wsljax.zoo.exported import ExportedFunction


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

    architecture: str
    _text: str

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
        return tuples(json.loads(self._text))

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
        read_columns(self, row)
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
        rows = read_columns(self, rows)
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
        return make_architecture(self.architecture, self._text)

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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"
