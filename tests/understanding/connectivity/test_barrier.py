"""Barriers by their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax.understanding.connectivity import (
    barrier,
    barrier_matrix,
    barriers,
    bezier,
    linear,
    mean_value,
    polygonal,
)

from .common import digits, loss, measures, member, trained


@pytest.fixture
def nets():
    stacked = trained(3)
    x, y = digits()
    return stacked, x[:300], y[:300]


def test_identical_networks_have_none(nets):
    stacked, x, y = nets
    a = member(stacked, 0)
    found = barrier(measures, a, a, x, y, points=5, higher={"loss": False, "accuracy": True})
    assert abs(float(found.barrier["loss"])) < 1e-6 and float(found.barrier["accuracy"]) < 1e-6
    np.testing.assert_allclose(found.curve["loss"], found.curve["loss"][0], rtol=1e-5)


@pytest.mark.parametrize("baseline", ["line", "mean", "worst"])
def test_symmetric_under_swapping(nets, baseline):
    stacked, x, y = nets
    a, b = member(stacked, 0), member(stacked, 1)
    one = barrier(loss, a, b, x, y, points=7, baseline=baseline)
    other = barrier(loss, b, a, x, y, points=7, baseline=baseline)
    np.testing.assert_allclose(one.barrier, other.barrier, rtol=1e-4)
    np.testing.assert_allclose(one.curve, other.curve[::-1], rtol=1e-4)
    np.testing.assert_allclose(one.where, 1 - other.where, atol=1e-6)
    assert float(one.barrier) > 0.05  # networks of two seeds


def test_definitions_and_ends(nets):
    stacked, x, y = nets
    a, b = member(stacked, 0), member(stacked, 1)
    up = {"loss": False, "accuracy": True}
    found = barrier(measures, a, b, x, y, points=5, higher=up)
    for k, p in enumerate((a, b)):
        for name, want in measures(p, x, y).items():
            np.testing.assert_allclose(found.ends[name][k], want, rtol=1e-5)
    curve, t = np.asarray(found.curve["accuracy"]), np.linspace(0, 1, 5)
    excess = (1 - t) * curve[0] + t * curve[-1] - curve
    np.testing.assert_allclose(found.barrier["accuracy"], excess.max(), rtol=1e-5)
    assert float(found.where["accuracy"]) == t[excess.argmax()]
    middle = barrier(loss, a, b, x, y, points=[0, 0.5, 1])
    half = loss(linear((a, b), 0.5), x, y)
    want = half - (loss(a, x, y) + loss(b, x, y)) / 2
    np.testing.assert_allclose(middle.barrier, want, rtol=1e-4)


def test_chunks_pairs_and_points(nets):
    """Bounded memory changes nothing: chunks of data, points and pairs; vmap is the loop."""
    stacked, x, y = nets
    first, second = member(stacked, jnp.array([0, 0])), member(stacked, jnp.array([1, 2]))
    loop = [
        barrier(loss, member(first, k), member(second, k), x, y, points=5).curve for k in (0, 1)
    ]
    plain = barriers(loss, first, second, x, y, points=5)
    tight = barriers(loss, first, second, x, y, points=5, chunk=64, at_once=2, pairs_at_once=1)
    np.testing.assert_allclose(plain.curve, np.stack(loop), rtol=1e-4)
    np.testing.assert_allclose(tight.curve, plain.curve, rtol=1e-4)
    matrix = barrier_matrix(loss, stacked, x, y, points=5, pairs_at_once=2)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(matrix[0, 1:], plain.barrier, rtol=1e-4)
    assert not np.diag(matrix).any()


@pytest.mark.parametrize("chunk", [1, 4, 7, 10, 20])
def test_mean_over_any_chunks(chunk):
    x = jnp.arange(10.0)
    np.testing.assert_allclose(mean_value(lambda p, x: p * jnp.mean(x), 2.0, x, chunk=chunk), 9.0)


def test_traced_once():
    """One trace of the function for all points of all pairs."""
    calls = []

    def value(p, x):
        calls.append(1)
        return jnp.mean(x @ p)

    stacked = jnp.ones((6, 3))
    barriers(value, stacked, stacked, jnp.ones((8, 3)), points=9)
    assert len(calls) == 1


def test_paths_end_where_they_should(nets):
    stacked, *_ = nets
    a, b, c = (member(stacked, k) for k in range(3))
    for path, points in ((linear, (a, b)), (bezier, (a, c, b)), (polygonal, (a, c, c, b))):
        for t, end in ((0.0, a), (1.0, b)):
            got = path(points, t)
            assert jax.tree.all(jax.tree.map(lambda u, v: bool((u == v).all()), got, end))
    middle = polygonal((a, c, b), 0.5)
    assert jax.tree.all(jax.tree.map(lambda u, v: bool((u == v).all()), middle, c))
    # with the bend on the line, the curve is the line
    bend = linear((a, b), 0.5)
    for path in (bezier, polygonal):
        for t in (0.2, 0.7):
            jax.tree.map(
                lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6),
                path((a, bend, b), t),
                linear((a, b), t),
            )


def test_leaves_that_are_not_floating_are_kept():
    a = {"w": jnp.ones(2), "steps": jnp.array(3)}
    b = {"w": jnp.zeros(2), "steps": jnp.array(5)}
    assert int(linear((a, b), 0.5)["steps"]) == 3


def test_errors():
    f = lambda w: w  # noqa: E731
    with pytest.raises(ValueError, match="baseline"):
        barrier(f, 1.0, 2.0, baseline="none")
    with pytest.raises(ValueError, match="scalars"):
        barrier(f, jnp.ones(2), jnp.ones(2))
    with pytest.raises(ValueError, match="0 to 1"):
        barrier(f, 1.0, 2.0, points=[0.1, 1.0])
    with pytest.raises(ValueError, match="at least 2"):
        barrier(f, 1.0, 2.0, points=1)
    with pytest.raises(ValueError, match="2 ends"):
        barrier(f, 1.0, 2.0, bends=(3.0,))
