"""Networks that are not what was recorded of them are found, whatever of them is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import zoo

KEY = jax.random.key(1)
CNN = {"input_shape": (8, 8, 1), "channels": (6, 6), "stride": 1, "padding": 1}
CNN |= {"activation": ("relu", "tanh")}


@pytest.fixture(scope="module")
def trained():
    """Small CNNs that tell a bright half from a dark one, with metrics on other images."""
    y = jax.random.bernoulli(KEY, 0.5, (96,)).astype(jnp.int32)
    bright = jnp.where(jnp.arange(8) < 4, 1 - y[:, None], y[:, None])
    x = 0.5 * jax.random.uniform(KEY, (96, 8, 8, 1)) + 0.12 * bright[:, :, None, None]
    hyper = {"learning_rate": [1e-2] * 6, "activation": ["relu", "tanh"] * 3}
    population = zoo.train(
        zoo.Function("cnn", CNN | {"dense_widths": (2,), "head": "flatten"}), "cross_entropy",
        (x[:64], y[:64]), hyper, steps=60, batch_size=32, key=KEY,
    )  # fmt: skip
    evaluation = zoo.Evaluation(x[64:], y[64:], {"accuracy": "accuracy", "test": "cross_entropy"})
    return population.with_columns(evaluation.measure(population)), evaluation


def changed(population, **settings):
    function = zoo.Function("cnn", population.function.settings | settings)
    return population.with_function(function)


def test_what_was_recorded_is_found_again(trained):
    population, evaluation = trained
    assert population.columns["accuracy"].mean() > 0.7
    for sample in (None, 3):
        assert max(zoo.verify(population, evaluation, sample=sample).values()) < 1e-5
    chunked = evaluation.measure(population, chunk=2)
    np.testing.assert_allclose(chunked["test"], population.columns["test"], rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"mean": 0.5},
        {"std": 0.5},
        {"activation": ("tanh", "relu")},
        {"activation": ("relu", "sine")},
        {"residual": (-1, 0)},
    ],
    ids=str,
)
def test_a_wrong_function_fails_loudly(trained, settings):
    population, evaluation = trained
    with pytest.raises(zoo.FunctionMismatch, match=r"network \d was recorded with .* and has"):
        zoo.verify(changed(population, **settings), evaluation)


def test_a_wrong_padding_fails_loudly():
    """Of a mean over positions the shapes say nothing: the published pipeline's mistake."""
    function = zoo.Function("cnn", {"input_shape": (8, 8, 1), "channels": (6, 6)})
    params = jax.vmap(lambda k: function.init({}, key=k))(jax.random.split(KEY, 4))
    x = jax.random.normal(KEY, (64, 8, 8, 1))
    evaluation = zoo.Evaluation(x, jnp.zeros(64, jnp.int32), {"loss": "cross_entropy"})
    population = zoo.Population(params, {"seed": np.arange(4)}, function=function)
    population = population.with_columns(evaluation.measure(population))
    zoo.verify(population, evaluation)
    with pytest.raises(zoo.FunctionMismatch, match="padding"):
        zoo.verify(changed(population, padding=1), evaluation)


def test_wrong_weights_and_rows_fail(trained):
    population, evaluation = trained
    order = np.array([1, 0, 2, 3, 4, 5])
    swapped = population.with_params(jax.tree.map(lambda w: w[order], population.params))
    with pytest.raises(zoo.FunctionMismatch, match="network [01] "):
        zoo.verify(swapped, evaluation)
    broken = jax.tree.map(lambda w: w.at[3].set(jnp.nan), population.params)
    with pytest.raises(zoo.FunctionMismatch, match="network 3 .* and has nan|network 3"):
        zoo.verify(population.with_params(broken), evaluation)


def test_networks_recorded_as_nan_may_be_nan(trained):
    population, evaluation = trained
    one = zoo.Evaluation(evaluation.inputs, evaluation.targets, {"test": "cross_entropy"})
    params = jax.tree.map(lambda w: w.at[3].set(jnp.nan), population.params)
    broken = population.with_params(params)
    broken = broken.with_columns(one.measure(broken))
    assert np.isnan(broken.columns["test"][3])
    zoo.verify(broken, one, sample=None)


def test_what_is_missing_is_named(trained):
    population, evaluation = trained
    with pytest.raises(ValueError, match=r"no columns \['other'\]"):
        zoo.verify(
            population, zoo.Evaluation(evaluation.inputs, evaluation.targets, {"other": "mse"})
        )
    with pytest.raises(ValueError, match="does not say what it computes"):
        population.with_function(None).apply(evaluation.inputs)
    with pytest.raises(ValueError, match="the metrics are accuracy"):
        zoo.Evaluation(evaluation.inputs, evaluation.targets, {"accuracy": "acc"})
    with pytest.raises(ValueError, match="do not go together"):
        zoo.Evaluation(evaluation.inputs, evaluation.targets[:5], {"accuracy": "accuracy"})


def test_metrics_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]))
    classes = jnp.array([0, 2, -1])  # a negative class is left out
    np.testing.assert_allclose(
        zoo.METRICS["cross_entropy"](logits, classes), -(np.log(0.5) + np.log(0.1)) / 2, rtol=1e-6
    )
    assert zoo.METRICS["accuracy"](logits, classes) == 0.5
    a, b = jnp.array([[0.0], [1.0]]), jnp.array([0.5, 1.0])
    np.testing.assert_allclose(zoo.METRICS["mse"](a, b), 0.125)
    np.testing.assert_allclose(zoo.METRICS["psnr"](a, b), 10 * np.log10(8), rtol=1e-6)
    np.testing.assert_allclose(
        zoo.METRICS["binary_cross_entropy"](jnp.array([0.0]), jnp.array([1.0])),
        np.log(2),
        rtol=1e-6,
    )
