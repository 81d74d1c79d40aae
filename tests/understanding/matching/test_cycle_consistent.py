"""Many networks at once: planted ones are found, circles close, and the objective beats aligning in turn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.representation.specs import SPECS, params_of, spec_of
from wsljax.understanding.connectivity import merge_many
from wsljax.understanding.matching import weight_matching
from wsljax.understanding.matching.cycle_consistent import (
    agreement_of_all,
    cycle_consistent_matching,
    exact_maximum,
)
from wsljax.understanding.matching.relaxed import matrices
from wsljax.understanding.matching.stacks import matching_problem

QUICK = ["heads"]
MLP = {
    "w0": ((16, 24), "_ a"),
    "b0": ((24,), "a"),
    "w1": ((24, 24), "a b"),
    "b1": ((24,), "b"),
    "w2": ((24, 8), "b _"),
}


def draw(spec, seed):
    return params_of(spec, jax.random.key(seed), jnp.float32)


def planted(spec, count, noise, seed=0):
    """Permuted noisy copies of one network, and the elements that bring them back."""
    p, keys = draw(spec, seed), jax.random.split(jax.random.key(seed + 1), count)
    elements = [spec.sample(k) for k in keys]
    networks = []
    for n, g in enumerate(elements):
        other = draw(spec, seed + 100 + n)
        noisy = jax.tree.map(lambda x, y: x + noise * y, p, other)
        networks.append(spec.act(spec.inverse(g), noisy))
    return networks, elements


def inner(a, b) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.vdot(np.asarray(x, float), np.asarray(y, float)) for x, y in pairs))


def of_pairs(networks) -> float:
    return sum(inner(a, b) for a, b in itertools.combinations(networks, 2))


@pytest.mark.parametrize("noise", [0.3, pytest.param(0.0, marks=pytest.mark.slow)])
def test_planted_networks_are_all_recovered(noise, key):
    spec = spec_of(MLP)
    networks, elements = planted(spec, 5, noise)
    found = cycle_consistent_matching(networks, spec, key=key)
    for i, j in itertools.permutations(range(5), 2):
        between = found.between(spec, i, j)
        truth = spec.compose(spec.inverse(elements[i]), elements[j])
        for n in truth:
            np.testing.assert_array_equal(between[n], truth[n])
    aligned = [spec.act(found.of(i), x) for i, x in enumerate(networks)]
    assert float(found.objective) == pytest.approx(of_pairs(aligned), rel=1e-5)
    assert float(found.before) == pytest.approx(of_pairs(networks), rel=1e-4, abs=1e-2)
    # a stack is the same as a list
    stack = jax.tree.map(lambda *x: jnp.stack(x), *networks)
    again = cycle_consistent_matching(stack, spec, key=key)
    for n in again.element:
        np.testing.assert_array_equal(again.element[n], found.element[n])


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SPECS]
)
def test_planted_in_any_spec(name, key):
    spec = spec_of(SPECS[name])
    networks, _ = planted(spec, 3, 0.0)
    found = cycle_consistent_matching(networks, spec, key=key)
    aligned = [spec.act(found.of(i), x) for i, x in enumerate(networks)]
    for other in aligned[1:]:
        for n in other:
            np.testing.assert_allclose(other[n], aligned[0][n], atol=1e-5)


@pytest.mark.parametrize("name", ["heads"])
def test_every_circle_closes(name, key):
    spec = spec_of(SPECS[name])
    networks = [draw(spec, seed) for seed in range(3)]  # unrelated
    found = cycle_consistent_matching(networks, spec, key=key, sweeps=2)
    assert float(found.objective) > float(found.before)
    one = spec.identity()
    for circle in itertools.chain(
        itertools.permutations(range(3), 2), itertools.permutations(range(3), 3)
    ):
        around = one
        for i, j in zip(circle, (*circle[1:], circle[0])):
            around = spec.compose(around, found.between(spec, i, j))
        for n in one:
            np.testing.assert_array_equal(around[n], one[n])


def test_unrelated_networks_agree_more_than_merged_in_turn(key):
    spec = spec_of(MLP)
    networks = [draw(spec, seed) for seed in range(5)]
    merged = merge_many(networks, spec, weight_matching, key=key)
    found = cycle_consistent_matching(networks, spec, key=key)
    assert float(found.objective) > 1.02 * of_pairs(merged.members)


def test_all_pairs_at_the_cost_of_one_sum(key):
    spec = spec_of(SPECS["heads"])
    networks = [draw(spec, seed) for seed in range(4)]
    problem = matching_problem(spec, networks[0])
    elements = [spec.sample(k) for k in jax.random.split(key, 4)]
    stack = {n: jnp.stack([spec.blocks(x)[n] for x in networks]) for n in spec.blocks(networks[0])}
    stack = {b.name: stack[b.name] for b in problem.blocks}
    mats = matrices({n: jnp.stack([g[n] for g in elements]) for n in problem.by_name})
    direct = of_pairs([spec.act(g, x) for g, x in zip(elements, networks)])
    assert float(agreement_of_all(problem, stack, mats)) == pytest.approx(direct, rel=1e-4)


@pytest.mark.parametrize("degree", [2, 4, 6])
def test_the_search_along_a_line_is_exact(degree, key):
    for k in jax.random.split(key, 5):
        coefficients = jax.random.normal(k, (degree + 1,))
        place, gain, _ = exact_maximum(degree)(lambda t: jnp.polyval(coefficients, t))  # noqa: B023
        fine = np.polyval(np.asarray(coefficients, float), np.linspace(0, 1, 100_001))
        best = np.max(fine) - fine[0]
        assert float(gain) == pytest.approx(best, abs=2e-5)
        at_place = np.polyval(np.asarray(coefficients, float), float(place))
        assert at_place - fine[0] == pytest.approx(best, abs=1e-5)


def test_bad_input_is_named(key):
    spec = spec_of(SPECS["mlp"])
    a, b = draw(spec, 0), draw(spec, 1)
    with pytest.raises(ValueError, match="at least 2"):
        cycle_consistent_matching([a], spec, key=key)
    with pytest.raises(ValueError, match="network 1"):
        cycle_consistent_matching([a, {**b, "w1": jnp.ones((4, 6))}], spec, key=key)
    with pytest.raises(ValueError, match="network 1.*'w1'.*NaN"):
        cycle_consistent_matching([a, {**b, "w1": jnp.full((4, 5), jnp.nan)}], spec, key=key)
    with pytest.raises(ValueError, match="sequence"):
        cycle_consistent_matching(a, spec, key=key)
    with pytest.raises(ValueError, match="steps"):
        cycle_consistent_matching([a, b], spec, key=key, steps=-1)
