"""Alignment under the whole group: planted elements, noise, stacks, and what stays as it was."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax.symmetry import Sign
from wsljax.understanding.matching import weight_matching
from wsljax.understanding.matching.problem import Turn
from wsljax.understanding.matching.turns import best_turn

from .group_networks import NETWORKS, mlp

QUICK = ("leaky MLP", "tanh MLP", "attention")
CASES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NETWORKS]


@pytest.fixture(autouse=True, scope="module")
def compile_quickly():
    """Small networks take their time in the compiler."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@lru_cache
def network(name):
    return NETWORKS[name]()


def distance(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(jnp.sum((x - y) ** 2) for x, y in pairs) ** 0.5)


def length(a):
    return distance(a, jax.tree.map(jnp.zeros_like, a))


def noisy(p, key, size=0.1):
    leaves, treedef = jax.tree.flatten(p)
    keys = jax.random.split(key, len(leaves))
    out = [
        x + size * jnp.std(x) * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves)
    ]
    return treedef.unflatten(out)


def change(fn, a, b, x):
    """How much two networks differ on ``x``, relative to their size."""
    y, z = fn(a, x), fn(b, x)
    return float(jnp.linalg.norm(y - z) / jnp.linalg.norm(y))


@partial(jax.jit, static_argnums=0)
def hide(spec, key, p):
    return spec.act(spec.sample(key), p)


@lru_cache
def planted(name):
    """``a``; a noisy copy and the copy itself, hidden by random elements; all aligned in one call."""
    fn, a, spec, x = network(name)
    copies = [a, noisy(a, jax.random.key(5))]
    hidden = [hide(spec, jax.random.key(7 + i), p) for i, p in enumerate(copies)]
    stack = jax.tree.map(lambda *z: jnp.stack(z), *hidden)
    return fn, a, spec, x, copies, hidden, weight_matching(a, stack, spec, key=jax.random.key(0))


@pytest.mark.parametrize("name", CASES)
def test_a_planted_element_is_undone(name):
    fn, a, spec, x, _, hidden, found = planted(name)
    assert change(fn, a, hidden[0], x) < 1e-4, "the group of the test is wrong"
    element = {n: g[0] for n, g in found.element.items()}
    aligned = spec.act(element, hidden[0])
    assert distance(aligned, a) < 1e-4 * length(a)
    assert change(fn, hidden[0], aligned, x) < 1e-5
    assert float(found.distance[0]) < 1e-4 * length(a)
    assert float(found.distance_before[0]) == pytest.approx(distance(a, hidden[0]), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_under_noise_it_is_as_near_as_what_was_planted(name):
    fn, a, spec, x, copies, hidden, found = planted(name)
    aligned = spec.act({n: g[1] for n, g in found.element.items()}, hidden[1])
    assert distance(aligned, a) <= distance(copies[1], a) * (1 + 1e-5)
    assert change(fn, hidden[1], aligned, x) < 1e-5
    assert float(found.distance[1]) == pytest.approx(distance(aligned, a), rel=1e-4)
    products = zip(jax.tree.leaves(aligned), jax.tree.leaves(a), strict=True)
    total = sum(float(jnp.vdot(u, v)) for u, v in products)
    assert float(found.objective[1]) == pytest.approx(total, rel=1e-4)


@pytest.mark.slow
def test_float64_keeps_the_function_to_the_last_digits():
    fn, a, spec, x = network("leaky MLP")
    a, x = jax.tree.map(lambda z: z.astype(jnp.float64), (a, x))
    b = hide(spec, jax.random.key(1), a)
    m = weight_matching(a, b, spec, key=jax.random.key(0))
    aligned = spec.act(m.element, b)
    assert change(fn, b, aligned, x) < 1e-13 and distance(a, aligned) < 1e-12


@pytest.mark.parametrize("where", ["host", pytest.param("device", marks=pytest.mark.slow)])
def test_stacks_are_aligned_as_one_by_one(where):
    _, a, spec, _ = network("tanh MLP")
    ones = [noisy(a, jax.random.key(i), 0.3) for i in range(3)]
    others = [
        spec.act(spec.sample(jax.random.key(i)), noisy(a, jax.random.key(9 + i), 0.3))
        for i in range(3)
    ]
    stack = lambda trees: jax.tree.map(lambda *z: jnp.stack(z), *trees)  # noqa: E731
    align = lambda u, v: weight_matching(u, v, spec, key=jax.random.key(2), where=where)  # noqa: E731
    together = align(stack(ones), stack(others))
    for i, (u, v) in enumerate(zip(ones, others)):
        alone = align(u, v)
        for one, all_ in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(one, all_[i], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["leaky MLP", "attention", "scanned RMSNorm transformer", "sine MLP"]
)
def test_as_one_program(name):
    fn, a, spec, x = network(name)
    b = hide(spec, jax.random.key(1), a)
    align = lambda u, v: weight_matching(u, v, spec, key=jax.random.key(0))  # noqa: E731
    one = jax.tree.map(lambda z: z[None], (a, b))
    first = jax.tree.map(lambda z: z[0], jax.vmap(align)(*one))
    for found in (jax.jit(align)(a, b), first):
        aligned = spec.act(found.element, b)
        assert distance(a, aligned) < 1e-3 * length(a)
        assert change(fn, b, aligned, x) < 1e-4


def test_kinds_choose_a_subgroup():
    fn, a, spec, x = network("tanh MLP")
    b = spec.act(spec.sample(jax.random.key(1)), a)
    plain = replace(spec, generators=())
    first = weight_matching(a, b, spec, key=jax.random.key(0), kinds=("permutation",))
    second = weight_matching(a, b, plain, key=jax.random.key(0))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, second))
    flips = spec.sample(jax.random.key(1), kinds=("sign",))
    m = weight_matching(a, spec.act(flips, a), spec, key=jax.random.key(0), kinds=("sign",))
    for name, signs in flips.items():
        np.testing.assert_array_equal(m.element[name], signs)
    whole = weight_matching(a, b, spec, key=jax.random.key(0))
    assert float(whole.distance) < 1e-4 < float(first.distance)


def test_it_starts_from_an_element():
    _, a, spec, _ = network("tanh MLP")
    g = spec.sample(jax.random.key(1))
    b = spec.act(g, a)
    options = {"key": jax.random.key(0), "sweeps": 0, "start": "identity", "refine": 0}
    m = weight_matching(a, b, spec, init=spec.inverse(g), **options)
    assert float(m.distance) < 1e-5
    none = weight_matching(a, b, spec, **options)
    assert float(none.distance) == pytest.approx(float(none.distance_before))


def test_it_is_never_farther_than_permutations_alone():
    _, a, spec, _ = network("leaky MLP")
    b = noisy(a, jax.random.key(3), 5.0)
    find = lambda **kw: float(weight_matching(a, b, spec, key=jax.random.key(0), **kw).distance)  # noqa: E731
    assert find() <= find(kinds=("permutation",)) <= distance(a, b) * (1 + 1e-6)


@pytest.mark.parametrize(("pairs", "centred"), [((), False), ((), True), (((0, 2), (1, 3)), False)])
def test_turns_are_the_best(pairs, centred):
    rng = np.random.default_rng(0)
    turn = Turn("d", pairs, centred)
    gains = rng.normal(size=(5, 4, 4))
    q, value = best_turn(np, turn, gains)
    np.testing.assert_allclose(
        q @ q.swapaxes(-1, -2), np.broadcast_to(np.eye(4), q.shape), atol=1e-12
    )
    worth = lambda q: np.einsum("nij,nji->n", gains, q)  # noqa: E731
    np.testing.assert_allclose(worth(q), value)
    np.testing.assert_allclose(best_turn(jnp, turn, jnp.asarray(gains))[1], value)
    if centred:
        np.testing.assert_allclose(q.sum(-1), 1)
    for other in (best_turn(np, turn, rng.normal(size=(5, 4, 4)))[0] for _ in range(50)):
        assert np.all(worth(other) <= value + 1e-12)


def test_bad_inputs():
    _, a, spec, _ = mlp("sign", jnp.tanh)
    key = jax.random.key(0)
    assert any(isinstance(g, Sign) for g in spec.generators)
    with pytest.raises(ValueError, match="kinds"):
        weight_matching(a, a, spec, key=key, kinds=("scaling",))
    with pytest.raises(ValueError, match="kinds"):
        weight_matching(a, a, spec, key=key, kinds="sign")
    with pytest.raises(ValueError, match="refine"):
        weight_matching(a, a, spec, key=key, refine=-1)
    with pytest.raises(ValueError, match="w0.*NaN"):
        weight_matching(a, a | {"w0": a["w0"].at[0, 0].set(jnp.nan)}, spec, key=key)
    with pytest.raises(ValueError, match="b.*w0"):
        weight_matching(a, a | {"w0": a["w0"][1:]}, spec, key=key)
    with pytest.raises(ValueError, match="init"):
        weight_matching(a, a, spec, key=key, init={"sign:h": jnp.ones(3)})
    with pytest.raises(ValueError, match="init"):
        weight_matching(a, a, spec, key=key, init={"nothing": jnp.ones(3)})
    three = jax.tree.map(lambda x: jnp.stack([x] * 3), a)
    with pytest.raises(ValueError, match="pairs"):
        weight_matching(three, jax.tree.map(lambda x: x[:2], three), spec, key=key)
