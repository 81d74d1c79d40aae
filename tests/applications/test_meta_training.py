"""Estimators of meta-gradients on problems whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax.applications.meta_training import (
    InnerProblem,
    Task,
    meta_train,
    persistent_evolution,
    run_task,
    training_run,
    unrolled_gradients,
)

A, B, GOAL, HORIZON = 0.9, 0.5, 1.5, 8
"""State ``x' = A x + B theta``, loss ``(x' - GOAL)^2``: quadratic in all settings of a run."""


def linear():
    def step(theta, x):
        x = A * x + B * theta
        return x, jnp.sum((x - GOAL) ** 2)

    return InnerProblem(lambda theta, key: 0.1 * jnp.ones(2), step)


def known_gradient(theta):
    """By hand: ``x_t = A^t x_0 + B theta (1 + ... + A^(t-1))``."""
    total = np.zeros(2)
    for t in range(1, HORIZON + 1):
        slope = B * (1 - A**t) / (1 - A)
        x = A**t * 0.1 + slope * theta
        total += 2 * (x - GOAL) * slope
    return total


def summed(truncation, persistent, particles=40_000):
    """The mean of the estimates of a whole run, times its pieces' lengths, and its standard error."""
    theta = jnp.array([0.2, -0.4])
    found = []
    es = persistent_evolution(
        linear(), particles=particles // 20, truncation=truncation, horizon=HORIZON, deviation=0.3,
        persistent=persistent, staggered=False,
    )  # fmt: skip

    @jax.jit
    def whole(key):
        def piece(state, _):
            estimate, state = es.estimate(theta, state)
            return state, estimate.gradient

        return truncation * jax.lax.scan(piece, es.init(theta, key), None, HORIZON // truncation)[
            1
        ].sum(0)

    found = np.asarray(jax.vmap(whole)(jax.random.split(jax.random.key(0), 20)))
    return found.mean(0), found.std(0, ddof=1) / 20**0.5, known_gradient(np.asarray(theta))


@pytest.mark.parametrize("truncation", [1, 2, HORIZON])
def test_persistent_evolution_is_unbiased(truncation):
    mean, error, known = summed(truncation, persistent=True)
    assert (np.abs(mean - known) < 4 * error).all()
    assert (error < 0.05 * np.abs(known)).all()  # precise enough to mean something


def test_the_truncated_estimator_is_biased():
    mean, error, known = summed(2, persistent=False)
    assert (np.abs(mean - known) > 20 * error).all()
    assert (np.abs(mean) < 0.8 * np.abs(known)).all()  # it does not see what comes later


def test_unrolled_gradients_are_exact_over_whole_runs_and_blind_beyond_a_piece():
    theta = jnp.array([0.2, -0.4])
    sums = {}
    for truncation in (2, HORIZON):
        unrolled = unrolled_gradients(
            linear(), particles=1, truncation=truncation, horizon=HORIZON, staggered=False
        )
        state, total = unrolled.init(theta, jax.random.key(0)), 0
        for _ in range(HORIZON // truncation):
            found, state = unrolled.estimate(theta, state)
            total += truncation * found.gradient
        sums[truncation] = np.asarray(total)
    known = known_gradient(np.asarray(theta))
    np.testing.assert_allclose(sums[HORIZON], known, rtol=1e-12)
    assert (np.abs(sums[2]) < 0.8 * np.abs(known)).all()


def counting():
    """The state is the step and the number of its run; the loss says where it is."""
    return InnerProblem(
        lambda theta, key: (jnp.zeros(()), jax.random.key_data(key)[-1]),
        lambda theta, s: ((s[0] + 1, s[1]), theta * 0 + s[0]),
    )


@pytest.mark.parametrize("make", [persistent_evolution, unrolled_gradients])
def test_runs_start_anew_at_their_horizon(make):
    options = {"deviation": 0.1} if make is persistent_evolution else {}
    estimator = make(counting(), particles=3, truncation=2, horizon=6, **options)
    state = estimator.init(jnp.zeros(()), jax.random.key(0))
    assert state.age.tolist() == [0, 2, 4]  # staggered
    estimate = jax.jit(estimator.estimate)
    for _ in range(3):
        before = state
        _, state = estimate(jnp.zeros(()), state)
        runs = [s.plus if make is persistent_evolution else s.states for s in (before, state)]
        over = np.asarray(before.age) == 4
        assert (np.asarray(state.age) == np.where(over, 0, before.age + 2)).all()
        assert (np.asarray(runs[1][0])[over] == 0).all()
        assert (np.asarray(runs[0][1] != runs[1][1]) == over).all()  # another key
        if make is persistent_evolution:
            assert (np.asarray(state.noise == 0) == over).all()


@pytest.mark.parametrize("make", [persistent_evolution, unrolled_gradients])
def test_a_run_that_breaks_is_left_out(make):
    broken = InnerProblem(
        lambda theta, key: jax.random.bernoulli(key, 0.5).astype(jnp.float64),
        lambda theta, bad: (bad, jnp.where(bad > 0, jnp.nan, (theta - 1.0) ** 2)),
    )
    options = {"deviation": 0.1} if make is persistent_evolution else {}
    estimator = make(broken, particles=64, truncation=1, horizon=2, **options)
    found, _ = estimator.estimate(jnp.zeros(()), estimator.init(jnp.zeros(()), jax.random.key(0)))
    assert 0.2 < float(found.dropped) < 0.8
    assert float(found.gradient) < 0 and abs(float(found.loss) - 1) < 0.1


@pytest.mark.parametrize("make", [persistent_evolution, unrolled_gradients])
def test_meta_training_finds_the_best_rate(make):
    """Gradient descent on ``h p^2 / 2``, all of one ``h``, is at once at the bottom with rate ``1 / h``."""
    task = Task(
        lambda key: jax.random.normal(key, (4,)),
        lambda p, batch: 2.0 * jnp.sum(p**2),
        lambda key, step: None,
    )
    inner = training_run(task, lambda log_rate: optax.sgd(jnp.exp(log_rate)), ceiling=50.0)
    options = (
        {"deviation": 0.1, "particles": 64} if make is persistent_evolution else {"particles": 8}
    )
    estimator = make(inner, truncation=5, horizon=10, **options)
    told = []
    found = meta_train(
        jnp.log(0.02), estimator, optax.adam(0.05), steps=150, every=60, key=jax.random.key(0),
        log=lambda step, metrics: told.append((step, metrics["loss"])),
    )  # fmt: skip
    assert 0.2 < float(jnp.exp(found.theta)) < 0.3  # the best one is 1 / 4
    assert [step for step, _ in told] == [60, 120, 150] and told[-1][1] < told[0][1]
    assert {name: len(x) for name, x in found.history.items()} == {
        "loss": 150, "gradient_norm": 150, "dropped": 150,
    }  # fmt: skip


def test_a_run_of_a_task_is_plain_training(key):
    task = Task(
        lambda key: jax.random.normal(key, (3,)),
        lambda p, batch: jnp.sum((p - batch) ** 2),
        lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (3,)),
    )
    optimiser = optax.adam(0.1)
    params, losses, measured = run_task(
        task, optimiser, steps=6, every=2, key=key, measure=lambda p: p.sum()
    )
    key_init, key_batches = jax.random.split(key)
    p, known = task.init(key_init), []
    state = optimiser.init(p)
    for i in range(6):
        loss, gradients = jax.value_and_grad(task.loss)(p, task.batches(key_batches, i))
        updates, state = optimiser.update(gradients, state, p)
        p = optax.apply_updates(p, updates)
        known.append(loss)
    np.testing.assert_allclose(params, p, rtol=1e-12)
    np.testing.assert_allclose(losses, known, rtol=1e-12)
    assert measured.shape == (3,) and abs(float(measured[-1] - p.sum())) < 1e-12
    with pytest.raises(ValueError, match="multiple of `every`"):
        run_task(task, optimiser, steps=5, every=2, key=key)


def test_losses_have_a_ceiling():
    task = Task(lambda key: jnp.ones(1), lambda p, b: jnp.sum(p**2), lambda key, step: None)
    inner = training_run(task, lambda theta: optax.sgd(1e30), ceiling=7.0)
    state, losses = inner.start(None, jax.random.key(0)), []
    for _ in range(12):
        state, loss = inner.step(None, state)
        losses.append(float(loss))
    assert losses[0] == 1 and losses[1:] == [7.0] * 11 and not np.isfinite(state.params).all()


@pytest.mark.parametrize(
    "options, said",
    [
        ({"horizon": 7}, "multiple"),
        ({"particles": 0}, "positive"),
        ({"deviation": 0.0}, "deviation"),
    ],
)
def test_bad_lengths(options, said):
    usual = {"particles": 2, "truncation": 2, "horizon": 6, "deviation": 0.1}
    with pytest.raises(ValueError, match=said):
        persistent_evolution(linear(), **(usual | options))


def test_settings_must_be_arrays():
    estimator = unrolled_gradients(linear(), particles=1, truncation=1, horizon=1)
    with pytest.raises(TypeError, match="partition"):
        meta_train({"rate": 0.1}, estimator, optax.adam(0.1), steps=1, key=jax.random.key(0))
