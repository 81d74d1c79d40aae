"""Samplers: their order, their distribution, and reference values of DDPM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.generation.exact import MU, exact_field, slope
from wsljax.generation.processes import (
    CosinePath,
    Straight,
    VarianceExploding,
    VariancePreserving,
)
from wsljax.generation.samplers import (
    DDIM,
    Adaptive,
    Ancestral,
    Euler,
    Heun,
    RungeKutta4,
    posterior,
)

S = 0.5


def noise(n=None):
    shapes = {"w": (2, 3), "b": (3,)}
    keys = dict(zip(shapes, jax.random.split(jax.random.key(7), 2)))
    lead = () if n is None else (n,)
    return {name: jax.random.normal(keys[name], (*lead, *shape)) for name, shape in shapes.items()}


def run(sampler, field, x, seed=0):
    return jax.jit(lambda x: sampler(field, x, key=jax.random.key(seed)))(x)


def test_the_field_of_a_straight_path_is_the_published_one():
    """v(x, t) = mu + (x - t mu) (t s² - (1 - t)) / ((1 - t)² + t² s²), time counted from noise."""
    x = noise()
    for t in (0.1, 0.6, 0.95):
        found = exact_field(Straight(), MU, S).velocity(x, jnp.asarray(1 - t))
        size = (1 - t) ** 2 + t**2 * S**2
        for name, v in found.items():
            expected = MU[name] + (x[name] - t * MU[name]) * (t * S**2 - (1 - t)) / size
            np.testing.assert_allclose(-v, expected, rtol=1e-10)


@pytest.mark.parametrize(
    "sampler, order",
    [
        (Euler, 1),
        (lambda n: Heun(n, euler_last=False), 2),
        (lambda n: Heun(n), 2),
        (RungeKutta4, 4),
    ],
    ids=["euler", "heun", "heun-euler-last", "rk4"],
)
@pytest.mark.parametrize("path", [Straight(), CosinePath()], ids=["straight", "cosine"])
def test_samplers_have_their_order(sampler, order, path):
    """The exact flow takes x to mu + s x, where the path ends at pure noise."""
    x, steps = noise(), (32, 128)
    field = exact_field(path, MU, S)
    errors = []
    for n in steps:
        found = run(sampler(n), field, x)
        off = jax.tree.map(lambda a, m, e: jnp.abs(a - (m + S * e)).max(), found, MU, x)
        errors.append(float(max(jax.tree.leaves(off))))
    assert slope(steps, errors) == pytest.approx(order, abs=0.2)


def test_ddim_is_euler_in_noise_over_signal():
    """On the path of EDM both are the same numbers (Karras et al. 2022, appendix C)."""
    path, x = VarianceExploding(), jax.tree.map(lambda a: 80 * a, noise())
    field = exact_field(path, MU, S)
    one = run(DDIM(12), field, x)
    other = run(Euler(12), field, x)
    for name in x:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)


def test_ddim_with_eta_one_is_ancestral():
    for path in (VariancePreserving.linear(50), Straight()):
        field = exact_field(path, MU, S)
        one = run(DDIM(10, eta=1.0), field, noise(), 3)
        other = run(Ancestral(10), field, noise(), 3)
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-8)


@pytest.mark.parametrize("step", [2, 10, 500, 1000])
def test_posterior_is_that_of_ddpm(step):
    """Ho, Jain, Abbeel 2020, equations 6 and 7, from the betas alone."""
    betas = np.linspace(1e-4, 0.02, 1000)
    products = np.cumprod(1 - betas)
    beta, now, before = betas[step - 1], products[step - 1], products[step - 2]
    found = posterior(VariancePreserving.linear(), step / 1000, (step - 1) / 1000)
    np.testing.assert_allclose(found.of_data, np.sqrt(before) * beta / (1 - now), rtol=1e-6)
    np.testing.assert_allclose(found.of_x, np.sqrt(1 - beta) * (1 - before) / (1 - now), rtol=1e-6)
    np.testing.assert_allclose(found.variance, (1 - before) / (1 - now) * beta, rtol=1e-6)
    np.testing.assert_allclose(found.forward_variance, beta, rtol=1e-6)


def test_posterior_by_numbers():
    """The second step of DDPM: betas 1e-4 and 1.1992e-4."""
    found = posterior(VariancePreserving.linear(), 0.002, 0.001)
    np.testing.assert_allclose(float(found.variance), 5.4531e-05, rtol=1e-4)


def moments(found):
    flat = jnp.concatenate([a.reshape(len(a), -1) for a in jax.tree.leaves(found)], 1)
    return flat.mean(0), jnp.cov(flat.T)


SAMPLERS = {
    "ddpm": (Ancestral(100), VariancePreserving.linear(100, 1e-3, 0.2)),
    "ddim": (DDIM(100), VariancePreserving.linear(100, 1e-3, 0.2)),
    "ddim-half": (DDIM(100, eta=0.5), VariancePreserving.linear(100, 1e-3, 0.2)),
    "edm": (Heun(24), VarianceExploding(sigma_max=40.0)),
    "edm-churn": (
        Heun(48, churn=20.0, churn_from=0.05, churn_to=10.0),
        VarianceExploding(sigma_max=40.0),
    ),
    "straight-churn": (Heun(48, churn=20.0), Straight()),
    "flow": (RungeKutta4(12), Straight()),
    "flow-sde": (Ancestral(100), Straight()),
}


QUICK = ("ddpm", "ddim-half", "edm-churn", "flow")


@pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in SAMPLERS]
)
def test_samples_have_the_mean_and_the_covariance(case):
    """N(mu, s²): a published flow loses the variance here."""
    sampler, path = SAMPLERS[case]
    n = 4000
    x = jax.tree.map(lambda a: path.noise(1.0) * a, noise(n))
    keys = jax.random.split(jax.random.key(1), n)
    field = exact_field(path, MU, S)
    mean, covariance = moments(jax.jit(jax.vmap(lambda x, k: sampler(field, x, key=k)))(x, keys))
    expected = jnp.concatenate([m.reshape(-1) for m in jax.tree.leaves(MU)])
    np.testing.assert_allclose(mean, expected, atol=4.5 * S / n**0.5 + 0.015)
    # Monte-Carlo error of a variance: s² sqrt(2 / n), and of a covariance s² / sqrt(n); 5% for discretisation
    off = covariance - S**2 * jnp.eye(9)
    assert float(jnp.abs(jnp.diag(off)).max()) < S**2 * (4.5 * (2 / n) ** 0.5 + 0.05)
    assert float(jnp.abs(off - jnp.diag(jnp.diag(off))).max()) < S**2 * 5 / n**0.5


def test_the_large_variance_of_ddpm_is_exact_for_data_of_variance_one():
    path, n = VariancePreserving.linear(10, 0.05, 0.6), 4000
    keys = jax.random.split(jax.random.key(1), n)
    field = exact_field(path, MU, 1.0)
    variances = {}
    for large in (True, False):
        sampler = Ancestral(9, large=large, times=lambda path, steps: jnp.arange(10, 0, -1) / 10)
        x = jax.tree.map(lambda m, e: path.signal(1.0) * m + e, MU, noise(n))
        drawn = jax.jit(jax.vmap(lambda x, k, s=sampler: s(field, x, key=k)))(x, keys)
        variances[large] = float(jnp.diag(moments(drawn)[1]).mean())
    assert variances[True] == pytest.approx(1.0, abs=0.03) and variances[False] < 0.9


def test_adaptive_steps():
    pytest.importorskip("diffrax")
    x = noise()
    found = run(Adaptive(rtol=1e-8, atol=1e-8), exact_field(Straight(), MU, S), x)
    for name in x:
        np.testing.assert_allclose(found[name], MU[name] + S * x[name], atol=1e-6)


def test_a_sampler_takes_a_step():
    with pytest.raises(ValueError, match="`steps` is 0"):
        Euler(0)
