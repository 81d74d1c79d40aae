"""The only file that knows which jax is running.

jax 0.10 has two classes for a traced function, `Jaxpr` and `ClosedJaxpr`; from 0.11 they are one.
0.10's `scan` says how many of its operands are constants and carries, 0.11's hides that in trees.
What a primitive is called changes too ("pjit" became "jit"). So nothing here goes by class or by
name: a jaxpr is whatever has equations, and operands are counted by the ranks of the variables.

The rest of wsljax imports these helpers and never touches `jax._src`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
from jax._src import source_info_util as _source_info_util
from jax.extend import core as _jex_core

Literal = _jex_core.Literal
Var = _jex_core.Var


# -- jaxprs ----------------------------------------------------------------------------------------


def is_jaxpr(x: Any) -> bool:
    """Whether `x` is a traced function, closed over its constants or not."""
    return hasattr(x, "eqns") and hasattr(x, "invars") and hasattr(x, "outvars")


def open_jaxpr(x: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split a traced function into its equations and the values of its constants.

    Args:
        x: a `Jaxpr` or `ClosedJaxpr` of any jax version, for instance what `jax.make_jaxpr` gives.

    Returns:
        `(jaxpr, consts)`. `jaxpr` has `constvars`, `invars`, `outvars` and `eqns`; `consts` has one
        value for each of `constvars`, or is empty where the jaxpr is open and has none of its own.

    Raises:
        TypeError: `x` is not a traced function.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jaxpr, consts = open_jaxpr(jax.make_jaxpr(lambda x: 2 * x)(1.0))
        >>> [eqn.primitive.name for eqn in jaxpr.eqns], consts
        (['mul'], ())
    """
    if not is_jaxpr(x):
        raise TypeError(f"expected a jaxpr (`jax.make_jaxpr(fn)(*args)`), got {type(x).__name__}")
    consts = tuple(getattr(x, "consts", ()))
    inner = getattr(x, "jaxpr", x)
    return inner, consts


def sub_jaxprs(eqn: Any) -> tuple[tuple[str, Any], ...]:
    """Every traced function that an equation carries, found by structure and never by name.

    Looks into the values of `eqn.params`, and into tuples, lists and dictionaries there (the
    branches of `cond`).

    Returns:
        Pairs `(name, jaxpr)` in the order of the parameters, `name` as in "body_jaxpr" or
        "branches[1]". Give each jaxpr to `open_jaxpr`.

    Example:
        >>> import jax
        >>> jaxpr = jax.make_jaxpr(jax.jit(lambda x: x + 1))(1.0)
        >>> [name for name, _ in sub_jaxprs(jaxpr.eqns[0])]
        ['jaxpr']
    """

    def walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if is_jaxpr(value):
            yield name, value
        elif isinstance(value, (tuple, list)):
            for i, item in enumerate(value):
                yield from walk(f"{name}[{i}]", item)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                yield from walk(f"{name}[{key!r}]", item)

    return tuple(
        found
        for name, value in eqn.params.items()
        if type(value) not in _PLAIN
        for found in walk(name, value)
    )


_PLAIN = frozenset({int, float, bool, str, type(None)})


class ScanSplit(NamedTuple):
    """How the operands of a `scan` divide: `invars` are consts, carries, then scanned arrays;
    `outvars` are carries, then stacked outputs."""

    num_consts: int
    num_carry: int
    num_xs: int
    num_ys: int


def _rank(atom: Any) -> int:
    return len(atom.aval.shape)


def scan_split(eqn: Any) -> ScanSplit:
    """Divide the operands of a `scan` equation, by rank alone.

    A scanned array has one axis more outside the loop than inside it, a stacked output likewise;
    constants and carries have the same rank on both sides.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> f = lambda w, xs: jax.lax.scan(lambda c, x: (c @ w, 2 * x), jnp.ones(2), xs)
        >>> scan_split(jax.make_jaxpr(f)(jnp.ones((2, 2)), jnp.ones(3)).eqns[-1])
        ScanSplit(num_consts=1, num_carry=1, num_xs=1, num_ys=1)
    """
    body, _ = open_jaxpr(eqn.params["jaxpr"])
    _same_length(eqn, eqn.invars, body.invars)
    _same_length(eqn, eqn.outvars, body.outvars)
    scanned = [_rank(out) == _rank(in_) + 1 for out, in_ in zip(eqn.invars, body.invars)]
    stacked = [_rank(out) == _rank(in_) + 1 for out, in_ in zip(eqn.outvars, body.outvars)]
    num_xs, num_ys = sum(scanned), sum(stacked)
    num_carry = len(stacked) - num_ys
    num_consts = len(scanned) - num_xs - num_carry
    if num_consts < 0 or any(scanned[: num_consts + num_carry]) or any(stacked[:num_carry]):
        raise NotImplementedError(
            f"cannot tell consts, carries and scanned operands apart in {eqn.primitive.name} at "
            f"{source_line(eqn)} under jax {jax.__version__}"
        )
    return ScanSplit(num_consts, num_carry, num_xs, num_ys)


class WhileSplit(NamedTuple):
    """How the operands of a `while` divide: constants of the condition, constants of the body,
    then carries; `outvars` are the carries."""

    num_cond_consts: int
    num_body_consts: int
    num_carry: int


def while_split(eqn: Any) -> WhileSplit:
    """Divide the operands of a `while` equation, by counting variables.

    Example:
        >>> import jax
        >>> f = lambda x, n: jax.lax.while_loop(lambda c: c < n, lambda c: c + 1, x)
        >>> while_split(jax.make_jaxpr(f)(0, 3).eqns[-1])
        WhileSplit(num_cond_consts=1, num_body_consts=0, num_carry=1)
    """
    cond, _ = open_jaxpr(eqn.params["cond_jaxpr"])
    body, _ = open_jaxpr(eqn.params["body_jaxpr"])
    carry = len(eqn.outvars)
    return WhileSplit(len(cond.invars) - carry, len(body.invars) - carry, carry)


def _same_length(eqn: Any, outer: Sequence[Any], inner: Sequence[Any]) -> None:
    if len(outer) != len(inner):
        raise NotImplementedError(
            f"{eqn.primitive.name} at {source_line(eqn)} has {len(outer)} variables outside and "
            f"{len(inner)} inside its body; jax {jax.__version__} is not understood here"
        )


def source_line(eqn: Any) -> str:
    """Where the user wrote an equation: `"file.py:12 (function)"`, or `"unknown source"`.

    That is the innermost line outside of installed packages: the call of a flax layer, not the
    inside of flax. Where every line is in a package, it is the innermost outside of jax. Files
    below the working directory are given relative to it.

    Example:
        >>> import jax
        >>> source_line(jax.make_jaxpr(lambda x: x + 1)(1.0).eqns[0])
        '<doctest ...>:1 (<lambda>)'
    """
    traceback = getattr(getattr(eqn, "source_info", None), "traceback", None)
    innermost = None
    for frame in _source_info_util.user_frames(traceback):
        if frame.file_name.startswith(_SYMMETRY):
            break  # here the trace began; what lies further out only asked for it
        innermost = innermost or frame
        if not _INSTALLED.search(frame.file_name):
            innermost = frame
            break
    if innermost is None:
        return "unknown source"
    file = innermost.file_name.removeprefix(os.getcwd() + os.sep)
    return f"{file}:{innermost.start_line} ({innermost.function_name})"


_SYMMETRY = os.path.join(os.path.dirname(__file__), "symmetry") + os.sep
_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")


# -- values and settings ---------------------------------------------------------------------------


def is_tracer(x: Any) -> bool:
    """Whether `x` stands for a value that is not known yet (inside `jit`, `grad`, `vmap`, …)."""
    return isinstance(x, jax.core.Tracer)


def enable_x64() -> AbstractContextManager[None]:
    """A context in which jax computes in float64; the setting of the caller comes back after it.

    Example:
        >>> import jax.numpy as jnp
        >>> with enable_x64():
        ...     print(jnp.ones(3).dtype)
        float64
    """
    return jax.enable_x64(True)  # pyright: ignore[reportReturnType]


# -- paths -----------------------------------------------------------------------------------------


def key_path_str(path: Sequence[Any]) -> str:
    """A pytree key path as text: `"Dense_0/kernel"`, `"layers/0/weight"`.

    A trailing attribute `value`, which flax nnx puts between a variable and its array, is left
    out. Where the tree itself is at hand, `leaf_paths` tells such a variable from a module that
    has a field called `value`.

    Example:
        >>> import jax
        >>> [(path, leaf)] = jax.tree.leaves_with_path({"Dense_0": {"kernel": 1.0}})
        >>> key_path_str(path)
        'Dense_0/kernel'
    """
    path = tuple(path)
    if len(path) > 1 and isinstance(path[-1], jtu.GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return jtu.keystr(path, simple=True, separator="/")


def leaf_paths(tree: Any) -> list[str]:
    """The path of every leaf of a pytree, in the order of `jax.tree.leaves(tree)`.

    Raises:
        ValueError: two leaves have the same path.

    Example:
        >>> leaf_paths({"layers": [{"w": 1.0, "b": 2.0}], "value": 3.0})
        ['layers/0/b', 'layers/0/w', 'value']
    """
    nnx = sys.modules.get("flax.nnx")  # no nnx variable can exist before nnx is imported
    is_variable = (lambda x: isinstance(x, nnx.Variable)) if nnx is not None else None
    paths: list[str] = []
    for path, node in jax.tree.leaves_with_path(tree, is_leaf=is_variable):
        name = jtu.keystr(path, simple=True, separator="/")
        paths += [name] * len(jax.tree.leaves(node))
    if len(set(paths)) < len(paths):
        twice = next(name for i, name in enumerate(paths) if name in paths[:i])
        raise ValueError(
            f"two leaves have the path {twice!r}; rename a key that contains '/', or take "
            "`nnx.to_pure_dict` of a state whose variables hold several arrays"
        )
    return paths


# -- optional packages -----------------------------------------------------------------------------


def require(module: str, *, extra: str) -> ModuleType:
    """Import a package that is not among the core dependencies, at the moment it is needed.

    Args:
        module: dotted name, as in "sklearn.ensemble".
        extra: the extra of wsljax that installs it.

    Raises:
        ImportError: it is not installed; the message names the extra.

    Example:
        >>> require("no_such_package", extra="experiments")
        Traceback (most recent call last):
            ...
        ImportError: `no_such_package` is not installed; it comes with the extra 'experiments': \
pip install "wsljax[experiments]"
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        missing = getattr(error, "name", None) or module
        if missing.partition(".")[0] != top:
            raise  # the package is there, something of its own is broken
        raise ImportError(
            f"`{top}` is not installed; it comes with the extra {extra!r}: "
            f'pip install "wsljax[{extra}]"',
            name=module,
        ) from error


# -- linear algebra --------------------------------------------------------------------------------


def orthonormal_columns(x: jax.Array) -> jax.Array:
    """Q of the QR decomposition whose R has a positive diagonal; uniformly drawn for normal `x`.

    By Gram and Schmidt, each column done twice, which keeps columns orthogonal to rounding. jaxlib 0.10 runs
    batched QR decompositions in its own threads and can wait forever where several are on their way at
    once, as in a population that is drawn by one program.

    Args:
        x: `(..., m, n)` with `m >= n` and columns that are independent.

    Returns:
        `(..., m, n)`, orthonormal columns.

    Example:
        >>> import jax.numpy as jnp
        >>> q = orthonormal_columns(jnp.array([[3.0, 1.0], [4.0, 0.0]]))
        >>> [[f"{v:.1f}" for v in row] for row in q.tolist()]
        [['0.6', '0.8'], ['0.8', '-0.6']]
    """

    def add(k: jax.Array, q: jax.Array) -> jax.Array:
        column = jax.lax.dynamic_slice_in_dim(x, k, 1, axis=-1)
        for _ in range(2):
            along = jnp.matmul(jnp.swapaxes(q, -1, -2), column, precision="highest")
            column = column - jnp.matmul(q, along, precision="highest")
        column = column / jnp.linalg.norm(column, axis=-2, keepdims=True)
        return jax.lax.dynamic_update_slice_in_dim(q, column, k, axis=-1)

    return jax.lax.fori_loop(0, x.shape[-1], add, jnp.zeros_like(x))
