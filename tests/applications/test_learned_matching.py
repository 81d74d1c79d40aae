"""Laws of a learned matcher: equivariance for any spec, trained better than drawn, on pairs it never saw."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.representation.specs import SPECS, params_of, spec_of
from wsljax.applications.learned_matching import (
    LearnedMatcher,
    fit_matcher,
    midpoint_loss,
    planted_loss,
    share_found,
)

QUICK = ["scanned heads"]
CASES = [n for n in SPECS if n not in ("width one", "thrice", "four times")]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_the_answer_moves_with_both_networks(name, key):
    spec = spec_of(SPECS[name])
    matcher = LearnedMatcher(spec, 4, 1, key=key, told=3, size=8, dtype=jnp.float64)
    a, b = (params_of(spec, jax.random.key(n)) for n in range(2))
    g, h = (spec.sample(jax.random.key(n)) for n in (3, 4))
    match, soft = eqx.filter_jit(matcher), eqx.filter_jit(matcher.soft)
    p, moved = match(a, b), match(spec.act(g, a), spec.act(h, b))
    expected = spec.compose(g, spec.compose(p, spec.inverse(h)))
    for n in expected:
        np.testing.assert_array_equal(moved[n], expected[n], err_msg=n)
    # copies of one network are brought back, though nothing was learned
    one = spec.identity()
    back = match(a, spec.act(spec.inverse(g), a))
    aligned = spec.act(back, spec.act(spec.inverse(g), a))
    for n in a:
        np.testing.assert_allclose(aligned[n], a[n], atol=1e-9)
    for n, m in soft(a, b).items():
        assert m.shape == (*one[n].shape, one[n].shape[-1])
        np.testing.assert_allclose(m.sum(-2), 1, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dws", "nfn", "nft", "neural_graph", "scale_gmn", "pointwise"])
def test_any_method_reads_the_networks(method, key):
    spec = spec_of(SPECS["mlp"])
    matcher = LearnedMatcher(spec, 8, 1, key=key, method=method, dtype=jnp.float64)
    a, b = (params_of(spec, jax.random.key(n)) for n in range(2))
    g, h = (spec.sample(jax.random.key(n)) for n in (3, 4))
    moved = matcher(spec.act(g, a), spec.act(h, b))
    expected = spec.compose(g, spec.compose(matcher(a, b), spec.inverse(h)))
    for n in expected:
        np.testing.assert_array_equal(moved[n], expected[n])


WIDE = {"w": ((3, 12), "_ a"), "u": ((12, 12), "a b"), "v": ((12, 2), "b _")}


def population(spec, seed, count):
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.vmap(lambda k: params_of(spec, k, jnp.float32))(keys)


def pairs(spec, many, noise, key):
    """Networks, and moved noisy copies."""
    count = jax.tree.leaves(many)[0].shape[0]
    g = jax.vmap(spec.sample)(jax.random.split(key, count))
    drawn = population(spec, 77, count)
    noisy = jax.tree.map(lambda x, y: x + noise * y, many, drawn)
    return jax.vmap(lambda g, x: spec.act(spec.inverse(g), x))(g, noisy), g


def test_training_helps_on_pairs_never_seen(key):
    spec = spec_of(WIDE)
    many, new = population(spec, 0, 64), population(spec, 1, 32)
    moved, truth = pairs(spec, new, 0.6, key)
    drawn = LearnedMatcher(spec, 8, 1, key=key, told=4, size=16)
    result = fit_matcher(
        drawn, many, steps=150, batch_size=16, optimiser=optax.adam(3e-3), key=key, noise=0.9
    )
    found = [
        float(share_found(eqx.filter_jit(jax.vmap(m))(new, moved), truth))
        for m in (drawn, result.model)
    ]
    chance = 1 / 12
    assert found[1] > 3 * chance
    assert found[1] > found[0] + 0.1
    assert result.history[-1]["planted"] < result.history[0]["planted"]


@pytest.mark.slow
def test_the_losses(key):
    """Both fall towards the true matching, and the gradient of the middle reaches all parameters."""
    spec = spec_of(WIDE)
    matcher = LearnedMatcher(spec, 4, 1, key=key, told=3, size=8, sharpness=200.0)
    a = params_of(spec, key, jnp.float32)
    g, other = spec.sample(jax.random.key(1)), spec.sample(jax.random.key(2))
    b = spec.act(spec.inverse(g), a)
    assert float(planted_loss(matcher, a, b, g)) < 1e-2
    assert float(planted_loss(matcher, a, b, other)) > 1

    def loss(p):
        return sum(jnp.sum(jnp.square(p[n] - a[n])) for n in a)

    assert float(midpoint_loss(matcher, a, b, loss)) < 1e-3 * float(
        loss(jax.tree.map(jnp.zeros_like, a))
    )
    soft = LearnedMatcher(spec, 4, 1, key=key, told=3, size=8)
    grads = eqx.filter_grad(
        lambda m: midpoint_loss(m, a, params_of(spec, key, jnp.float32), loss, 1.0)
    )(soft)
    sizes = [float(jnp.abs(x).max()) for x in jax.tree.leaves(grads.heads)]
    assert np.isfinite(sizes).all() and max(sizes) > 0
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(grads.trunk)) > 0


def test_bad_input_is_named(key):
    spec = spec_of(WIDE)
    with pytest.raises(ValueError, match="no units"):
        LearnedMatcher(spec_of({"w": ((2, 3), "_ _")}), 4, 1, key=key)
    with pytest.raises(ValueError, match="told"):
        LearnedMatcher(spec, 4, 1, key=key, told=0)
    matcher = LearnedMatcher(spec, 4, 1, key=key)
    told = dict(steps=1, batch_size=2, optimiser=optax.adam(1e-3), key=key)
    with pytest.raises(ValueError, match="nothing to learn"):
        fit_matcher(matcher, population(spec, 0, 4), planted=0.0, **told)
    with pytest.raises(ValueError, match="noise"):
        fit_matcher(matcher, population(spec, 0, 4), noise=-1.0, **told)
