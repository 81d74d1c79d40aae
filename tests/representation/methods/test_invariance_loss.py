"""The regulariser: zero where invariance is built in, and something that training brings down elsewhere."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

from tests.architectures.registry import quickly
from tests.representation.specs import SPECS, params_of, spec_of
from wsljax.representation import Metanetwork
from wsljax.representation.invariance_loss import distribution_invariance, logit_invariance

KEY = jax.random.key(0)
SPEC = spec_of({"w": ((2, 3), "_ h"), "b": ((3,), "h"), "v": ((3, 1), "h _")})


def test_it_is_half_the_squared_change():
    params = params_of(SPEC, KEY)
    net = lambda p: jnp.stack([p["b"][0], p["b"].sum()])  # noqa: E731
    keys = jax.random.split(jax.random.key(7), 5)
    moved = [SPEC.act(SPEC.sample(k, ("permutation",)), params)["b"][0] for k in keys]
    expected = sum(0.5 * (m - params["b"][0]) ** 2 for m in moved) / 5
    got = logit_invariance(
        net, params, SPEC, key=jax.random.key(7), samples=5, kinds=("permutation",)
    )
    assert expected > 1e-3 and jnp.allclose(got, expected, atol=1e-12)
    divergence = distribution_invariance(net, params, SPEC, key=jax.random.key(7), samples=5)
    before = jax.nn.softmax(net(params))
    terms = [
        jnp.sum(before * (jnp.log(before) - jax.nn.log_softmax(jnp.stack([m, params["b"].sum()]))))
        for m in moved
    ]
    assert jnp.allclose(divergence, sum(terms) / 5, atol=1e-12) and divergence > 1e-3
    with pytest.raises(ValueError, match="`samples` must be positive"):
        logit_invariance(net, params, SPEC, key=KEY, samples=0)


def test_it_vanishes_for_invariant_networks_and_not_for_others():
    params = params_of(SPEC, KEY)
    for method, small in (("pointwise", True), ("flat", False)):
        net = Metanetwork(SPEC, 4, 1, 2, key=KEY, method=method, dtype=jnp.float64)
        value = quickly(lambda p, net=net: logit_invariance(net, p, SPEC, key=KEY, samples=3))(
            params
        )
        assert (value < 1e-25) if small else (value > 1e-6)


def test_it_sees_every_kind_of_generator():
    """Signs and scales too, where the spec has them; none of them under kinds=("permutation",)."""
    from wsljax import symmetry

    fn = lambda p, x: jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]  # noqa: E731
    params = params_of(SPEC, KEY)
    spec = symmetry.infer(fn, params, jnp.ones(2))
    assert {gen.kind for gen in spec.generators} == {"sign"}
    pointwise = Metanetwork(spec, 4, 1, 2, key=KEY, method="pointwise", dtype=jnp.float64)
    value = quickly(
        lambda p: (
            logit_invariance(pointwise, p, spec, key=KEY, samples=4),
            logit_invariance(pointwise, p, spec, key=KEY, samples=4, kinds=("permutation",)),
        )
    )
    every, permutations = value(params)
    assert every > 1e-8 and permutations < 1e-25


def test_training_brings_it_down():
    """A flat network with the regulariser fits as well and moves far less on networks it never saw."""
    draws = jax.vmap(lambda k: params_of(SPEC, k))
    train, test = (draws(jax.random.split(jax.random.key(k), 128)) for k in (1, 2))
    target = lambda p: jnp.sum(jnp.tanh(p["b"][:, :, None] * p["v"]), (1, 2))  # noqa: E731
    net = Metanetwork(SPEC, 4, 1, 1, key=KEY, method="flat", dtype=jnp.float64)
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)
    optimiser = optax.adam(3e-3)

    def invariance(arrays, population, key):
        net = eqx.combine(arrays, rest)
        keys = jax.random.split(key, 128)
        one = lambda p, k: logit_invariance(net, p, SPEC, key=k)  # noqa: E731
        return jnp.mean(jax.vmap(one)(population, keys))

    def error(arrays, population):
        out = jax.vmap(eqx.combine(arrays, rest))(population)[:, 0]
        return jnp.mean(jnp.square(out - target(population)))

    @quickly
    def fit(weight):
        def step(carry, key):
            arrays, state = carry
            loss = lambda a: error(a, train) + weight * invariance(a, train, key)  # noqa: E731
            updates, state = optimiser.update(jax.grad(loss)(arrays), state)
            return (optax.apply_updates(arrays, updates), state), None

        keys = jax.random.split(jax.random.key(3), 150)
        fitted = jax.lax.scan(step, (arrays, optimiser.init(arrays)), keys)[0][0]
        return error(fitted, train), invariance(fitted, test, jax.random.key(4))

    plain, regularised = fit(0.0), fit(5.0)
    scale = jnp.var(target(train))
    assert plain[0] < 0.2 * scale and regularised[0] < 0.5 * scale
    assert regularised[1] < 0.3 * plain[1]


def test_other_specs():
    spec = spec_of(SPECS["heads"])
    net = Metanetwork(spec, 4, 1, 2, key=KEY, method="flat", dtype=jnp.float64)
    call = quickly(lambda p: logit_invariance(net, p, spec, key=KEY, samples=2))
    assert call(params_of(spec, KEY)) > 1e-6
