"""Runs side by side: whichever order their units had, they lie in one, each as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.generation.families import align_runs
from wsljax.zoo import Population

RUNS, STEPS, UNITS = 12, 3, 6


def one(seed):
    a, b = jax.random.split(jax.random.key(seed))
    return {"a": jax.random.normal(a, (5, UNITS)), "b": jax.random.normal(b, (UNITS, 2))}


SPEC = symmetry.parse(one(0), {"a": "_ h", "b": "h _"})


def runs(elements=None, dtype=jnp.float32):
    """Checkpoints, run after run, that go from their own starts to near one network, as `elements` say."""
    stacked = []
    for run in range(RUNS):
        start, end = one(100 + run), jax.tree.map(lambda x, y: x + 0.1 * y, one(0), one(200 + run))
        for part in np.linspace(0, 1, STEPS):
            p = jax.tree.map(lambda x, y, part=part: x + (y - x) * part, start, end)
            stacked.append(p if elements is None else SPEC.act(elements[run], p))
    stack = jax.tree.map(lambda *x: jnp.stack(x).astype(dtype), *stacked)
    of = np.arange(RUNS * STEPS)
    return Population(stack, {"run": of // STEPS + 7, "step": 10 * (of % STEPS)}, SPEC)


def random_elements():
    drawn = [SPEC.sample(jax.random.key(r)) for r in range(RUNS)]
    drawn[0] = SPEC.identity()  # the one that the others are aligned to first
    return drawn


def test_the_order_that_units_had_is_forgotten():
    plain, moved = (align_runs(p, key=jax.random.key(1)) for p in (runs(), runs(random_elements())))
    for a, b in zip(
        jax.tree.leaves(plain.population.params), jax.tree.leaves(moved.population.params)
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(jax.tree.leaves(plain.start), jax.tree.leaves(moved.start)):
        np.testing.assert_allclose(a, b, atol=1e-6)
    ends = np.asarray(plain.population.params["a"])[STEPS - 1 :: STEPS]
    assert np.std(ends, axis=0).max() < 0.3  # they lie together


def test_a_run_is_moved_as_a_whole_and_computes_what_it_did():
    given = runs(random_elements())
    found = align_runs(
        given.take(np.random.default_rng(0).permutation(len(given))), key=jax.random.key(1)
    )
    rows = np.argsort(
        np.asarray(found.population.columns["run"]) * 100 + found.population.columns["step"]
    )
    params = jax.tree.map(lambda x: x[rows], found.population.params)
    apply = jax.vmap(lambda p: jnp.tanh(jnp.linspace(-1, 1, 15).reshape(3, 5) @ p["a"]) @ p["b"])
    np.testing.assert_allclose(apply(params), apply(given.params), atol=1e-5)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(given.params)):
        gone = [
            np.linalg.norm(np.reshape(v[1:] - v[:-1], (len(v) - 1, -1)), axis=1) for v in (x, y)
        ]
        inside = np.arange(len(gone[0])) % STEPS != STEPS - 1
        np.testing.assert_allclose(gone[0][inside], gone[1][inside], rtol=1e-5)


def test_new_starts_are_brought_next_to_those_of_the_runs():
    found = align_runs(runs(random_elements()), key=jax.random.key(1))
    elements = jax.vmap(SPEC.sample)(jax.random.split(jax.random.key(5), 4))
    moved = jax.vmap(SPEC.act, (0, None))(elements, found.start)
    for a, b in zip(jax.tree.leaves(found.align(moved)), jax.tree.leaves(found.start)):
        np.testing.assert_allclose(a, jnp.broadcast_to(b, a.shape), atol=1e-6)


def test_dtypes_and_integers_are_kept():
    given, counts = runs(dtype=jnp.bfloat16), jnp.arange(RUNS * STEPS)[:, None]
    spec = symmetry.parse({**one(0), "count": counts[0]}, {"a": "_ h", "b": "h _", "count": "_"})
    given = given.with_params({**given.params, "count": counts}).with_spec(spec)
    found = align_runs(given, key=jax.random.key(0)).population
    np.testing.assert_array_equal(found.params["count"], counts)
    assert found.params["a"].dtype == jnp.bfloat16


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="with_spec"):
        align_runs(runs().with_spec(None), key=jax.random.key(0))
    with pytest.raises(ValueError, match="no column 'epoch'"):
        align_runs(runs(), key=jax.random.key(0), step="epoch")
