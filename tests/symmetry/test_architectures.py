"""Every architecture of the registry: soundness, completeness and the laws of its spec.

The group expected of a case was derived by hand and knows nothing of the inference. Everything is
computed in float64, where a symmetry holds to rounding and a broken one shows far above it.
"""

import functools
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random, registry
from wsljax import symmetry

from . import brute_force

KEPT = 1e-10  # relative to the spread of the output: rounding in float64
BROKEN = 1e-6
CASES = registry.load()

# Every function here is compiled once and run on a handful of numbers: compiling is what takes time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = functools.partial(jax.jit, compiler_options=QUICK)


def cases(share: int = 1):
    """Every case; by default only one in `share` of them, the others with `-m slow`."""

    def slow(name: str) -> bool:
        return CASES[name].slow or zlib.crc32(name.encode()) % share > 0

    marked = [pytest.param(n, marks=pytest.mark.slow if slow(n) else ()) for n in CASES]
    return pytest.mark.parametrize("name", marked)


every_case = cases()
some_cases = cases(3)  # what the library's own programs do: each takes six compilations


def infer(case: registry.Case, fn: Callable, params: Any, inputs: tuple) -> symmetry.Spec:
    """The spec, without the warning for what has no rule: completeness speaks about that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        return symmetry.infer(fn, params, *inputs, kinds=("permutation",), **case.infer_kwargs)


def double(tree: Any) -> Any:
    """Floating leaves as float64."""

    def one(x):
        floating = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(np.asarray(x, np.float64)) if floating else x

    return jax.tree.map(one, tree)


@dataclass
class Ready:
    """One architecture with its spec, its compiled function and what it returns."""

    case: registry.Case
    fn: Callable
    run: Callable
    params: Any
    inputs: tuple
    spec: symmetry.Spec
    output: list[np.ndarray]

    def __post_init__(self):
        leaves, self.treedef = jax.tree.flatten(self.params)
        self.leaves = [np.asarray(x) for x in leaves]
        groups = (self.spec.leaves, self.spec.inputs, self.spec.outputs)
        self.found, self.found_in, self.found_out = (
            [brute_force.occurrences(leaf) for leaf in group or ()] for group in groups
        )

    def outputs(self, params: Any, inputs: tuple | None = None) -> list[np.ndarray]:
        result = self.run(params, *(self.inputs if inputs is None else inputs))
        return [np.asarray(y) for y in jax.tree.leaves(result)]

    def with_leaf(self, i: int, x: np.ndarray) -> Any:
        return self.treedef.unflatten([x if j == i else y for j, y in enumerate(self.leaves)])

    def moved(self, g, skip=None) -> Any:
        """The parameters under ``g`` by brute force, the occurrence ``skip`` left out."""
        return self._act(g, self.spec.leaves, self.found, self.params, skip)

    def change(self, params: Any, g=None, skip=None) -> float:
        """Largest change of the output relative to its spread; ``g`` moves free ends too."""
        inputs, expected = self.inputs, self.output
        if g is not None and self.spec.inputs is not None:
            inputs = self._act(g, self.spec.inputs, self.found_in, inputs, skip)
        if g is not None and self.spec.outputs is not None:
            expected = self._act(g, self.spec.outputs, self.found_out, expected, skip)
        new = self.outputs(params, inputs)
        return max(difference(a, b) for a, b in zip(new, expected, strict=True))

    def _act(self, g, group, found, tree: Any, skip) -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        rows = zip(group, leaves, found, strict=True)
        return treedef.unflatten(
            [brute_force.act(self.spec, g, leaf, x, skip, places) for leaf, x, places in rows]
        )

    def places(self, name: str) -> list[tuple[str, brute_force.Occurrence]]:
        """Where a set of units stands: in parameters, then in free inputs and outputs."""
        rows = [*zip(self.spec.leaves, self.found, strict=True)]
        rows += [*zip(self.spec.inputs or (), self.found_in, strict=True)]
        rows += [*zip(self.spec.outputs or (), self.found_out, strict=True)]
        return [(leaf.path, o) for leaf, found in rows for o in found if o.name == name]


def difference(new: np.ndarray, old: np.ndarray) -> float:
    """Largest difference relative to the spread of ``old``; infinite where integers differ."""
    if new.dtype.kind in "biu":
        return 0.0 if np.array_equal(new, old) else np.inf
    spread = np.ptp(old.real) + (np.ptp(old.imag) if old.dtype.kind == "c" else 0.0)
    spread = spread if spread > 0 else np.abs(old).max()
    return float(np.abs(new - old).max() / spread)


@functools.lru_cache(maxsize=2)  # tests of one case follow each other
def ready(name: str) -> Ready:
    case = CASES[name]
    fn, params, inputs = case.build(quick_random.key(0))
    params, inputs = double(params), double(inputs)
    run = compiled(fn)
    output = [np.asarray(y) for y in jax.tree.leaves(run(params, *inputs))]
    assert all(np.isfinite(y).all() for y in output), "the case itself is not finite"
    return Ready(case, fn, run, params, inputs, infer(case, fn, params, inputs), output)


@dataclass
class Laws:
    """What the library makes of two random elements."""

    g1: dict
    g2: dict
    trees: dict[str, Any]
    blocks: dict[str, dict]


@functools.lru_cache(maxsize=2)
def laws(name: str) -> Laws:
    at = ready(name)
    spec, params = at.spec, at.params
    act, compose, inverse = compiled(spec.act), compiled(spec.compose), compiled(spec.inverse)
    blocks = compiled(spec.blocks)
    unblocks = compiled(lambda blocks, params: spec.unblocks(blocks, like=params))
    g1 = compiled(spec.sample)(quick_random.key(1))
    g2 = {name: perm for u in spec.units for name, perm in stir(at, u.name).items()}
    g2 = {name: perm.astype(g1[name].dtype) for name, perm in g2.items()}
    once = act(g1, params)
    trees = {
        "identity": act(spec.identity(), params),
        "once": once,
        "twice": act(g2, once),
        "composed": act(compose(g2, g1), params),
        "undone": act(inverse(g1), once),
        "inverse first": act(g1, act(inverse(g1), params)),
        "unblocked": unblocks(blocks(params), params),
    }
    both = {"before": blocks(params), "after": blocks(once)}
    return Laws(*jax.tree.map(np.asarray, (g1, g2, trees, both)))


def same(a: Any, b: Any) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def stir(at: Ready, name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """A random element that moves the units ``name`` alone, and each copy of them."""
    spec, random = at.spec, np.random.default_rng(seed)
    shape = tuple(spec.size_of(o) for o in spec.over(name))
    size = spec.size_of(name)
    perm = np.empty((*shape, size), int)
    for index in np.ndindex(shape):
        order = random.permutation(size)
        perm[(*index, order)] = np.roll(order, 1)  # one cycle through all: nothing stays
    return {name: perm}


def draw(at: Ready) -> dict[str, np.ndarray]:
    """A random element, all units and all their copies."""
    random = np.random.default_rng(1)

    def one(units) -> np.ndarray:
        shape = (*(at.spec.size_of(o) for o in units.over), units.size)
        return random.permuted(np.broadcast_to(np.arange(units.size), shape).copy(), axis=-1)

    return {units.name: one(units) for units in at.spec.units}


def swaps(size: int) -> Iterator[np.ndarray]:
    """Neighbours exchanged (at most 12 pairs), then all moved by one."""
    for i in np.unique(np.linspace(0, size - 2, min(size - 1, 12)).astype(int)):
        perm = np.arange(size)
        perm[[i, i + 1]] = perm[[i + 1, i]]
        yield perm
    if size > 2:
        yield np.roll(np.arange(size), 1)


@every_case
def test_sound(name):
    """A random element of the whole group, and of each set of units alone, keeps the function."""
    at = ready(name)
    g = draw(at)
    assert at.change(at.moved(g), g) <= KEPT
    for units in at.spec.units:
        g = stir(at, units.name)
        assert at.change(at.moved(g), g) <= KEPT, f"units {units.name!r} alone\n{at.spec}"


@every_case
def test_complete(name):
    """The group has the order that was derived by hand."""
    at = ready(name)
    expected = registry.log_order(at.case.group)
    if name in registry.MISSED:
        assert at.spec.log_order() < expected - 0.1, f"{name} is found: take it out of MISSED"
        pytest.xfail(registry.MISSED[name])
    assert at.spec.log_order() == pytest.approx(expected, abs=1e-9), (
        f"by hand {at.case.group}\n{at.spec}"
    )


@every_case
def test_no_occurrence_is_spare(name):
    """A set of units permuted everywhere but at one place breaks the function."""
    at = ready(name)
    for units in at.spec.units:
        places = at.places(units.name)
        if units.size < 2 or len(places) < 2:
            continue
        for path, place in places:
            if path in at.case.exceptions:
                continue
            stirred = [stir(at, units.name, seed) for seed in range(2)]
            change = max(at.change(at.moved(g, place), g, place) for g in stirred)
            assert change > BROKEN, f"{path}: {place.describe()} does not matter\n{at.spec}"


@every_case
def test_pinned_is_pinned(name):
    """Any two neighbours on a fixed axis of one leaf, exchanged, break the function."""
    at = ready(name)
    names = {units.name for units in at.spec.units}
    for i, (leaf, found) in enumerate(zip(at.spec.leaves, at.found, strict=True)):
        if leaf.path in at.case.exceptions:
            continue
        for k, place in enumerate(found):
            if place.name in names or place.size < 2:
                continue
            for perm in swaps(place.size):
                x = brute_force.permute_fixed(leaf, found, k, perm, at.leaves[i])
                assert at.change(at.with_leaf(i, x)) > BROKEN, (
                    f"{leaf.path}: {place.describe()} may be permuted by {perm}\n{at.spec}"
                )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.free])
def test_free_ends_move(name):
    """Inputs and outputs that may be permuted move as the spec says."""
    at = ready(name)
    result = laws(name)
    outputs = at.outputs(result.trees["once"], at.spec.act_inputs(result.g1, at.inputs))
    shapes = jax.eval_shape(at.fn, at.params, *at.inputs)
    expected = at.spec.act_outputs(
        result.g1, jax.tree.unflatten(jax.tree.structure(shapes), at.output)
    )
    for new, old in zip(outputs, jax.tree.leaves(expected), strict=True):
        assert difference(new, np.asarray(old)) <= KEPT


@some_cases
def test_action_laws(name):
    """Identity, composition and inverse; and the action is the one the grammar describes."""
    at, result = ready(name), laws(name)
    for units in at.spec.units:
        shape = (*(at.spec.size_of(o) for o in units.over), units.size)
        assert result.g1[units.name].shape == shape
        assert np.array_equal(
            np.sort(result.g1[units.name], -1), np.broadcast_to(np.arange(units.size), shape)
        )
    assert same(result.trees["identity"], at.params)
    assert same(result.trees["once"], at.moved(result.g1))
    assert same(result.trees["twice"], result.trees["composed"])
    assert same(result.trees["undone"], at.params)
    assert same(result.trees["inverse first"], at.params)


@some_cases
def test_blocks(name):
    """Blocks hold the same numbers, one set of units on each axis, and move as documented."""
    at, result = ready(name), laws(name)
    assert same(result.trees["unblocked"], at.params)
    layout = {block.name: block for block in at.spec.layout}
    assert list(layout) == list(dict.fromkeys(layout)) and set(layout) == set(
        result.blocks["before"]
    )
    for block_name, block in layout.items():
        before, after = (result.blocks[k][block_name] for k in ("before", "after"))
        assert before.shape == block.shape and len(block.axes) == len(block.shape)
        for label, size in zip(block.axes, block.shape, strict=True):
            assert label == "_" or size == at.spec.size_of(label)
        expected = brute_force.act_on_block(result.g1, block, before)
        assert np.array_equal(after, expected), block
    entries = sum(b.size for b in result.blocks["before"].values())
    assert entries == sum(x.size for x in at.leaves)


@every_case
def test_texts(name):
    """JSON and hand-written annotations give the spec back."""
    at = ready(name)
    again = symmetry.Spec.from_json(at.spec.to_json())
    assert again == at.spec and hash(again) == hash(at.spec)
    assert symmetry.parse(at.params, at.spec.axes).axes == at.spec.axes
    assert all(path in repr(at.spec) for path in at.spec.axes)


@every_case
def test_shapes_are_enough(name):
    """Nothing but shapes and dtypes is read."""
    at = ready(name)

    def abstract(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "shape") else x

    shapes = jax.tree.map(abstract, (at.params, at.inputs))
    assert infer(at.case, at.fn, *shapes) == at.spec
