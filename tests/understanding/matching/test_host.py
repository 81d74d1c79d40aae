"""Coordinate ascent on the host: its short cuts give what the long ways give."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from wsljax import symmetry
from wsljax.understanding.matching import exchange, host, weight_matching
from wsljax.understanding.matching.problem import problem_of


def _spec(shapes, annotations):
    like = {n: jax.ShapeDtypeStruct(shape, jnp.float32) for n, shape in shapes.items()}
    return symmetry.parse(like, annotations)


def test_units_liked_by_one_each_need_no_solver():
    rng = np.random.default_rng(0)
    gains = rng.normal(size=(2, 6, 6)).astype(np.float32)
    gains[0, np.arange(6), rng.permutation(6)] += 10
    _, clear = host.liked(gains)
    assert clear.tolist() == [True, False]
    for matrix, columns in zip(gains, host.assign(gains)):
        assert columns.tolist() == linear_sum_assignment(matrix, maximize=True)[1].tolist()


def test_slices_of_a_kernel_multiply_as_its_transpose(monkeypatch):
    rng = np.random.default_rng(0)
    spec = _spec({"k": (3, 3, 5, 40)}, {"k": "_ _ h _"})
    problem = problem_of(spec)
    (place,) = problem.places("h")
    a, b = ({"k": rng.normal(size=(n, 3, 3, 5, 40))} for n in (1, 2))
    sliced = exchange.place_gains(np, place, a, b)
    monkeypatch.setattr(exchange, "SLICES", 0)
    np.testing.assert_allclose(sliced, exchange.place_gains(np, place, a, b), rtol=1e-10)
    assert sliced.shape == (2, 5, 5)


def _pair(seed, size=host.MANY):
    """A network with large biases, and a permuted copy with noise."""
    shapes = {"w": (size, size), "b": (size,), "v": (size, 3)}
    spec = _spec(shapes, {"w": "_ h", "b": "h", "v": "h _"})
    rng = np.random.default_rng(seed)
    a = {n: rng.normal(size=s) * (1 if n == "b" else size**-0.5) for n, s in shapes.items()}
    noisy = {n: x + 0.3 * x.std() * rng.normal(size=x.shape) for n, x in a.items()}
    g = spec.sample(jax.random.key(seed))
    a, noisy = ({n: jnp.asarray(x, jnp.float32) for n, x in p.items()} for p in (a, noisy))
    return spec, a, spec.act(spec.inverse(g), noisy), g


def test_planted_units_are_found_without_a_solver_and_without_a_second_try(monkeypatch):
    spec, a, b, g = _pair(0)
    gains = np.asarray(a["b"])[:, None] * np.asarray(b["b"])
    assert not host.liked(gains)[1]  # by products alone all like the largest bias

    def refuse(*_):
        raise AssertionError("there was nothing to solve")

    monkeypatch.setattr(host, "assign_from_prices", refuse)
    monkeypatch.setattr(host, "reopened", refuse)
    found = weight_matching(a, b, spec, key=jax.random.key(0), restarts=3, where="host")
    assert (np.asarray(found.element["h"]) == np.asarray(g["h"])).all()


def test_unrelated_units_are_assigned_as_by_scipy():
    spec, a, _, _ = _pair(0)
    b = _pair(1)[1]
    found = weight_matching(a, b, spec, key=jax.random.key(0), where="host")
    gains = sum(np.asarray(x) @ np.asarray(y).T for x, y in (
        (a["w"].T, b["w"].T), (a["b"][:, None], b["b"][:, None]), (a["v"], b["v"])
    ))  # fmt: skip
    rows, columns = linear_sum_assignment(gains, maximize=True)
    np.testing.assert_allclose(float(found.objective), gains[rows, columns].sum(), rtol=1e-5)


def test_the_better_of_two_is_kept_for_each_pair():
    def found(value, k):
        return host.Found({"h": np.full((2, 1), k)}, np.array(value), np.zeros((1, 2)),
                          {"w": np.full((2, 3), k)})  # fmt: skip

    mixed = host._better(found([1.0, 5.0], 1), found([2.0, 4.0], 2))
    assert mixed.value.tolist() == [2.0, 5.0]
    assert mixed.element["h"][:, 0].tolist() == mixed.moved["w"][:, 0].tolist() == [2, 1]
    assert host._better(found([3.0, 5.0], 1), found([2.0, 4.0], 2)).value.tolist() == [3.0, 5.0]
