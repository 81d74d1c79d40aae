"""Paths, targets, times and weights against closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax.generation.processes import (
    BetaTimes,
    CosinePath,
    DataTarget,
    DataWeight,
    LinearBetaPath,
    LogitNormalTimes,
    LogNormalTimes,
    MinSNRWeight,
    NoiseTarget,
    PlainWeight,
    Preconditioned,
    StepTimes,
    Straight,
    UniformTimes,
    VarianceExploding,
    VariancePreserving,
    VelocityTarget,
    VTarget,
    as_target,
    data_deviation,
)

PATHS = {
    "straight": Straight(),
    "exploding": VarianceExploding(),
    "ddpm": VariancePreserving.linear(),
    "cosine-steps": VariancePreserving.cosine(),
    "sde": LinearBetaPath(),
    "cosine": CosinePath(),
}
TARGETS = {
    "data": DataTarget(),
    "noise": NoiseTarget(),
    "v": VTarget(),
    "velocity": VelocityTarget(),
    "edm": Preconditioned(0.5),
    "edm-leaf": Preconditioned({"w": 0.3, "b": 2.0}),
}
TIMES = (0.137, 0.5, 0.9)


def trees():
    """A network and noise: a weight matrix and a bias."""
    numbers = np.random.default_rng(0)
    return tuple(
        {"w": jnp.asarray(numbers.normal(size=(2, 3))), "b": jnp.asarray(numbers.normal(size=3))}
        for _ in range(2)
    )


def close(a, b, rtol=1e-9, atol=1e-9):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


@pytest.mark.parametrize("path, target", [*itertools.product(PATHS, TARGETS)])
def test_every_target_tells_the_network_and_the_noise(path, target):
    path, target = PATHS[path], TARGETS[target]
    data, noise = trees()
    for t in TIMES:
        x = path.at(data, noise, t)
        found = target.estimate(path, target.goal(path, data, noise, t), x, t)
        close(found.data, data, atol=1e-7)
        close(found.noise, noise, atol=1e-7)
        close(path.at(found.data, found.noise, t), x)


@pytest.mark.parametrize("path, target", [*itertools.product(PATHS, TARGETS)])
def test_gain_is_how_the_network_moves_with_the_output(path, target):
    path, target = PATHS[path], TARGETS[target]
    data, noise = trees()
    for t in TIMES:
        x = path.at(data, noise, t)
        one = jax.tree.map(jnp.ones_like, x)
        zero = jax.tree.map(jnp.zeros_like, x)
        found = [target.estimate(path, out, x, t).data for out in (one, zero)]
        slope = jax.tree.map(lambda a, b: a - b, *found)  # estimates are affine in the output
        gain = target.gain(path, t)
        gain = gain if isinstance(gain, dict) else {"w": gain, "b": gain}
        close(slope, jax.tree.map(lambda g, a: g * jnp.ones_like(a), gain, x), atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_clock_and_ratio_are_other_names_of_time(path):
    path = PATHS[path]
    t = jnp.array(TIMES)
    np.testing.assert_allclose(path.time(path.ratio(t)), t, rtol=1e-9)
    np.testing.assert_allclose(path.from_clock(path.clock(t)), t, rtol=1e-9)
    rates = path.rates(t)
    for fn, rate in zip((path.signal, path.noise), rates):
        slope = jax.vmap(jax.grad(lambda c, fn=fn: fn(path.from_clock(c))))(path.clock(t))
        np.testing.assert_allclose(rate, slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_times_run_from_noise_to_the_network(path):
    times = PATHS[path].times(10)
    assert times.shape == (11,) and float(times[0]) == pytest.approx(1.0) and times[-1] == 0
    assert (jnp.diff(times) < 0).all()
    np.testing.assert_allclose(PATHS[path].noise(0.0), 0, atol=1e-12)
    np.testing.assert_allclose(PATHS[path].signal(0.0), 1, atol=1e-12)


def test_ddpm_is_the_published_schedule():
    """T = 1000, betas on a line from 1e-4 to 0.02 (Ho et al. 2020, section 4)."""
    betas = np.linspace(1e-4, 0.02, 1000)
    products = np.cumprod(1 - betas)
    path = VariancePreserving.linear(counted=True)
    t = jnp.arange(1, 1001) / 1000
    np.testing.assert_allclose(path.signal(t) ** 2, products, rtol=1e-10)
    np.testing.assert_allclose(path.noise(t) ** 2, 1 - products, rtol=1e-10)
    np.testing.assert_allclose(path.level(t), np.arange(1000), atol=1e-9)
    np.testing.assert_allclose(path.times(4), [1.0, 0.75, 0.5, 0.25, 0.0])
    with pytest.raises(ValueError, match="1001 steps of sampling on a path of 1000"):
        path.times(1001)


def test_cosine_schedule_is_that_of_improved_ddpm():
    def square(t):
        return (
            math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
            / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        )

    path = VariancePreserving.cosine()
    for t in (0.001, 0.25, 0.5, 0.75, 0.99):
        np.testing.assert_allclose(path.signal(t) ** 2, square(t), rtol=1e-9)
    last = path.signal(1.0) ** 2 / path.signal(0.999) ** 2
    np.testing.assert_allclose(last, 0.001, rtol=1e-9)  # 1 - largest


def test_steps_of_karras():
    path = VarianceExploding()
    i = np.arange(18)
    sigma = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(path.noise(path.times(18)), np.append(sigma, 0), rtol=1e-10)
    np.testing.assert_allclose(path.level(path.time(0.5)), math.log(0.5) / 4, rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.5, 3.0, 80.0])
def test_edm_preconditioning_is_table_1(sigma):
    d = 0.5
    skip, out, scale = Preconditioned(d).coefficients(path := VarianceExploding(), path.time(sigma))
    np.testing.assert_allclose(skip, d**2 / (sigma**2 + d**2), rtol=1e-10)
    np.testing.assert_allclose(out, sigma * d / math.hypot(sigma, d), rtol=1e-10)
    np.testing.assert_allclose(scale, 1 / math.hypot(sigma, d), rtol=1e-10)
    data, noise = trees()
    x = path.at(data, noise, path.time(sigma))
    goal = Preconditioned(d).goal(path, data, noise, path.time(sigma))
    close(goal, jax.tree.map(lambda y, x: (y - skip * x) / out, data, x), rtol=1e-6, atol=1e-6)
    # the plain error of F weighs the error of D by lambda(sigma), equation 8
    weight = (sigma**2 + d**2) / (sigma * d) ** 2
    np.testing.assert_allclose(
        1 / Preconditioned(d).gain(path, path.time(sigma)) ** 2, weight, rtol=1e-10
    )


def test_edm_inputs_and_goals_have_variance_one_at_every_level():
    """Karras et al. 2022, appendix B.6, on a path of theirs and on a straight one."""
    keys = jax.random.split(jax.random.key(0))
    data, noise = (
        0.5 * jax.random.normal(keys[0], (200_000,)),
        jax.random.normal(keys[1], (200_000,)),
    )
    for path, t in ((VarianceExploding(), 0.01), (Straight(), 0.3), (CosinePath(), 1.0)):
        x = path.at(data, noise, t)
        np.testing.assert_allclose(Preconditioned(0.5).inputs(path, x, t).std(), 1, atol=0.01)
        np.testing.assert_allclose(
            Preconditioned(0.5).goal(path, data, noise, t).std(), 1, atol=0.01
        )


def test_weights_agree_on_the_error_of_the_network():
    """Each weight is one function of time times the error of the network, whatever the target."""
    for path, t in itertools.product((Straight(), VariancePreserving.linear()), TIMES):
        ratio = float(path.noise(t) / path.signal(t))
        for target in TARGETS.values():
            gain = target.gain(path, t)
            gain = gain["w"] if isinstance(gain, dict) else gain
            for weight, expected in ((DataWeight(), 1.0), (MinSNRWeight(5.0), min(ratio**-2, 5.0))):
                found = weight(path, target, t)
                found = found["w"] if isinstance(found, dict) else found
                np.testing.assert_allclose(found / gain**2, expected, rtol=1e-9)
            assert PlainWeight()(path, target, t) == 1
    assert np.isfinite(float(MinSNRWeight()(Straight(), NoiseTarget(), 0.0)))


@pytest.mark.parametrize(
    "times, path, mean, deviation",
    [
        (UniformTimes(), Straight(), 0.5, math.sqrt(1 / 12)),
        (StepTimes(4), VariancePreserving.linear(4), 0.625, math.sqrt(5) / 8),
        (BetaTimes(2.0, 1.0), Straight(), 2 / 3, math.sqrt(1 / 18)),
    ],
    ids=["uniform", "steps", "beta"],
)
def test_times_have_their_mean_and_deviation(times, path, mean, deviation):
    keys = jax.random.split(jax.random.key(0), 20_000)
    t = jax.vmap(lambda key: times(path, key=key))(keys)
    np.testing.assert_allclose([t.mean(), t.std()], [mean, deviation], atol=0.01)


def test_times_that_are_normal_in_another_scale():
    keys = jax.random.split(jax.random.key(0), 20_000)
    for path in (VarianceExploding(), Straight()):
        t = jax.vmap(lambda key, path=path: LogNormalTimes(-1.2, 1.2)(path, key=key))(keys)
        sigma = jnp.log(path.ratio(t))
        np.testing.assert_allclose([sigma.mean(), sigma.std()], [-1.2, 1.2], atol=0.03)
    t = jax.vmap(lambda key: LogitNormalTimes(0.5, 2.0)(Straight(), key=key))(keys)
    logit = jnp.log(t / (1 - t))
    np.testing.assert_allclose([logit.mean(), logit.std()], [0.5, 2.0], atol=0.05)


def test_deviations_and_errors():
    x = {"w": jnp.array([[1.0], [3.0]]), "b": jnp.array([[2.0, 2.0], [2.0, 2.0]])}
    assert data_deviation(x) == {"w": 1.0, "b": 1.0}
    assert data_deviation(x, per="tree") == pytest.approx(math.sqrt(1 / 3))
    with pytest.raises(ValueError, match="'leaf' or 'tree'"):
        data_deviation(x, per="entry")
    with pytest.raises(ValueError, match="no target 'epsilon'"):
        as_target("epsilon")
    with pytest.raises(ValueError, match="numbers between 0 and 1"):
        VariancePreserving([0.5, 1.0])
    with pytest.raises(ValueError, match="expected a number, or a tree"):
        Preconditioned({"other": 1.0}).inputs(Straight(), trees()[0], 0.5)
