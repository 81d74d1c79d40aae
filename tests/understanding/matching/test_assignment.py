"""Assignments: exact against SciPy, in batches, traced, and from any prices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from wsljax.understanding.matching import linear_assignment
from wsljax.understanding.matching.assignment import assign_from_prices
from wsljax.understanding.matching.device_assignment import assign_on_device


def costs(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(size=(n, n))
    if kind == "planted":
        noise -= 6 * np.eye(n)[rng.permutation(n)]
    elif kind == "ties":
        noise = rng.integers(0, 4, (n, n))
    elif kind == "sorted":  # of rank one: every row wants the same columns
        noise = -np.outer(rng.normal(size=n), rng.normal(size=n)) + 1e-3 * noise
    elif kind == "equal":
        noise = np.zeros((n, n))
    return np.asarray(noise, np.float32)


def total(cost, columns) -> float:
    return float(np.take_along_axis(np.asarray(cost, float), np.asarray(columns)[:, None], 1).sum())


@pytest.mark.parametrize("kind", ["normal", "planted", "ties", "sorted", "equal"])
@pytest.mark.parametrize("n", [1, 40])
def test_the_device_is_exact(kind, n):
    solve = jax.jit(assign_on_device)
    rng = np.random.default_rng(n)
    for _ in range(4):
        cost = costs(kind, n, rng)
        best = cost.astype(float)[linear_sum_assignment(cost)].sum()
        for found in (solve(cost), solve(cost, rng.normal(size=n).astype(np.float32) * 10)):
            assert sorted(np.asarray(found).tolist()) == list(range(n))
            assert total(cost, found) == pytest.approx(best, abs=1e-5 * n)


@pytest.mark.parametrize("backend", ["scipy", "device"])
@pytest.mark.parametrize("maximise", [False, True])
def test_batches_rectangles_and_tracers(backend, maximise):
    cost = np.random.default_rng(0).normal(size=(2, 3, 5, 8)).astype(np.float32)
    solve = lambda c: linear_assignment(c, maximise=maximise, backend=backend)  # noqa: E731
    found = solve(cost)
    assert found.shape == (2, 3, 5)
    for index in np.ndindex(2, 3):
        expected = linear_sum_assignment(cost[index], maximize=maximise)[1]
        np.testing.assert_array_equal(found[index], expected)
    if backend == "scipy":
        with pytest.raises(ValueError, match="values"):
            jax.jit(solve)(cost)
    traced = lambda c: linear_assignment(c, maximise=maximise)  # noqa: E731
    np.testing.assert_array_equal(jax.jit(traced)(cost), found)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(traced))(cost), found)


def test_no_gradient_passes():
    cost = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    chosen = lambda c: jnp.sum(c[jnp.arange(4), linear_assignment(c)])  # noqa: E731
    gradient = jax.grad(chosen)(cost)
    np.testing.assert_array_equal(jnp.argmax(gradient, -1), linear_assignment(cost))
    assert float(gradient.sum()) == 4


def test_what_is_refused():
    with pytest.raises(ValueError, match="transpose"):
        linear_assignment(jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="NaN"):
        linear_assignment(jnp.full((2, 2), jnp.nan))
    with pytest.raises(ValueError, match="backend"):
        linear_assignment(jnp.zeros((2, 2)), backend="gpu")
    # inside of a program nothing can be raised, but it ends with a permutation
    found = jax.jit(lambda c: linear_assignment(c, backend="device"))(jnp.full((3, 3), jnp.nan))
    assert sorted(found.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["normal", "planted", "sorted"])
def test_prices_change_nothing_but_the_time(kind):
    rng = np.random.default_rng(3)
    prices = None
    gains = np.stack([costs(kind, 30, rng) for _ in range(3)])
    for _ in range(4):
        gains = gains + 0.1 * rng.normal(size=gains.shape).astype(np.float32)
        columns, prices = assign_from_prices(gains, prices)
        for g, c, p in zip(gains, columns, prices):
            rows, best = linear_sum_assignment(g, maximize=True)
            assert total(g, c) == pytest.approx(g.astype(float)[rows, best].sum(), abs=1e-4)
            # at these prices every row has what it likes best
            net = g - p
            own = net[np.arange(30), c]
            assert float((net.max(-1) - own).max()) < 1e-4
