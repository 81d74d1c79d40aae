"""A function at random float64 parameters and inputs: its outputs, and its derivative in many directions.

Two programs are compiled for a function, one that evaluates it on a batch of parameters and one that pushes
a batch of tangents forward; directions are built as numpy arrays, block by block.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import enable_x64, open_jaxpr
from ..layout import blocks_of, decompose
from .kinship import uses

BATCH_ENTRIES = 4_000_000
LARGEST_BATCH = 8
FINE, COARSE = 1e-9, 3e-4
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
SMALL = 1000
"""Networks of fewer parameters are compiled without optimisation: they run in no time as it is."""


class CannotProbe(Exception):
    """Why a function cannot be evaluated at random float64 parameters."""


@contextmanager
def told() -> Iterator[None]:
    """Whatever a user's function raises in float64 is a reason not to look at it."""
    try:
        yield
    except CannotProbe:
        raise
    except Exception as e:
        first = str(e).strip().splitlines() or [""]
        raise CannotProbe(f"{type(e).__name__}: {first[0][:120]}") from e


class Probe:
    """A function of ``params`` and ``inputs``, evaluated anywhere in float64.

    Args:
        fn: ``fn(params, *inputs)``.
        spec: the permutations of it, whose blocks directions are given by.
        params, inputs: concrete values; draws are made around them.
        seed: of the draws.

    Raises:
        CannotProbe: if it cannot be traced in float64, or has no finite real outputs.
    """

    def __init__(self, fn: Callable, spec, params: Any, inputs: tuple, seed: int = 0):
        self.spec = spec
        leaves, self.treedef = jax.tree_util.tree_flatten(params)
        if any(np.iscomplexobj(x) for x in leaves):
            raise CannotProbe("parameters are complex")
        self.given = [np.asarray(x, np.float64) for x in leaves]
        ends, self.in_tree = jax.tree_util.tree_flatten(inputs)
        self.inputs = [_wide(x) for x in ends]
        self.random = np.random.default_rng(seed)
        self._draws: list[tuple[list, list, np.ndarray]] = []
        entries = max(sum(x.size for x in self.given), 1)
        self.batch = int(np.clip(BATCH_ENTRIES // entries, 1, LARGEST_BATCH))
        self.options = QUICK if entries < SMALL else None
        self._compiled: dict[str, Callable] = {}

        def flat(leaves, ins):
            y = fn(self.treedef.unflatten(leaves), *self.in_tree.unflatten(ins))
            parts = [jnp.ravel(v) for v in jax.tree.leaves(y) if _inexact(v)]
            parts = [p for v in parts for p in ((v.real, v.imag) if jnp.iscomplexobj(v) else (v,))]
            if not parts:
                raise CannotProbe("the function returns no real numbers")
            return jnp.concatenate([p.astype(jnp.float64) for p in parts])

        self.flat = flat

    # ------------------------------------------------------------------ where
    @cached_property
    def places(self) -> dict[str, tuple[int, np.ndarray]]:
        """Of each block: the leaf it is cut from, and the flat index of each of its entries there."""
        out = {}
        for i, leaf in enumerate(self.spec.leaves):
            index = np.arange(int(np.prod(leaf.shape))).reshape(leaf.shape)
            names = [b.name for b in blocks_of(leaf.path, leaf.trees, self.spec._overs)]
            for name, x in zip(names, decompose(index, leaf.trees), strict=True):
                out[name] = (i, np.asarray(x))
        return out

    def block(self, leaves: Sequence[np.ndarray], name: str) -> np.ndarray:
        """One block of a list of leaves."""
        i, index = self.places[name]
        return leaves[i].reshape(-1)[index]

    def draw(self, k: int) -> tuple[list, list, np.ndarray]:
        """The ``k``-th random ``(leaves, inputs, outputs)``; always the same for the same ``k``."""
        while len(self._draws) <= k:
            self._draws.append(self._new_draw(len(self._draws)))
        return self._draws[k]

    def _new_draw(self, k: int):
        random = np.random.default_rng([k, 17])
        # every other draw is far off: weights that all have one sign hide what a sign would show
        far = ((1.5, True),) if k % 2 else ()
        for spread, additive in (*far, (0.4, True), (0.3, False), (0.1, False), (0.02, False)):
            leaves = [_moved(random, x, spread) for x in self.given]
            for inputs in (self._inputs(random, additive), self.inputs):
                y = self.evaluate([leaves], inputs)[0]
                if np.all(np.isfinite(y)):
                    return leaves, inputs, y
        raise CannotProbe("outputs are not finite at random parameters around the given ones")

    def inputs_at(self, k: int, leaves: Sequence | None = None, spread: float = 3.0) -> list:
        """The ``k``-th random inputs, at the given parameters or others."""
        at = self.given if leaves is None else list(leaves)
        for additive in (True, False):
            inputs = self._inputs(np.random.default_rng([k, 29]), additive, spread)
            if np.all(np.isfinite(self.evaluate([at], inputs)[0])):
                return inputs
        raise CannotProbe("outputs are not finite at random inputs around the given ones")

    def _inputs(self, random, additive: bool, spread: float = 0.7) -> list:
        def one(x):
            if not hasattr(x, "dtype") or jnp.issubdtype(x.dtype, jax.dtypes.extended):
                return x
            a = np.asarray(x)
            if jnp.issubdtype(x.dtype, jnp.floating):
                a = np.asarray(a, np.float64)
                if additive and a.ndim:
                    return a + spread * (np.std(a) or 1.0) * random.standard_normal(a.shape)
                return a * (1 + 0.2 * random.uniform(-1, 1, a.shape))
            if jnp.issubdtype(x.dtype, jnp.integer) and a.size > 1:
                return random.integers(a.min(), a.max() + 1, a.shape).astype(a.dtype)
            return a

        return [one(x) for x in self.inputs]

    @cached_property
    def tolerance(self) -> float:
        """What of the spread of the outputs is rounding.

        A change in the tenth digit of the parameters shows in float64; one in the seventh shows whether
        some of the function is computed with less, as twice of it is then not twice as much.
        """
        leaves, inputs, y = self.draw(0)
        random = np.random.default_rng(5)
        ways = [random.uniform(-1, 1, x.shape) for x in leaves]
        near = [[x * (1 + h * w) for x, w in zip(leaves, ways)] for h in (1e-10, 1e-7, 2e-7)]
        least, once, twice = self.evaluate(near, inputs)
        if not 1e-14 < self.apart(least, y) < 1e-8:
            return COARSE
        noise = self.apart(2 * once - twice, y)
        return float(np.clip(100 * noise, FINE, COARSE))

    @property
    def negligible(self) -> float:
        """What of the largest derivative is none: where rounding decides the tolerance, ten times that."""
        return max(1e-2 * FINE, 1e-1 * self.tolerance if self.tolerance > FINE else 0.0)

    @property
    def exact(self) -> bool:
        """Whether the function computes in float64 throughout."""
        return self.tolerance < COARSE

    @cached_property
    def traced(self) -> Any:
        """The function of the flat leaves and inputs as a jaxpr, in float64."""
        leaves, inputs, _ = self.draw(0)
        with enable_x64(), told():
            return jax.make_jaxpr(self.flat)(leaves, inputs)

    @cached_property
    def uses(self) -> list[int]:
        """For each leaf, a hash of what is computed from it next."""
        return uses(open_jaxpr(self.traced)[0], len(self.given))

    def of(self, flat: Callable) -> Probe:
        """The same for another function of the flat leaves and inputs."""
        other = copy.copy(self)
        other.flat, other._compiled, other._draws = flat, {}, []
        for name in ("tolerance", "traced", "uses"):
            other.__dict__.pop(name, None)
        return other

    # ------------------------------------------------------------------ values and derivatives
    def program(self, name: str, fn: Callable, *args: Any) -> Any:
        """``fn(*args)``, compiled once under ``name``, in float64 on a CPU."""
        with enable_x64(), jax.default_device(jax.devices("cpu")[0]), told():
            if name not in self._compiled:
                options = QUICK if name.startswith("moved") else self.options
                self._compiled[name] = jax.jit(fn).lower(*args).compile(options)
            return self._compiled[name](*args)

    def evaluate(self, many: Sequence[Sequence[np.ndarray]], inputs: list) -> np.ndarray:
        """Outputs, one row for each list of leaves."""

        def run(stack, ins):
            return jax.lax.map(lambda leaves: self.flat(leaves, ins), stack)

        def call(part):
            stack = [np.stack(x) for x in zip(*part, strict=True)]
            return np.asarray(self.program("evaluate", run, stack, inputs))

        return _in_batches(many, self.batch, call)

    def push(
        self, directions: Sequence[Mapping[str, np.ndarray]], leaves: list, inputs: list
    ) -> np.ndarray:
        """The derivative of the outputs, one row for each direction ``{block: array}``."""

        def run(leaves, ins, stack):
            _, forward = jax.linearize(lambda p: self.flat(p, ins), leaves)
            return jax.lax.map(forward, stack)

        def call(part):
            for row, direction in enumerate(part):
                for name, x in direction.items():
                    i, index = self.places[name]
                    self._stack[i][row].reshape(-1)[index] += x
            found = np.array(self.program("push", run, leaves, inputs, self._stack))
            for row, direction in enumerate(part):
                for name in direction:
                    i, index = self.places[name]
                    self._stack[i][row].reshape(-1)[index] = 0
            return found

        return _in_batches(directions, self.batch, call, pad=False)

    @cached_property
    def _stack(self) -> list[np.ndarray]:
        """Zeros, one row for each direction of a batch: making them anew each time would take longest."""
        return [np.zeros((self.batch, *x.shape)) for x in self.given]

    def apart(self, new: np.ndarray, old: np.ndarray) -> float:
        """Largest difference of two outputs relative to their spread."""
        spread = np.std(old) or np.max(np.abs(old)) or 1.0
        gap = np.max(np.abs(new - old))
        return float(gap / spread) if np.isfinite(gap) else np.inf


def _in_batches(rows: Sequence, size: int, call: Callable, pad: bool = True) -> np.ndarray:
    out = []
    for start in range(0, len(rows), size):
        part = list(rows[start : start + size])
        filled = part + [part[-1]] * (size - len(part)) if pad else part
        out.append(call(filled)[: len(part)])
    return np.concatenate(out)


def _moved(random, x: np.ndarray, spread: float) -> np.ndarray:
    scale = float(np.sqrt(np.mean(x**2))) or 1.0
    return x + spread * scale * random.uniform(-1, 1, x.shape)


def _wide(x: Any) -> Any:
    """A real array in float64."""
    real = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
    return np.asarray(x, np.float64) if real else x


def _inexact(x: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(x).dtype, jnp.inexact)
