"""Diffusion: the loss and its minimum, exact samples, guidance, and a small net that is trained."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.generation.exact import MU, ExactNet, Vector, population
from tests.generation.nets import Mlp
from wsljax.generation import Batch, Diffusion, TaskGradient, fit
from wsljax.generation.processes import (
    CosinePath,
    LogNormalTimes,
    Preconditioned,
    Straight,
    UniformTimes,
    VarianceExploding,
    VariancePreserving,
    as_target,
)
from wsljax.generation.samplers import DDIM, Euler, Heun
from wsljax.generation.spaces import IdentitySpace, WeightSpace

S = 0.5
SPACE = IdentitySpace(MU)
CASES = {
    "data": ("data", VariancePreserving.linear(100, 1e-3, 0.2)),
    "noise": ("noise", VariancePreserving.linear(100, 1e-3, 0.2)),
    "v": ("v", CosinePath()),
    "velocity": ("velocity", Straight()),
    "edm": (Preconditioned({"w": S, "b": 0.7}), VarianceExploding(sigma_max=20.0)),
}


def some(cases, quick):
    """The quick ones by default, the others with `-m slow`."""
    return [
        c
        if c in quick
        else pytest.param(*([c] if isinstance(c, str) else c), marks=pytest.mark.slow)
        for c in cases
    ]


def loss_of(model, batch):
    return eqx.filter_jit(lambda m, b: m.loss(b, key=jax.random.key(0)))(model, batch)


def exact(case, **options):
    target, path = CASES[case]
    target = as_target(target)
    return Diffusion(ExactNet(path, target, s=S), SPACE, path=path, target=target, **options)


@pytest.mark.parametrize("case", some(CASES, ("data", "edm")))
def test_the_loss_is_smallest_at_the_exact_denoiser(case):
    model = exact(case, times=UniformTimes(0.05, 0.95))
    batch = Batch(population(4000))

    def loss(off):
        net = eqx.tree_at(lambda n: (n.shift, n.scale), model.net, (off[0], 1 + off[1]))
        return eqx.tree_at(lambda m: m.net, model, net).loss(batch, key=jax.random.key(2))

    offs = 0.3 * jnp.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    values, slopes = jax.jit(lambda offs: jax.lax.map(jax.value_and_grad(loss), offs))(offs)
    for i in range(2):
        curve = (values[1 + 2 * i] + values[2 + 2 * i] - 2 * values[0]) / 0.3**2
        # a parabola: its minimum is at -slope / curvature
        assert curve > 0 and abs(float(slopes[0, i] / curve)) < 0.02


def test_the_least_loss_is_the_variance_that_is_left():
    """Of the network, given x_t: s² noise² / (noise² + signal² s²)."""
    model = exact("data", times=UniformTimes(0.3, 0.3))
    path = model.path
    signal, noise = float(path.signal(0.3)), float(path.noise(0.3))
    found = loss_of(model, Batch(population(4000)))
    expected = S**2 * noise**2 / (noise**2 + signal**2 * S**2)
    np.testing.assert_allclose(found, expected, rtol=0.03)


@pytest.mark.parametrize("case", some(CASES, ("noise", "edm")))
def test_samples_of_the_exact_denoiser(case):
    model = exact(case)
    sampler = Heun(20) if case == "edm" else DDIM(50)
    drawn = model.sample(jax.random.key(0), 2000, sampler=sampler)
    for name, m in MU.items():
        np.testing.assert_allclose(drawn[name].mean(0), m, atol=0.06)
        np.testing.assert_allclose(drawn[name].std(0), S, rtol=0.1)


def test_the_estimate_is_that_of_the_closed_form():
    model, x = exact("edm"), population(1, s=2.0)
    x = jax.tree.map(lambda a: a[0], x)
    t = model.path.time(0.8)
    found = eqx.filter_jit(lambda m, x, t: m.denoise(x, t))(model, x, t).data
    for name, m in MU.items():
        np.testing.assert_allclose(found[name], m + S**2 / (S**2 + 0.64) * (x[name] - m), rtol=1e-6)


def test_guidance_by_the_condition():
    """The condition moves the mean, so what is said is moved by guidance times it, too."""
    model = exact("v", conditioner=Vector())
    sample = lambda **options: model.sample(  # noqa: E731
        jax.random.key(0), 3, sampler=DDIM(20), **options
    )
    told = {"condition": jnp.array([0.0, 1.0, -2.0])}
    null, shown = sample(), sample(**told)
    for guidance in (1.0, 0.0, 2.5, lambda t: 2.5):
        found = sample(guidance=guidance, **told)
        scale = 2.5 if callable(guidance) else guidance
        for name in MU:
            expected = null[name] + scale * (shown[name] - null[name])
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shown["b"][1] - null["b"][1], 1.0, atol=0.01)


def test_conditions_that_a_generator_does_not_know():
    with pytest.raises(ValueError, match="knows no condition"):
        exact("v").sample(jax.random.key(0), 2, condition=jnp.zeros(2))
    with pytest.raises(ValueError, match="`guidance` needs a condition"):
        exact("v").sample(jax.random.key(0), 2, guidance=2.0)


@pytest.mark.parametrize(
    "case, through",
    some(
        itertools.product(("v", "velocity", "edm"), (False, True)),
        (("velocity", False), ("edm", True)),
    ),
)
def test_the_gradient_of_a_linear_loss_tilts_the_distribution(case, through):
    """N(mu, s²) times exp(-scale <g, x>) is N(mu - scale s² g, s²)."""
    slope = {"w": jnp.ones((2, 3)), "b": jnp.array([2.0, 0.0, -1.0])}

    def loss(params, slope):
        return sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(slope)))

    task = TaskGradient(loss, (slope,), scale=0.8, deviation=S, through=through)
    sampler = Heun(20) if case == "edm" else DDIM(50)
    model = exact(case)
    plain = model.sample(jax.random.key(0), 4, sampler=sampler)
    found = model.sample(jax.random.key(0), 4, sampler=sampler, task=task)
    for name in MU:
        moved = jnp.broadcast_to(-0.8 * S**2 * slope[name], found[name].shape)
        np.testing.assert_allclose(found[name] - plain[name], moved, atol=0.015)


def test_the_denoiser_computes_in_bfloat16_and_nothing_else_does():
    net = Mlp(jax.tree.map(lambda m: m.astype(jnp.float32), MU), 16, key=jax.random.key(0))
    seen = []

    def spy(x, level, told, beside):
        seen.append((x["w"].dtype, net.layers[0].weight.dtype, level.dtype))
        return net(x, level, told, beside)

    model = Diffusion(spy, IdentitySpace(net.like), compute_dtype=jnp.bfloat16)
    batch = Batch(jax.tree.map(lambda m: jnp.zeros((4, *m.shape), jnp.float32), MU))
    assert loss_of(model, batch).dtype == jnp.float32
    assert {dtype for dtype, _, _ in seen} == {jnp.dtype(jnp.bfloat16)}
    assert {dtype for _, _, dtype in seen} == {jnp.dtype(jnp.float32)}
    model = Diffusion(net, IdentitySpace(net.like), compute_dtype=jnp.bfloat16)
    assert model.sample(jax.random.key(0), 2, sampler=Euler(2))["w"].dtype == jnp.float32


def test_a_trained_net_recovers_mean_and_variance():
    like = jax.tree.map(lambda m: m.astype(jnp.float32), MU)
    data = population(2000, like)
    space = WeightSpace.fit(data)
    times = LogNormalTimes(0.0, 1.6)
    model = Diffusion(Mlp(like, 64, key=jax.random.key(0)), space, times=times)
    options = dict(batch_size=128, key=jax.random.key(1), average=0.99, every=500)
    model, history, _ = fit(model, data, steps=1500, optimiser=optax.adam(2e-3), **options)
    drawn = model.sample(jax.random.key(3), 2000, sampler=Heun(18))
    assert history[-1]["loss"] < history[0]["loss"]
    for name in MU:
        np.testing.assert_allclose(drawn[name].mean(0), data[name].mean(0), atol=0.1)
        np.testing.assert_allclose(drawn[name].std(0), data[name].std(0), rtol=0.12)
