"""Trained curves and geodesics on small networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax import symmetry
from wsljax.understanding.connectivity import (
    align_end,
    average,
    barrier,
    bezier,
    chain_length,
    fit_aligned_curve,
    fit_curve,
    fit_geodesic,
    jensen_shannon,
    linear,
    merge_many,
    polygonal,
)
from wsljax.understanding.connectivity.geodesic import steps_squared

from .common import digits, loss, member, mlp, trained


@pytest.fixture(autouse=True)
def float32():
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize("path", [bezier, pytest.param(polygonal, marks=pytest.mark.slow)])
def test_lower_than_the_line(path, key):
    stacked = trained(3)
    a, b = member(stacked, 0), member(stacked, 1)
    x, y = digits()

    @jax.jit
    def run(a, b):
        curve = fit_curve(
            loss,
            a,
            b,
            x,
            y,
            path=path,
            optimiser=optax.adam(0.01),
            steps=200,
            batch_size=64,
            key=key,
        )
        bent = barrier(loss, a, b, x, y, path=path, bends=curve.bends, points=9)
        return curve, bent, barrier(loss, a, b, x, y, points=9)

    curve, bent, line = run(a, b)
    assert float(bent.barrier) < 0.3 * float(line.barrier)
    np.testing.assert_allclose(bent.ends, line.ends, rtol=1e-5)
    assert jax.tree.all(jax.tree.map(lambda u, v: bool((u == v).all()), curve.points[0], a))
    assert float(curve.losses[-50:].mean()) < float(curve.losses[:20].mean())


@pytest.mark.slow
def test_pairs_side_by_side(key):
    """vmap over pairs is the loop."""
    stacked = trained(3)
    x, y = digits()
    first, second = member(stacked, jnp.array([0, 0])), member(stacked, jnp.array([1, 2]))

    def run(a, b):
        options = dict(optimiser=optax.sgd(0.05), steps=5, batch_size=32, key=key)
        return fit_curve(loss, a, b, x, y, **options).losses

    both = jax.jit(jax.vmap(run))(first, second)
    for k in (0, 1):
        np.testing.assert_allclose(both[k], run(member(first, k), member(second, k)), rtol=1e-3)


def network():
    a = member(trained(3), 0)
    spec = symmetry.infer(mlp, a, jnp.ones((4, 64)), kinds=("permutation",))
    return a, spec


@pytest.mark.slow
def test_aligned_ends(key):
    """A permuted copy: the aligned curve is a point, the other one is not."""
    a, spec = network()
    x, y = digits()
    g = spec.sample(key)
    moved = spec.act(g, a)
    options = dict(optimiser=optax.sgd(1e-3), steps=2, batch_size=32, key=key)
    aligning = lambda first, second, spec: spec.inverse(g)  # noqa: E731
    curve = fit_aligned_curve(loss, a, moved, spec, aligning, x, y, **options)
    assert float(barrier(loss, a, curve.second, x, y, points=3).barrier) < 1e-5
    assert float(barrier(loss, a, moved, x, y, points=3).barrier) > 0.1
    jax.tree.map(np.testing.assert_array_equal, curve.second, a)
    with pytest.raises(TypeError, match="element of the group"):
        align_end(a, moved, spec, 3)


def test_merging_many(key):
    """Permuted copies with noise: the mean of the aligned ones is near, the mean as given is not."""
    a, spec = network()
    x, y = digits()
    keys = jax.random.split(key, 2)

    act = jax.jit(spec.act)

    def noisy(k):
        noise = lambda v: v + 0.02 * jax.random.normal(k, v.shape, v.dtype)  # noqa: E731
        return act(spec.sample(k), jax.tree.map(noise, a))

    others = [noisy(k) for k in keys]

    @functools.partial(jax.jit, static_argnums=2)
    def match(reference, network, spec, *, key):
        """Greedy, layer by layer, on the incoming weights."""
        element = spec.identity()
        for n in (0, 1):
            now = spec.act(element, network)
            near = jnp.square(reference[n][0].T[:, None] - now[n][0].T[None]).sum(-1)
            rows, columns = optax.assignment.hungarian_algorithm(near)
            order = columns[jnp.argsort(rows)]
            name = next(u for u in names if names[u] == n)
            element = spec.compose({**spec.identity(), name: order}, element)
        return element

    names = {b.axes[-1]: int(b.path.split("/")[0]) for b in spec.layout if len(b.axes) == 2}
    names = {u.name: names[u.name] for u in spec.units}
    merged = merge_many([a, *others], spec, match, key=key)
    assert merged.distances[-1] < 0.1 * merged.distances[0]
    assert float(loss(merged.params, x, y)) < float(loss(a, x, y)) + 0.05
    assert float(loss(average([a, *others]), x, y)) > 0.5
    for member_, given in zip(merged.members, [a, *others]):
        np.testing.assert_allclose(mlp(member_, x[:50]), mlp(given, x[:50]), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="at least 2"):
        merge_many([a], spec, match, key=key)


def test_geodesics_are_shorter(key):
    stacked = trained(3)
    a, b = member(stacked, 0), member(stacked, 1)
    x = digits()[0][:256]

    @jax.jit
    def run(a, b):
        found = fit_geodesic(mlp, a, b, x, bends=4, optimiser=optax.adam(5e-3), steps=60, key=key)
        start = [linear((a, b), t) for t in jnp.linspace(0, 1, 6)]
        return found, chain_length(mlp, start, x), chain_length(mlp, found.points, x)

    found, start, end = run(a, b)
    assert float(end) < 0.8 * float(start)
    assert (
        float(end) >= float(chain_length(mlp, (a, b), x)) * 0.99
    )  # a metric: no shorter than direct
    assert float(found.energies[-1]) < float(found.energies[0])


def test_metrics_agree_for_small_steps(key):
    """The divergence is 1/8 of the squared Fisher step, to second order; both vanish on one network."""
    a = member(trained(3), 0)
    x = digits()[0][:64]
    near = jax.tree.map(lambda v: v + 1e-2 * jax.random.normal(key, v.shape, v.dtype), a)
    fisher = steps_squared(mlp, (a, near), x, metric="fisher")
    divergence = steps_squared(mlp, (a, near), x)
    np.testing.assert_allclose(8 * divergence, fisher, rtol=0.05)
    for metric in ("fisher", "jensen_shannon", "squared"):
        assert float(steps_squared(mlp, (a, a), x, metric=metric)[0]) < 1e-6
    logits = jax.random.normal(key, (2, 7, 4))
    one, other = jensen_shannon(*logits), jensen_shannon(*logits[::-1])
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert (one > 0).all() and (one <= np.log(2)).all()
    with pytest.raises(ValueError, match="metric"):
        chain_length(mlp, (a, near), x, metric="none")


def test_errors(key):
    options = dict(optimiser=optax.sgd(0.1), key=key)
    with pytest.raises(ValueError, match="steps"):
        fit_curve(jnp.sum, 1.0, 2.0, steps=0, **options)
    with pytest.raises(ValueError, match="bend"):
        fit_curve(jnp.sum, 1.0, 2.0, steps=1, bends=0, **options)
    with pytest.raises(ValueError, match="batch_size"):
        fit_curve(lambda w, x: w, 1.0, 2.0, jnp.ones(3), steps=1, batch_size=5, **options)
