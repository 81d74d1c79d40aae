"""Coordinate networks: any spec, smooth orders, distillation, and a trained CNN that survives it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.architectures.registry import quickly
from tests.representation.specs import SPECS, params_of, spec_of
from wsljax import symmetry
from wsljax.representation.coordinates import (
    CoordinateNetwork,
    feature_distillation,
    fit_coordinates,
    logit_distillation,
    reconstruction,
)
from wsljax.representation.unit_order import smooth_order

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in ("heads", "four times") else pytest.mark.slow)
        for n in SPECS
    ],
)
def test_orders_are_elements_that_make_weights_smoother(name):
    spec = spec_of(SPECS[name])
    params = params_of(spec, jax.random.key(1))
    g = smooth_order(params, spec, metric="euclidean")
    for unit in spec.units:
        order = np.asarray(g[unit.name])
        assert (np.sort(order, -1) == np.arange(unit.size)).all(), unit.name
    back = spec.act(spec.inverse(g), spec.act(g, params))
    assert all(bool((back[n] == params[n]).all()) for n in params)


def roughness(x: jax.Array, axis: int) -> float:
    return float(jnp.sum(jnp.linalg.norm(jnp.diff(jnp.moveaxis(x, axis, 0), axis=0), axis=1)))


def test_a_shuffled_curve_is_found_again():
    """Units that lie on a curve, in random order; 2-opt finds the order along it, up to its direction."""
    t = jnp.linspace(0, 3, 24)
    curve = jnp.stack([jnp.cos(t), jnp.sin(t), t / 3], -1)
    order = jax.random.permutation(KEY, 24)
    params = {"w": curve[order].T, "b": t[order]}
    spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
    for arrays in ("all", "largest"):
        g = smooth_order(params, spec, arrays=arrays, metric="euclidean")
        found = np.asarray(spec.act(g, params)["b"])
        assert (np.diff(found) > 0).all() or (np.diff(found) < 0).all()
    with pytest.raises(ValueError, match="`metric`"):
        smooth_order(params, spec, metric="manhattan")


def test_nested_units_follow_their_parents():
    """Dimensions of each head on a curve of their own, heads on another."""
    t = np.random.default_rng(0).permuted(np.tile(np.arange(6.0), (5, 1)), axis=1)
    heads = np.array([3.0, 0.0, 4.0, 1.0, 2.0])
    params = {"q": jnp.asarray(t), "n": jnp.asarray(100 * heads)}
    spec = symmetry.parse(params, {"q": "h m[h]", "n": "h"})
    out = spec.act(smooth_order(params, spec, metric="euclidean"), params)
    assert (np.abs(np.diff(np.asarray(out["n"]))) == 100).all()
    assert (np.abs(np.diff(np.asarray(out["q"]), axis=1)) == 1).all()


def test_any_tree_is_predicted_and_gradients_flow():
    spec = spec_of({**SPECS["scanned heads"], **SPECS["width one"]})
    params = params_of(spec, KEY)
    net = CoordinateNetwork(spec, 8, 1, key=KEY, like=params, dtype=jnp.float64)
    run = quickly(lambda n: (n(), jax.grad(lambda n: reconstruction(n(), params))(n)))
    out, grads = run(net)
    assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, params)
    for x in jax.tree.leaves(grads):
        assert bool(jnp.isfinite(x).all()) and float(jnp.abs(x).max()) > 0
    with pytest.raises(ValueError, match="draw one for the spec"):
        net(spec_of(SPECS["rnn"]))
    with pytest.raises(ValueError, match="`layers` must be positive"):
        CoordinateNetwork(spec, 8, 0, key=KEY)


def test_other_widths_are_read_at_relative_places():
    narrow = spec_of({"w": ((4, 6), "a b"), "b": ((6,), "b")})
    wide = spec_of({"w": ((12, 18), "a b"), "b": ((18,), "b")})
    net = CoordinateNetwork(narrow, 8, 1, key=KEY, dtype=jnp.float64)
    small, large = quickly(lambda n: (n(), n(wide)))(net)
    np.testing.assert_allclose(large["b"][1::3], small["b"], atol=1e-12)
    np.testing.assert_allclose(large["w"][1::3, 1::3], small["w"], atol=1e-12)


def test_smooth_weights_are_fitted_better_than_shuffled_ones():
    a, b = np.linspace(0, 1, 24), np.linspace(0, 1, 16)
    smooth = np.sin(5 * a[:, None] + 3 * b) + np.cos(4 * a[:, None] * b)
    rng = np.random.default_rng(0)
    shuffled = {"w": jnp.asarray(smooth[rng.permutation(24)][:, rng.permutation(16)])}
    spec = symmetry.parse(shuffled, {"w": "g h"})
    ordered = spec.act(smooth_order(shuffled, spec, metric="euclidean"), shuffled)
    assert roughness(ordered["w"], 0) < 0.5 * roughness(shuffled["w"], 0)
    errors = {}
    for name, params in (("shuffled", shuffled), ("ordered", ordered)):
        net = CoordinateNetwork(spec, 24, 2, key=KEY, like=params, highest=6.0, dtype=jnp.float64)
        fitted, losses = fit_coordinates(net, lambda p, x=params: reconstruction(p, x), steps=150)
        errors[name] = float(reconstruction(fitted(), params))
        assert losses.shape == (150,) and losses[-1] < 0.5 * losses[0]
    assert errors["ordered"] < 0.05 and errors["ordered"] < 0.3 * errors["shuffled"]


def test_distillation_by_hand():
    s, t = jnp.array([[1.0, 0.0], [2.0, 1.0]]), jnp.array([[0.0, 0.0], [1.0, 3.0]])
    p, q = jax.nn.softmax(t / 2), jax.nn.softmax(s / 2)
    expected = 4 * jnp.mean(jnp.sum(p * jnp.log(p / q), -1))
    assert jnp.allclose(logit_distillation(s, t, 2.0), expected) and expected > 0.01
    features = feature_distillation({"a": s, "b": 2 * t}, {"a": s, "b": t})
    assert jnp.allclose(features, 0.5)


def small_cnn(params: dict, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """``(batch, 8, 8, 1)`` to logits and hidden features."""
    hidden = []
    for n in (0, 1):
        x = jax.lax.conv_general_dilated(
            x, params[f"k{n}"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[f"b{n}"])
        hidden.append(x)
    return x.mean((1, 2)) @ params["w"] + params["c"], hidden


@pytest.mark.slow
def test_a_trained_cnn_keeps_its_accuracy():
    """Digits: trained, put in a smooth order, represented by coordinates, evaluated on held-out images."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    x = jnp.asarray(images.reshape(-1, 8, 8, 1) / 16, jnp.float32)
    y = jnp.asarray(labels)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    keys = jax.random.split(KEY, 3)
    shapes = {"k0": (3, 3, 1, 16), "k1": (3, 3, 16, 24), "w": (24, 10)}
    params = {
        n: jax.random.normal(k, s, jnp.float32) * float((2 / np.prod(s[:-1])) ** 0.5)
        for (n, s), k in zip(shapes.items(), keys, strict=True)
    }
    params |= {n: jnp.zeros(s, jnp.float32) for n, s in (("b0", 16), ("b1", 24), ("c", 10))}
    optimiser = optax.adamw(1e-2, weight_decay=1e-3)

    @jax.jit
    def fit(params):
        def step(carry, key):
            params, state = carry
            rows = jax.random.choice(key, jnp.asarray(train), (128,))
            loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
                small_cnn(p, x[rows])[0], y[rows]
            ).mean()
            updates, state = optimiser.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(KEY, 500)
        return jax.lax.scan(step, (params, optimiser.init(params)), keys)[0][0]

    params = fit(params)
    accuracy = lambda p: float((small_cnn(p, x[test])[0].argmax(-1) == y[test]).mean())  # noqa: E731
    spec = symmetry.infer(lambda p, x: small_cnn(p, x)[0], params, x[:2], kinds=("permutation",))
    assert {unit.size for unit in spec.units} == {16, 24}
    ordered = spec.act(smooth_order(params, spec), params)
    assert accuracy(ordered) == accuracy(params) > 0.93
    logits, hidden = small_cnn(ordered, x[train[:256]])

    def loss(predicted):
        out, features = small_cnn(predicted, x[train[:256]])
        return (
            reconstruction(predicted, ordered)
            + 0.1 * logit_distillation(out, logits)
            + 0.1 * feature_distillation(features, hidden)
        )

    net = CoordinateNetwork(spec, 64, 3, key=KEY, like=ordered)
    count = sum(a.size for a in jax.tree.leaves(params))
    before = accuracy(net())
    fitted, _ = fit_coordinates(net, loss, steps=800)
    after, error = accuracy(fitted()), float(reconstruction(fitted(), ordered))
    print(f"{count} weights: {before:.3f} before, {after:.3f} after, {accuracy(params):.3f} original, "
          f"error {error:.4f}")  # fmt: skip
    assert before < 0.5 and after > accuracy(params) - 0.015 and error < 0.1


def test_orders_of_an_architecture():
    """From the function alone: a network with convolutions, put in order, computes the same."""
    params = {
        "k0": jax.random.normal(KEY, (3, 3, 1, 4), jnp.float32),
        "b0": jnp.arange(4.0, dtype=jnp.float32),
        "k1": jax.random.normal(KEY, (3, 3, 4, 5), jnp.float32),
        "b1": jnp.zeros(5, jnp.float32),
        "w": jax.random.normal(KEY, (5, 3), jnp.float32),
        "c": jnp.zeros(3, jnp.float32),
    }
    x = jax.random.normal(KEY, (2, 8, 8, 1), jnp.float32)
    run = quickly(lambda p: small_cnn(p, x)[0])
    spec = symmetry.infer(lambda p, x: small_cnn(p, x)[0], params, x, kinds=("permutation",))
    ordered = spec.act(smooth_order(params, spec), params)
    assert any(bool((ordered[n] != params[n]).any()) for n in params)
    np.testing.assert_allclose(run(ordered), run(params), atol=1e-5)
