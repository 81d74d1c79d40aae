"""Conditions: what they say depends on what it should, and a hidden one leaves nothing behind."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random
from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.generation.conditions import (
    ARCHITECTURE_FEATURES,
    ClassCondition,
    Conditions,
    Dropped,
    Examples,
    Graph,
    GraphCondition,
    NetworkCondition,
    SetCondition,
    Told,
    VectorCondition,
    architecture_graph,
)
from wsljax.representation import Metanetwork

SIZE = 6
NETWORK = {"w": np.zeros((2, 3)), "b": np.zeros(3)}
SPEC = symmetry.parse(NETWORK, {"w": "_ h", "b": "h"})


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def network(seed: int) -> dict:
    return {name: numbers(*x.shape, seed=seed + 7) for name, x in NETWORK.items()}


def dataset(seed: int) -> Examples:
    labels = np.random.default_rng(seed).integers(0, 4, 5)
    return Examples(numbers(5, 2, 2, seed=seed), labels, np.array([1, 1, 1, 1, 0], bool))


def graph(seed: int) -> Graph:
    edges = (numbers(4, 4, seed=seed) > 0).astype(float)
    return Graph(numbers(4, 3, seed=seed), edges, np.array([1, 1, 1, 0], bool))


def encoder(key: Any) -> Metanetwork:
    return Metanetwork(SPEC, 4, 1, SIZE, key=key)


CONDITIONS = {
    "class": (lambda key: ClassCondition(4, SIZE, key=key), lambda seed: np.asarray(seed)),
    "vector": (lambda key: VectorCondition(3, SIZE, key=key), lambda seed: numbers(3, seed=seed)),
    "waves": (
        lambda key: VectorCondition(1, SIZE, waves=3, key=key),
        lambda seed: numbers(seed=seed),
    ),
    "set": (lambda key: SetCondition((2, 2), SIZE, classes=4, channels=8, key=key), dataset),
    "graph": (lambda key: GraphCondition(3, SIZE, channels=8, key=key), graph),
    "beside": (lambda key: NetworkCondition(), network),
    "encoded": (
        lambda key: NetworkCondition(encoder=encoder(key), size=SIZE, beside=True),
        network,
    ),
    "several": (
        lambda key: Conditions(
            {"class": ClassCondition(4, 2, key=key), "start": NetworkCondition()}
        ),
        lambda seed: {"start": network(seed), "class": np.asarray(seed)},
    ),
}
FAST = {"class", "set", "several"}
ALL = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CONDITIONS]


@functools.cache
def drawn(name: str) -> Dropped:
    build, _ = CONDITIONS[name]
    rest = None

    @quickly
    def arrays():
        nonlocal rest
        keys = jax.random.split(quick_random.key(0))
        condition = Dropped(build(keys[0]), 0.5, key=keys[1])
        found, rest = eqx.partition(condition, eqx.is_inexact_array)
        return found

    return eqx.combine(arrays(), rest)


def stack(trees: list) -> Any:
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(a) for a in x]), *trees)


def flat(told: Told) -> np.ndarray:
    """Everything that a denoiser is told, one row a sample."""
    told = jax.vmap(lambda t: t.encoded(lambda x: x))(told)
    parts = [x.reshape(len(x), -1) for x in jax.tree.leaves((told.vector, told.beside))]
    return np.concatenate(parts, axis=1)


def bad(raw: Any) -> Any:
    """What nobody should see: NaN, and classes that do not exist."""

    def spoil(x):
        x = np.asarray(x)
        if x.dtype == bool:
            return x
        return (
            np.full_like(x, np.nan) if np.issubdtype(x.dtype, np.floating) else np.full_like(x, -1)
        )

    return jax.tree.map(spoil, raw)


@pytest.mark.parametrize("name", ALL)
def test_what_is_told(name):
    """In one program: sizes, what differs, and that nothing of a hidden condition is left."""
    condition = drawn(name)
    make = CONDITIONS[name][1]
    raws = stack([make(0), make(1), make(0), bad(make(1))])
    arrays, rest = eqx.partition(condition, eqx.is_inexact_array)

    @quickly
    def run(arrays, raws):
        own = eqx.combine(arrays, rest)
        told = jax.vmap(own)(raws)
        null = jax.vmap(own.null)(raws)

        def hidden(arrays):
            told = eqx.combine(arrays, rest)(jax.tree.map(lambda x: x[3], raws))
            told = told.encoded(lambda x: x)
            return sum(jnp.sum(jnp.sin(x + 1)) for x in jax.tree.leaves((told.vector, told.beside)))

        return told, null, jax.grad(hidden)(arrays)

    told, null, grads = run(arrays, raws)
    if condition.size is not None:
        assert told.vector.shape == (4, condition.size)
    assert len(told.beside) == len(told.shown) == condition.beside
    found, nothing = flat(told), flat(null)
    assert np.isfinite(found).all()
    assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])
    assert np.array_equal(found[3], nothing[3]), "a condition that is not known is not the null"
    assert np.array_equal(nothing, np.broadcast_to(nothing[:1], nothing.shape)), "the null leaks"
    assert not np.array_equal(found[0], nothing[0])
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        own = jax.tree_util.keystr(path) == ".nothing"
        assert np.isfinite(g).all() and np.any(g) == own, "a hidden condition has a gradient"


def test_how_often_it_is_hidden():
    condition = drawn("class")
    keys = jax.random.split(quick_random.key(3), 400)
    told = jax.jit(jax.vmap(lambda k: condition(jnp.asarray(2), key=k).vector))(keys)
    hidden = np.all(np.asarray(told) == np.asarray(condition.nothing), axis=1)
    assert 0.4 < hidden.mean() < 0.6
    shown = np.asarray(condition.condition.table[2])
    assert np.array_equal(told[~hidden], np.broadcast_to(shown, told[~hidden].shape))


def test_a_network_beside_is_hidden_after_it_is_encoded():
    """Zero in the space, where a mean is taken off, and not zero weights."""
    condition = drawn("beside")
    raw = network(0)
    shift = lambda x: jax.tree.map(lambda a: jnp.asarray(a) + 5.0, x)  # noqa: E731
    null = condition.null(raw).encoded(shift)
    assert all(not np.any(x) for x in jax.tree.leaves(null.beside))
    shown = condition(raw).encoded(shift)
    assert np.allclose(shown.beside[0]["b"], raw["b"] + 5)


def test_sets_have_no_order_and_masked_examples_do_not_count():
    condition = drawn("set").condition
    data = dataset(0)
    order = np.array([3, 1, 0, 2, 4])
    moved = Examples(data.inputs[order], data.labels[order], data.mask)
    other = Examples(data.inputs.copy(), data.labels, data.mask)
    other.inputs[4] = np.nan
    fewer = Examples(data.inputs[:4], data.labels[:4])
    run = quickly(lambda d: condition(d).vector)
    first = run(data)
    for same in (moved, other, fewer):
        assert np.max(np.abs(run(same) - first)) < 1e-12


@pytest.mark.slow
def test_graphs_have_no_order_and_masked_nodes_do_not_count():
    condition = drawn("graph").condition
    own = graph(0)
    order = np.array([2, 0, 1, 3])
    moved = Graph(own.nodes[order], own.adjacency[np.ix_(order, order)], own.mask)
    fewer = Graph(own.nodes[:3], own.adjacency[:3, :3])
    run = quickly(lambda g: condition(g).vector)
    for same in (moved, fewer):
        assert np.max(np.abs(run(same) - run(own))) < 1e-12
    turned = Graph(own.nodes, own.adjacency.T, own.mask)
    assert np.max(np.abs(run(turned) - run(own))) > 1e-6


def test_architectures_differ_by_what_they_are():
    wide = {"w": np.zeros((2, 8)), "b": np.zeros(8)}
    other = symmetry.parse(wide, {"w": "_ h", "b": "h"})
    same = symmetry.parse(NETWORK, {"w": "_ another_name", "b": "another_name"})
    free = symmetry.parse(NETWORK, {"w": "_ h", "b": "_"})
    graphs = [architecture_graph(s, 3) for s in (SPEC, same, other, free)]
    assert graphs[0].nodes.shape == (3, ARCHITECTURE_FEATURES)
    same_as_first = [
        all(np.array_equal(a, b) for a, b in zip(g, graphs[0], strict=True)) for g in graphs
    ]
    assert same_as_first == [True, True, False, False]
    with pytest.raises(ValueError, match="2 blocks; `nodes` is 1"):
        architecture_graph(SPEC, 1)


@pytest.mark.slow
def test_an_encoded_network_is_told_up_to_the_order_of_its_units():
    condition = drawn("encoded")
    raw = network(0)
    g = SPEC.sample(quick_random.key(1))
    run = quickly(lambda x: condition(x).vector)
    assert np.max(np.abs(run(SPEC.act(g, raw)) - run(raw))) < 1e-12
    assert np.max(np.abs(run(network(1)) - run(raw))) > 1e-6


def test_vectors_are_standardised_by_training_networks():
    values = np.array([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0], [np.nan, 20.0, 5.0]])
    condition = VectorCondition.fit(values, SIZE, key=jax.random.key(0))
    assert np.allclose(condition.mean, (2.0, 20.0, 5.0))
    assert np.allclose(condition.deviation, (1.0, np.std([10, 30, 20]), 1.0))
    plain = eqx.tree_at(
        lambda c: c.net, VectorCondition(3, SIZE, key=jax.random.key(1)), condition.net
    )
    standard = (values[1] - np.array(condition.mean)) / np.array(condition.deviation)
    assert np.allclose(condition(values[1]).vector, plain(standard).vector)


def test_wrong_conditions_are_told():
    key = jax.random.key(0)
    label, vector = ClassCondition(4, SIZE, key=key), VectorCondition(3, SIZE, key=key)
    with pytest.raises(ValueError, match="out of range"):
        label(4)
    with pytest.raises(ValueError, match="one integer"):
        label(0.5)
    with pytest.raises(ValueError, match="jax.vmap"):
        label(np.arange(3))
    assert np.isnan(jax.jit(lambda c: label(c).vector)(4)).all()
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
        vector(np.ones(2))
    with pytest.raises(ValueError, match="Dropped"):
        label.null()
    with pytest.raises(ValueError, match="any raw condition"):
        drawn("beside").null()
    with pytest.raises(ValueError, match="nothing is told"):
        NetworkCondition(beside=False)
    with pytest.raises(ValueError, match="`size`"):
        NetworkCondition(encoder=lambda x: x)
    with pytest.raises(ValueError, match="expected"):
        Conditions({"class": label})({"size": 3})
    with pytest.raises(ValueError, match="probability"):
        Dropped(label, 1.5, key=key)
    with pytest.raises(ValueError, match="no labels"):
        drawn("set").condition(np.ones((5, 2, 2)))
    with pytest.raises(ValueError, match="known of no network"):
        VectorCondition.fit([np.nan, np.nan], SIZE, key=key)
