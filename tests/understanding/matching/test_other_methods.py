"""Matching by activations, through gradients, and through relaxed permutations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.representation.specs import SPECS, params_of, spec_of
from wsljax import symmetry
from wsljax.understanding.matching import (
    act_relaxed,
    activation_matching,
    frank_wolfe_matching,
    sinkhorn,
    sinkhorn_matching,
    straight_through_matching,
    weight_matching,
)
from wsljax.understanding.matching.relaxed import matrices


def mlp(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p["a"] + p["c"]) @ p["b"]) @ p["d"]


def mlp_weights(key):
    shapes = {"a": (6, 12), "c": (12,), "b": (12, 10), "d": (10, 3)}
    keys = jax.random.split(key, len(shapes))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items())}


def attention(p, x):
    q, k, v = (jnp.einsum("td,dhe->the", x, p[n]) for n in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("the,she->hts", q, k))
    return jnp.einsum("hts,she,hed->td", weights, v, p["o"]) @ p["w"]


def attention_weights(key):
    shapes = {n: (5, 3, 4) for n in "qkv"} | {"o": (3, 4, 5), "w": (5, 2)}
    keys = jax.random.split(key, len(shapes))
    return {n: 0.5 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items())}


def ready(fn, params, x, seed=1):
    spec = symmetry.infer(fn, params, x, kinds=("permutation",))
    g = spec.sample(jax.random.key(seed))
    return spec, g, spec.act(spec.inverse(g), params)


@pytest.mark.parametrize("measure", ["correlation", "product"])
def test_units_that_respond_alike(measure, key):
    p = mlp_weights(key)
    x = jax.random.normal(jax.random.key(5), (3, 40, 6))
    spec, g, b = ready(mlp, p, x[0])
    noisy = {n: v + 0.1 * jax.random.normal(jax.random.key(7), v.shape) for n, v in b.items()}
    found = activation_matching(mlp, p, noisy, spec, [(z,) for z in x], measure=measure)
    for n in g:
        np.testing.assert_array_equal(found[n], g[n])
    # batches are only ever added up
    whole = activation_matching(mlp, p, noisy, spec, [(x.reshape(120, 6),)], measure=measure)
    for n in g:
        np.testing.assert_array_equal(found[n], whole[n])


def test_heads_and_what_is_inside_respond_alike(key):
    p = attention_weights(key)
    x = jax.random.normal(jax.random.key(5), (8, 7, 5))
    fn = jax.vmap(attention, (None, 0))
    spec, g, b = ready(fn, p, x)
    assert any(u.over for u in spec.units)
    found = activation_matching(fn, p, b, spec, [(x,)])
    for n in g:
        np.testing.assert_array_equal(found[n], g[n], err_msg=n)
    with pytest.raises(ValueError, match="batches"):
        activation_matching(fn, p, b, spec, [])
    with pytest.raises(ValueError, match="measure"):
        activation_matching(fn, p, b, spec, [(x,)], measure="cosine")


def test_straight_through_improves_the_middle(key):
    """Between unrelated networks the loss half-way falls below that of weight matching."""
    x = jax.random.normal(jax.random.key(5), (64, 6))
    target = mlp(mlp_weights(jax.random.key(9)), x)
    loss = lambda p, x: jnp.mean((mlp(p, x) - target) ** 2)  # noqa: E731
    a, b = mlp_weights(key), mlp_weights(jax.random.key(11))
    spec = symmetry.infer(mlp, a, x, kinds=("permutation",))
    found = straight_through_matching(
        loss, a, b, spec, [(x,)] * 40, key=key, optimiser=optax.adam(0.05)
    )
    middle = jax.tree.map(lambda u, v: 0.5 * (u + v), a, spec.act(found.element, b))
    assert float(loss(middle, x)) == pytest.approx(float(found.loss), rel=1e-3)
    matched = weight_matching(a, b, spec, key=jax.random.fold_in(key, 0), sweeps=5).element
    start = jax.tree.map(lambda u, v: 0.5 * (u + v), a, spec.act(matched, b))
    assert float(found.losses[0]) == pytest.approx(float(loss(start, x)), rel=1e-3)
    assert float(found.loss) < 0.97 * float(found.losses[0])
    with pytest.raises(ValueError, match="batches"):
        straight_through_matching(loss, a, b, spec, [], key=key)


def unrolled(x, steps=300):
    def rescale(x, _):
        x = x - jax.scipy.special.logsumexp(x, -1, keepdims=True)
        return x - jax.scipy.special.logsumexp(x, -2, keepdims=True), None

    return jnp.exp(jax.lax.scan(rescale, x, length=steps)[0])


def test_sinkhorn_and_its_gradient(key):
    x = jax.random.normal(key, (2, 5, 5))
    weights = jax.random.normal(jax.random.key(1), (2, 5, 5))
    p = sinkhorn(x, 300)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(p.sum(-2), 1, atol=1e-5)
    implicit = jax.grad(lambda x: jnp.sum(weights * sinkhorn(x, 300) ** 2))(x)
    explicit = jax.grad(lambda x: jnp.sum(weights * unrolled(x) ** 2))(x)
    np.testing.assert_allclose(implicit, explicit, atol=2e-5)
    # a constant in a row or a column changes nothing
    np.testing.assert_allclose(implicit.sum(-1), 0, atol=1e-5)
    np.testing.assert_allclose(implicit.sum(-2), 0, atol=1e-5)


@pytest.mark.parametrize("sharpness", [10_000.0, 100.0, 20.0])
def test_gradient_of_a_sinkhorn_matrix_that_is_almost_a_permutation(sharpness, key):
    n = 40
    order = jax.random.permutation(key, n)
    x = sharpness * jnp.eye(n)[order] + 0.1 * jax.random.normal(jax.random.key(1), (n, n))
    # one pair of rows stays undecided: a block of its own
    some = jax.random.normal(jax.random.key(2), (2, 2))
    x = x.at[:2, order[:2]].set(sharpness + 0.3 * some)
    weights = jax.random.normal(jax.random.key(3), (n, n))
    value = lambda of: lambda x: jnp.sum(weights * of(x) ** 2)  # noqa: E731
    implicit = jax.grad(value(lambda x: sinkhorn(x, 300)))(x)
    explicit = jax.grad(value(unrolled))(x)
    assert float(jnp.max(jnp.abs(explicit[:2, order[:2]]))) > 0.01
    np.testing.assert_allclose(implicit, explicit, atol=1e-4)
    settled = jax.grad(value(lambda x: sinkhorn(x, 50)))(sharpness * x)
    assert bool(jnp.all(jnp.isfinite(settled)))


@pytest.mark.parametrize("name", ["mlp", "rnn", "packed heads", "nested in nested"])
def test_relaxed_elements_extend_the_action(name, key):
    spec = spec_of(SPECS[name])
    p = params_of(spec, jax.random.key(0), jnp.float32)
    g = spec.sample(key)
    mixed, moved = act_relaxed(spec, matrices(g), p), spec.act(g, p)
    for n in p:
        np.testing.assert_allclose(mixed[n], moved[n], atol=1e-6)


def test_sinkhorn_matching(key):
    p = mlp_weights(key)
    x = jax.random.normal(jax.random.key(5), (32, 6))
    spec, g, b = ready(mlp, p, x)
    b = {n: v + 0.1 * jax.random.normal(jax.random.key(7), v.shape) for n, v in b.items()}
    by_distance = sinkhorn_matching(p, b, spec, [()] * 120, key=key)
    loss = lambda q, x: jnp.mean((mlp(q, x) - mlp(p, x)) ** 2)  # noqa: E731
    by_loss = sinkhorn_matching(p, b, spec, [(x,)] * 200, key=key, loss=loss)
    for found in (by_distance, by_loss):
        assert float(found.losses[-1]) < 0.2 * float(found.losses[0])
    for n in g:
        np.testing.assert_array_equal(by_distance.element[n], g[n])
    before = loss(jax.tree.map(lambda u, v: 0.5 * (u + v), p, b), x)
    middle = jax.tree.map(lambda u, v: 0.5 * (u + v), p, spec.act(by_loss.element, b))
    assert float(loss(middle, x)) < 0.1 * float(before)
    with pytest.raises(ValueError, match="temperature"):
        sinkhorn_matching(p, b, spec, [()], key=key, temperature=0)


@pytest.mark.parametrize("name", ["mlp", "heads"])
def test_frank_wolfe(name, key):
    spec = spec_of(SPECS[name])
    a = params_of(spec, jax.random.key(0), jnp.float32)
    b = spec.act(spec.sample(key), a)
    m = frank_wolfe_matching(a, b, spec, key=key)
    aligned = spec.act(m.element, b)
    for n in a:
        np.testing.assert_allclose(aligned[n], a[n], atol=1e-5)
    other = params_of(spec, jax.random.key(3), jnp.float32)
    unrelated = frank_wolfe_matching(a, other, spec, key=key)
    assert float(unrelated.objective) > float(unrelated.before)
