"""Predictors against scikit-learn and closed forms, and the table of baselines end to end."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sklearn")
import sklearn.linear_model  # noqa: E402

from wsljax import train  # noqa: E402
from wsljax.representation.baselines.evaluate import evaluate_baselines, hyper_features, score  # noqa: E402
from wsljax.representation.baselines.predictors import (  # noqa: E402
    fit_logistic,
    fit_logit_linear,
    fit_mlp,
    fit_ridge,
    fit_trees,
)
from wsljax.zoo.population import Population  # noqa: E402
from wsljax.zoo.preprocessing.split import split  # noqa: E402


def problem(n, features=6, noise=0.1, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, features)) * 10.0 ** draw.integers(-3, 4, features) + 5
    unit = (x - x.mean(axis=0)) / x.std(axis=0)
    return x, unit @ draw.normal(size=features) + 2 + noise * draw.normal(size=n), unit


def test_ridge_is_scikit_learns_at_the_penalty_it_chose():
    x, y, unit = problem(60, noise=1.0)
    model = fit_ridge(x, y)
    theirs = sklearn.linear_model.Ridge(alpha=60 * float(model.penalty)).fit(unit, y)
    np.testing.assert_allclose(model(x), theirs.predict(unit), rtol=1e-8)
    two = fit_ridge(x, np.stack([y, -y], axis=1))
    np.testing.assert_allclose(two(x), np.stack([model(x), -model(x)], axis=1), rtol=1e-8)


def test_ridge_penalty_minimises_generalised_cross_validation_written_out():
    x, y, unit = problem(40, features=30, noise=3.0)
    penalties = np.logspace(-4, 2, 13)
    scores = []
    for penalty in penalties:
        hat = unit @ np.linalg.solve(unit.T @ unit + 40 * penalty * np.eye(30), unit.T)
        hat = hat + np.full((40, 40), 1 / 40)
        scores.append(40 * np.sum((y - hat @ y) ** 2) / (40 - np.trace(hat)) ** 2)
    model = fit_ridge(x, y, penalties=penalties)
    assert np.isclose(model.penalty, penalties[np.argmin(scores)])
    assert 0 < np.argmin(scores) < 12  # neither end


def test_ridge_bears_more_features_than_networks_and_constant_ones():
    x, y, _ = problem(20, features=50)
    x[:, 3] = 0.1
    x, y = np.float32(x), np.float32(y)
    model = fit_ridge(x, y)
    prediction = model(x)
    assert prediction.dtype == jnp.float32 and np.isfinite(prediction).all()
    x[:, 3] = 1e6  # what did not vary in training says nothing
    assert np.array_equal(model(x), prediction)


def test_logistic_is_scikit_learns():
    x, y, unit = problem(150, noise=1.0)
    classes = np.digitize(y, [0.5, 3.0])
    model = fit_logistic(x, classes, penalty=1e-2)
    theirs = sklearn.linear_model.LogisticRegression(C=1 / (150 * 1e-2), tol=1e-10, max_iter=5000)
    theirs.fit(unit, classes)
    found = jax.nn.softmax(model(x), axis=1)
    np.testing.assert_allclose(found, theirs.predict_proba(unit), atol=2e-4)


def test_logit_linear_stays_between_zero_and_one():
    x, y, _ = problem(200)
    accuracy = 1 / (1 + np.exp(-y))
    model = fit_logit_linear(x, accuracy)
    assert train.r2(model(x), accuracy) > 0.98
    far = model(x * 1000)
    assert far.min() >= -0.0101 and far.max() <= 1.0101
    with pytest.raises(ValueError, match="logits need 0 to 1"):
        fit_logit_linear(x, y)


FITS = {
    "trees": functools.partial(fit_trees, trees=60),
    "mlp": functools.partial(fit_mlp, width=32, steps=400),
}


@pytest.mark.parametrize("name", FITS)
def test_fits_a_curve_that_no_line_does_and_repeats_itself(name, key):
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, size=(600, 2)).astype(np.float32)
    y = np.sin(4 * x[:, 0]) * x[:, 1] + 7
    fit = functools.partial(FITS[name], x[:400], y[:400], validation=(x[400:500], y[400:500]))
    model = fit(key=key)
    prediction = np.asarray(model(x[500:]))
    assert (
        train.r2(prediction, y[500:])
        > 0.8
        > 0.3
        > train.r2(fit_ridge(x[:400], y[:400])(x[500:]), y[500:])
    )
    assert np.array_equal(prediction, fit(key=key)(x[500:]))


def test_validation_stops_a_network_that_learns_noise(key):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(80, 10)).astype(np.float32), draw.normal(size=80).astype(np.float32)
    held = draw.normal(size=(200, 10)).astype(np.float32), draw.normal(size=200).astype(np.float32)
    model = fit_mlp(x, y, key=key, width=64, steps=400, validation=held)
    missed = np.mean((model(held[0]) - held[1]) ** 2)
    assert missed < 1.15 * np.var(held[1]) and train.r2(model(x), y) < 0.9
    few = fit_trees(x, y, trees=100, validation=held)
    assert few.stage < 20


def test_scores_agree_with_the_metrics(key):
    draw = np.random.default_rng(0)
    y = draw.normal(size=100).astype(np.float32)
    p = y + draw.normal(size=100).astype(np.float32)
    found = score(p, y, key=key, resamples=50)
    assert found.keys() == {"r2", "kendall", "spearman"}
    assert found["kendall"] == train.bootstrap(train.kendall_tau, p, y, key=key, resamples=50)
    assert all(i.low < i.value < i.high for i in found.values())


def test_hyperparameters_as_numbers():
    columns = {
        "rate": [1e-4, 1e-2, 1.0],
        "width": [4, 8, 16],
        "kind": [0, 2, 2],
        "name": np.array(["a", "b", "a"]),
    }
    zoo = Population({"w": np.zeros((3, 1))}, columns, labels={"kind": ("x", "y", "z")})
    found = hyper_features(zoo, ["rate", "width", "kind", "name"])
    np.testing.assert_allclose(
        found, [[-4, 4, 1, 0, 0, 1, 0], [-2, 8, 0, 0, 1, 0, 1], [0, 16, 0, 0, 1, 1, 0]], atol=1e-6
    )


@pytest.fixture(scope="module")
def zoo():
    """Weights whose spread decides the target, and a hyperparameter that knows part of it."""
    draw = np.random.default_rng(0)
    spread = draw.uniform(0.5, 2, size=200)
    stack = {
        "dense_0": {
            "kernel": spread[:, None, None] * draw.normal(size=(200, 8, 6)),
            "bias": draw.normal(size=(200, 6)),
        },
        "dense_1": {"kernel": draw.normal(size=(200, 6, 4))},
    }
    stack = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), stack)
    columns = {
        "accuracy": np.float32(spread / 2),
        "guess": np.float32(spread + draw.normal(size=200)),
    }
    return Population(stack, columns)


@pytest.mark.slow
def test_baselines_in_one_call(zoo, key):
    parts = split(len(zoo), (0.6, 0.2, 0.2), key=key)
    seen = []
    fits = {
        "ridge": fit_ridge,
        "trees": functools.partial(fit_trees, trees=20),
        "mlp": functools.partial(fit_mlp, width=16, steps=80),
    }
    rows = evaluate_baselines(
        zoo, "accuracy", parts, key=key, hyper=["guess"], predictors=fits, resamples=20,
        log=lambda done, row: seen.append((done, row)),
    )  # fmt: skip
    rows = json.loads(json.dumps(rows, allow_nan=False))
    assert [(row["features"], row["columns"]) for row in rows[::3]] == [
        ("hyperparameters", 1), ("7 global statistics", 7), ("21 statistics (google)", 21),
    ]  # fmt: skip
    assert [row["predictor"] for row in rows] == ["ridge", "trees", "mlp"] * 3
    assert [done for done, _ in seen] == list(range(1, 10))
    by_name = {(row["features"], row["predictor"]): row for row in rows}
    best = by_name["21 statistics (google)", "ridge"]
    assert best["r2"][0] > 0.8 > by_name["hyperparameters", "ridge"]["r2"][0]
    assert best["networks"] == {"train": 120, "validation": 40, "test": 40}
    for row in rows:
        for metric in ("r2", "kendall", "spearman"):
            value, low, high = row[metric]
            assert low <= value <= high


def test_test_networks_change_no_fit(zoo, key):
    parts = split(len(zoo), (0.6, 0.2, 0.2), key=key)
    caught = []

    def spy(x, y, *, key, validation):
        caught.append((x, y, *validation))
        return fit_ridge(x, y)

    for shift in (0.0, 1.0):
        accuracy = np.array(zoo.columns["accuracy"])
        accuracy[parts.test] += shift
        moved = zoo.with_columns({"accuracy": accuracy})
        evaluate_baselines(moved, "accuracy", parts, key=key, predictors={"spy": spy}, resamples=5)
    half = len(caught) // 2
    for before, after in zip(caught[:half], caught[half:]):
        assert all(np.array_equal(a, b) for a, b in zip(before, after))


def test_errors_name_what_is_wrong(zoo, key):
    parts = split(len(zoo), key=key)
    with pytest.raises(ValueError, match="no column 'accurracy'"):
        evaluate_baselines(zoo, "accurracy", parts, key=key)
    bad = zoo.with_columns(
        {"accuracy": np.array(zoo.columns["accuracy"]) * np.append(np.nan, np.ones(199))}
    )
    with pytest.raises(ValueError, match="1 of 200 networks"):
        evaluate_baselines(bad, "accuracy", parts, key=key)
    with pytest.raises(ValueError, match="`x` is not finite for 1 of 2"):
        fit_ridge([[1.0], [np.nan]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"not \(3,\), \(3,\)"):
        fit_ridge([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="integers from 0"):
        fit_logistic([[1.0], [2.0]], [0.5, 1.0])
