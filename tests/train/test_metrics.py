"""Metrics against scipy and scikit-learn, weights against repetition, intervals against theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from wsljax import train


def columns(seed, n, ties):
    draw = np.random.default_rng(seed)
    y = draw.normal(size=n)
    p = y + draw.normal(size=n)
    return (np.round(p, ties), np.round(y, ties)) if ties is not None else (p, y)


@pytest.mark.parametrize("n", [2, 7, 64, 301])
@pytest.mark.parametrize("ties", [None, 1, 0])
def test_metrics_agree_with_scipy_and_sklearn(n, ties):
    p, y = columns(n, n, ties)
    if len(np.unique(y)) == 1 or len(np.unique(p)) == 1:
        y, p = y + np.arange(n), p + np.arange(n)
    assert np.isclose(train.r2(p, y), sklearn.metrics.r2_score(y, p), rtol=1e-10)
    assert np.isclose(train.kendall_tau(p, y), scipy.stats.kendalltau(p, y).statistic, rtol=1e-10)
    assert np.isclose(train.spearman(p, y), scipy.stats.spearmanr(p, y).statistic, rtol=1e-10)


def test_weights_are_repetitions():
    p, y = columns(0, 40, 1)
    counts = np.random.default_rng(1).integers(0, 4, 40)
    repeated = np.repeat(p, counts), np.repeat(y, counts)
    for metric in (train.r2, train.kendall_tau, train.spearman):
        assert np.isclose(metric(p, y, counts), metric(*repeated), rtol=1e-10)


def test_metrics_are_nan_where_they_mean_nothing():
    assert np.isnan(train.kendall_tau(jnp.ones(4), jnp.arange(4.0)))
    assert np.isnan(train.spearman(jnp.ones(4), jnp.arange(4.0)))
    for metric in (train.r2, train.kendall_tau, train.spearman):
        assert np.isnan(metric(jnp.array([0.0, jnp.nan, 1.0]), jnp.arange(3.0)))
    assert not np.isfinite(train.r2(jnp.arange(4.0), jnp.ones(4)))


def test_metrics_trace_and_keep_float32():
    p, y = (jnp.asarray(column, jnp.float32) for column in columns(3, 100, None))
    for metric in (train.r2, train.kendall_tau, train.spearman):
        value = jax.jit(metric)(p, y)
        assert value.dtype == jnp.float32
        assert np.isclose(value, metric(np.float64(p), np.float64(y)), atol=1e-5)


def test_bootstrap_of_a_mean_is_that_of_theory(key):
    x = np.random.default_rng(5).normal(size=400)

    def mean(x, weights):
        return jnp.sum(weights * x) / jnp.sum(weights)

    found = train.bootstrap(mean, x, key=key, resamples=4000)
    error = x.std() / np.sqrt(len(x))
    assert np.isclose(found.value, x.mean())
    assert np.isclose(found.high - found.low, 2 * 1.96 * error, rtol=0.08)
    assert np.isclose((found.high + found.low) / 2, x.mean(), atol=0.2 * error)
    assert found == train.bootstrap(mean, x, key=key, resamples=4000)
    narrow = train.bootstrap(mean, x, key=key, resamples=4000, level=0.5)
    assert narrow.high - narrow.low < 0.5 * (found.high - found.low)


def test_bootstrap_of_a_difference_is_paired(key):
    p, y = columns(2, 200, None)

    def gap(a, b, y, weights):
        return train.r2(a, y, weights) - train.r2(b, y, weights)

    found = train.bootstrap(gap, p, p, y, key=key, resamples=50)
    assert found == train.Interval(0.0, 0.0, 0.0)


def test_errors_name_what_is_wrong(key):
    with pytest.raises(ValueError, match=r"vectors of one length.*\(3,\).*\(4,\)"):
        train.r2(jnp.ones(3), jnp.ones(4))
    with pytest.raises(ValueError, match="`level` is 95"):
        train.bootstrap(train.r2, jnp.ones(3), jnp.ones(3), key=key, level=95)
    with pytest.raises(ValueError, match=r"`columns`.*\(3,\), \(4,\)"):
        train.bootstrap(train.r2, jnp.ones(3), jnp.ones(4), key=key)


def test_rank_correlations_of_ten_thousand_with_an_interval_take_seconds(key):
    p, y = (jnp.asarray(np.float32(column)) for column in columns(9, 10_000, 1))
    for metric, theirs in (
        (train.kendall_tau, scipy.stats.kendalltau),
        (train.spearman, scipy.stats.spearmanr),
    ):
        found = train.bootstrap(metric, p, y, key=key, resamples=20)
        assert np.isclose(found.value, theirs(p, y).statistic, atol=2e-6)
        assert 0.002 < found.high - found.low < 0.05


def test_one_sample_and_one_level():
    assert np.isnan(train.kendall_tau(jnp.ones(1), jnp.ones(1)))
    assert train.kendall_tau(jnp.array([1.0, 2.0]), jnp.array([5.0, 4.0])) == -1
