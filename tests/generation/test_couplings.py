"""Couplings: what they keep, which ways are shorter, and what the group does to them."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.generation.couplings import (
    Aligned,
    Independent,
    MinibatchTransport,
    QuotientTransport,
    transport_cost,
)
from wsljax.generation.flow import Coupling
from wsljax.generation.spaces import FlatSpace, WeightSpace
from wsljax.zoo import Population


def draw(seed, like, count):
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [jax.random.normal(k, (count, *x.shape), x.dtype) for k, x in zip(keys, leaves)]
    return jax.tree.unflatten(treedef, drawn)


@functools.cache
def shallow(signs=False):
    """One hidden layer, where alignment is one assignment and so exact."""

    def fn(p, x):
        return jnp.tanh(x @ p["w"]) @ p["v"]

    params = nets.normal(0, w=(3, 5), v=(5, 2))
    kinds = ("permutation", "sign") if signs else ("permutation",)
    return fn, params, symmetry.infer(fn, params, nets.inputs(12, 3), kinds=kinds)


@functools.cache
def deep():
    fn, params, x = nets.mlp(jnp.tanh)
    return fn, params, symmetry.infer(fn, params, x, kinds=("permutation", "sign"))


call = eqx.filter_jit(lambda coupling, *pair, key: coupling(*pair, key=key))
KEY = jax.random.key(7)


def best_cost(source, target):
    """Over all assignments, one after the other."""
    x, y = (np.asarray(v).reshape(len(v), -1) for v in (source, target))
    orders = itertools.permutations(range(len(x)))
    return min(((x[list(p)] - y) ** 2).sum() for p in orders) / len(x)


# ------------------------------------------------------------------------------ minibatch
def test_minibatch_transport_is_the_shortest():
    sources, targets = draw(0, jnp.zeros(3), 5), draw(1, jnp.zeros(3), 5)
    x0, x1 = call(MinibatchTransport(), sources, targets, key=KEY)
    assert (x1 == targets).all()  # conditions belong to the targets: these stay
    assert sorted(map(tuple, x0.tolist())) == sorted(map(tuple, sources.tolist()))
    assert float(transport_cost(x0, x1)) == pytest.approx(best_cost(sources, targets), rel=1e-12)
    assert call(Independent(), sources, targets, key=KEY)[0].tolist() == sources.tolist()


def test_pieces_of_a_batch():
    like = {"a": jnp.zeros(2), "b": jnp.zeros((2, 2))}
    sources, targets = draw(0, like, 6), draw(1, like, 6)
    costs = []
    for size in (1, 2, 3, None):
        x0, x1 = call(MinibatchTransport(size=size), sources, targets, key=KEY)
        costs.append(float(transport_cost(x0, x1)))
        for start in range(0, 6, size or 6):
            part = slice(start, start + (size or 6))
            assert sorted(x0["a"][part, 0].tolist()) == sorted(sources["a"][part, 0].tolist())
    assert costs[0] == pytest.approx(float(transport_cost(sources, targets)))
    assert costs[3] <= min(costs) + 1e-12 and costs[1] <= costs[0] and costs[2] <= costs[0]
    with pytest.raises(ValueError, match="cannot be cut"):
        MinibatchTransport(size=4)(sources, targets, key=KEY)


def test_values_that_are_not_numbers_do_not_hang():
    sources, targets = draw(0, jnp.zeros(3), 4), draw(1, jnp.zeros(3), 4)
    broken = targets.at[2].set(jnp.nan)
    assert call(MinibatchTransport(), sources, broken, key=KEY)[0].shape == (4, 3)


# ------------------------------------------------------------------------------ up to symmetry
@pytest.mark.parametrize("signs", [pytest.param(False, marks=pytest.mark.slow), True])
def test_laws_of_the_quotient_coupling(signs):
    fn, params, spec = shallow(signs)
    sources, targets = draw(0, params, 4), draw(1, params, 4)
    cost = {
        what: float(transport_cost(*call(coupling, sources, targets, key=KEY)))
        for what, coupling in {
            "independent": Independent(),
            "minibatch": MinibatchTransport(),
            "minibatch, aligned": Aligned(spec, MinibatchTransport()),
            "quotient": QuotientTransport(spec),
        }.items()
    }
    assert cost["minibatch"] < cost["independent"]
    assert cost["quotient"] < cost["minibatch, aligned"] + 1e-9 < cost["minibatch"]

    x0, x1 = call(QuotientTransport(spec), sources, targets, key=KEY)
    inputs = nets.inputs(12, 3)
    before, after = (jax.vmap(fn, (0, None))(p, inputs) for p in (targets, x1))
    np.testing.assert_allclose(after, before, atol=1e-9)  # the networks, in their places
    assert sorted(x0["w"][:, 0, 0].tolist()) == sorted(sources["w"][:, 0, 0].tolist())

    g = jax.vmap(spec.sample)(jax.random.split(jax.random.key(5), 4))
    moved = jax.vmap(spec.act)(g, targets)
    assert float(transport_cost(sources, moved)) != pytest.approx(cost["independent"], rel=1e-3)
    y0, y1 = call(QuotientTransport(spec), sources, moved, key=KEY)
    assert float(transport_cost(y0, y1)) == pytest.approx(cost["quotient"], rel=1e-9)
    for a, b in zip(jax.tree.leaves((x0, x1)), jax.tree.leaves((y0, y1))):
        np.testing.assert_allclose(a, b, atol=1e-12)  # the very same pairs


def test_the_quotient_cost_is_the_smallest_over_the_group():
    _, params, spec = shallow(True)
    sources, targets = draw(0, params, 4), draw(1, params, 4)
    x0, found = call(Aligned(spec, MinibatchTransport()), sources, targets, key=KEY)
    source, target = (jax.tree.map(lambda x: x[0], p) for p in (x0, targets))
    (flip,) = (gen.name for gen in spec.generators)
    elements = itertools.product(
        itertools.permutations(range(5)), itertools.product((1, -1), repeat=5)
    )
    orders, signs = map(jnp.asarray, zip(*elements))
    all_ = jax.vmap(lambda p, s: spec.act({"h0": p, flip: s}, target))(orders, signs)
    best = min(float(b) for b in _distances(source, all_))
    assert float(_distances(source, found)[0]) == pytest.approx(best)


def _distances(one, many):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(many))
    return sum(((a - b) ** 2).reshape(len(b), -1).sum(1) for a, b in pairs)


@pytest.mark.slow
def test_deep_networks_are_aligned_too():
    """Several sets of units: copies of a network are found whatever was done to them."""
    fn, params, spec = deep()
    targets = draw(1, params, 3)
    noise = draw(2, params, 3)
    sources = jax.tree.map(lambda x, e: x + 0.1 * e, targets, noise)
    g = jax.vmap(spec.sample)(jax.random.split(jax.random.key(5), 3))
    moved = jax.vmap(spec.act)(g, targets)
    x0, x1 = call(QuotientTransport(spec), sources, moved, key=KEY)
    assert float(transport_cost(x0, x1)) < 1.01 * float(transport_cost(sources, targets))
    np.testing.assert_allclose(x0["w0"], sources["w0"])
    np.testing.assert_allclose(x1["w1"], targets["w1"], atol=1e-9)
    unsigned = call(Aligned(spec, signs=False), sources, moved, key=KEY)
    assert float(transport_cost(*unsigned)) > float(transport_cost(x0, x1))


@pytest.mark.slow
def test_heads_are_exchanged_with_what_is_in_them():
    fn, params, x = nets.attention(False)
    spec = symmetry.infer(fn, params, x, kinds=("permutation",))
    sources = draw(1, params, 2)
    g = jax.vmap(spec.sample)(jax.random.split(jax.random.key(5), 2))
    x0, x1 = call(Aligned(spec), sources, jax.vmap(spec.act)(g, sources), key=KEY)
    assert float(transport_cost(x0, x1)) < 1e-20


# ------------------------------------------------------------------------------ in spaces
def test_networks_in_flat_spaces_are_coupled_by_their_trees():
    fn, params, spec = shallow()
    zoo = Population(draw(1, params, 6), {}, spec)
    weights = WeightSpace.fit(zoo)
    flat = FlatSpace.fit(weights.encode_all(zoo.params))
    vectors = flat.encode_all(weights.encode_all(zoo.params))
    noise = draw(2, flat.like, 6)
    x0, x1 = call(Aligned(weights.spec, MinibatchTransport(), flat), noise, vectors, key=KEY)
    assert x1.shape == vectors.shape and float(transport_cost(x0, x1)) < float(
        transport_cost(*call(MinibatchTransport(), noise, vectors, key=KEY))
    )
    back = weights.decode_all(flat.decode_all(x1))
    inputs = nets.inputs(12, 3)
    np.testing.assert_allclose(
        jax.vmap(fn, (0, None))(back, inputs),
        jax.vmap(fn, (0, None))(zoo.params, inputs),
        atol=1e-9,
    )


def test_all_are_couplings_of_flows():
    _, _, spec = shallow()
    for coupling in (Independent(), MinibatchTransport(), Aligned(spec), QuotientTransport(spec)):
        assert isinstance(coupling, Coupling)
