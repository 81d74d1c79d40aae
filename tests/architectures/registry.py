"""The registry of architectures: small networks whose permutation group was derived by hand.

Every module beside this one adds cases with the ``case`` decorator; ``load`` imports them all.
Nothing in a case comes from the inference it judges: the group is written down from the
architecture, with the reason next to it.
"""

import functools
import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Group = tuple[tuple[int, int], ...]
Build = Callable[[jax.Array], tuple[Callable, Any, tuple]]


@dataclass(frozen=True)
class Case:
    """One architecture.

    Attributes:
        name: unique, ``framework/what``.
        build: ``key -> (fn, params, inputs)``; ``fn(params, *inputs)`` returns arrays. Parameters
            are generic, so that each one matters to the output; inputs are small concrete arrays.
        group: the maximal group of parameter permutations that leave ``fn`` unchanged, as
            ``(size, independent copies)`` pairs. Sets of size one are left out.
        slow: takes seconds rather than tens of milliseconds to trace or run.
        exceptions: leaf paths (joined by ``/``) to which the function is legitimately
            insensitive, for example the bias of attention keys.
        free: the case is about inputs and outputs that move (``free_inputs``, ``free_outputs``).
        infer_kwargs: further keywords for ``symmetry.infer``.
    """

    name: str
    build: Build
    group: Group
    slow: bool = False
    exceptions: tuple[str, ...] = ()
    free: bool = False
    infer_kwargs: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {}

#: Cases of which inference finds a proper subgroup so far, and why. A test fails when one is found
#: whole, so that this list can only shrink.
MISSED: dict[str, str] = {
    "raw/shufflenet_unit_uneven": "an axis is read as (3, 2) and, transposed, as (2, 3): units of the "
    "common refinement stand on the diagonals of a product",
}


def case(name: str, group: Iterable[tuple[int, int]], **kw: Any) -> Callable[[Build], Build]:
    """Decorator: registers ``build(key) -> (fn, params, inputs)`` under ``name``.

    Raises:
        ValueError: the name is taken, or the group has a size or a number of copies below one.
    """
    pairs = tuple((int(size), int(copies)) for size, copies in group)
    if any(size < 1 or copies < 1 for size, copies in pairs):
        raise ValueError(
            f"case `{name}`: sizes and copies in `group` must be positive, got {pairs}"
        )

    def register(build: Build) -> Build:
        if name in CASES:
            raise ValueError(f"case `{name}` is registered twice; give the second another name")
        CASES[name] = Case(name=name, build=build, group=pairs, **kw)
        return build

    return register


def load() -> dict[str, Case]:
    """Imports every module of this package and returns all registered cases by name."""
    package = importlib.import_module(__package__)
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{__package__}.{module}")
    return CASES


def log_order(group: Iterable[tuple[int, int]]) -> float:
    """Natural logarithm of the order of the product of ``copies`` symmetric groups each."""
    return sum(copies * math.lgamma(size + 1) for size, copies in group)


def generic(params: Any, key: jax.Array, spread: float = 0.5) -> Any:
    """Moves freshly initialised parameters to a generic point.

    Leaves that initialise to one constant (biases, norm scales, running statistics) get
    independent noise below ``spread`` in size, so ones stay positive; leaves that initialise
    with a small deviation (embeddings) are widened to at least 0.3. Leaves that are not
    floating are kept.
    """
    leaves, treedef = jax.tree.flatten(params)
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())

    def move(leaf: Any) -> Any:
        if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            return leaf
        value = np.asarray(leaf)
        deviation = float(np.std(value))
        if deviation < 1e-6:
            value = value + random.uniform(-spread, spread, value.shape)
        else:
            value = value * max(1.0, 0.3 / deviation)
        return jnp.asarray(value.astype(leaf.dtype))

    return jax.tree.unflatten(treedef, [move(x) for x in leaves])


# Compiling is what takes time: once, and without optimisation.
quickly = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
