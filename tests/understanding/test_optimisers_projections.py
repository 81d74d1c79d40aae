"""Projections of updates: off lengths that do not matter, and off the orbits of the whole group."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.understanding import optimisers as opt

NETS = {
    "relu": functools.partial(nets.mlp, jax.nn.relu),
    "rotary attention": functools.partial(nets.attention, True, True),
    "transformer": nets.transformer,
    "batch norm in training": functools.partial(nets.batch_norm, True),
    "batch norm in inference": functools.partial(nets.batch_norm, False),
    "layer norm": nets.layer_norm,
    "radial": nets.radial,
}


@functools.cache
def ready(name):
    fn, p, x = NETS[name]()
    return fn, p, x, symmetry.infer(fn, p, x, kinds=None)


def random_like(p, key):
    leaves, treedef = jax.tree.flatten(p)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten([jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def far(a, b):
    return float(np.max(np.abs(flat(a) - flat(b))) / np.max(np.abs(flat(b))))


def tangents(spec, p):
    """Dense: one column for each coordinate of the algebra."""
    zero, unravel = jax.flatten_util.ravel_pytree(spec.algebra())
    move = lambda v: jax.flatten_util.ravel_pytree(spec.act(spec.exp(unravel(v)), p))[0]  # noqa: E731
    return np.asarray(jax.jacfwd(move)(zero))


QUICK = ["relu", "layer norm"]
LONG = [pytest.param(n, marks=pytest.mark.slow) for n in NETS if n not in QUICK]


@pytest.mark.parametrize("name", QUICK + LONG)
def test_projection_is_that_of_dense_least_squares(name, key):
    _, p, _, spec = ready(name)
    u = random_like(p, key)
    project = jax.jit(lambda u, p: opt.project_off_orbit(u, p, spec, steps=400))
    got = project(u, p)
    x = tangents(spec, p)
    expected = flat(u) - x @ np.linalg.lstsq(x, flat(u), rcond=1e-10)[0]
    assert np.max(np.abs(flat(got.horizontal) - expected)) < 1e-7
    assert np.max(np.abs(flat(u) - expected)) > 1e-2
    again = project(got.horizontal, p).horizontal
    assert far(again, got.horizontal) < 1e-7
    if name != "transformer":
        return
    m = jax.tree.map(lambda v: 1 + v**2, random_like(p, jax.random.key(3)))
    got = opt.project_off_orbit(u, p, spec, metric=m, steps=400).horizontal
    root = np.sqrt(flat(m))
    expected = flat(u) - x @ np.linalg.lstsq(root[:, None] * x, root * flat(u), rcond=1e-10)[0]
    assert np.max(np.abs(flat(got) - expected)) < 1e-6


@pytest.mark.parametrize("name", ["relu", pytest.param("transformer", marks=pytest.mark.slow)])
def test_gradients_are_horizontal_and_orbit_directions_vanish(name, key):
    fn, p, x, spec = ready(name)
    g = jax.grad(lambda w: jnp.mean(jnp.cos(fn(w, x))))(p)
    transform = opt.project_quotient(spec, steps=400)
    kept, _ = transform.update(g, transform.init(p), p)
    assert far(kept, g) < 1e-7
    v = {n: jax.random.normal(key, z.shape) for n, z in spec.algebra().items()}
    along = jax.jvp(lambda v: spec.act(spec.exp(v), p), (spec.algebra(),), (v,))[1]
    left = opt.project_off_orbit(along, p, spec, steps=400).horizontal
    assert np.max(np.abs(flat(left))) < 1e-7 * np.max(np.abs(flat(along)))
    adam = optax.adam(1e-2)
    u, _ = adam.update(g, adam.init(p), p)
    kept, _ = transform.update(u, transform.init(p), p)
    assert far(kept, u) > 1e-3  # control: adaptive steps do move along the orbit


def test_only_some_kinds(key):
    _, p, _, spec = ready("transformer")
    u = random_like(p, key)
    some = opt.project_off_orbit(u, p, spec, kinds=("uniform",))
    assert set(some.direction) == {"uniform:all"}
    inside = sum(float(jnp.sum(some.horizontal[n] * p[n])) for n in ("emb", "v", "w2"))
    assert abs(inside) < 1e-9
    with pytest.raises(ValueError, match="unknown kind"):
        opt.project_off_orbit(u, p, spec, kinds=("spin",))


def test_float32_of_an_unbalanced_network(key):
    """Columns of lengths four orders apart; in the precision of training."""
    _, p, _, spec = ready("relu")
    s = spec.exp({n: 2 * jax.random.normal(key, v.shape) for n, v in spec.algebra().items()})
    p = spec.act(s, p)
    u = random_like(p, key)
    x = tangents(spec, p)
    expected = flat(u) - x @ np.linalg.lstsq(x, flat(u), rcond=1e-12)[0]
    low = lambda t: jax.tree.map(lambda v: v.astype("float32"), t)  # noqa: E731
    got = opt.project_off_orbit(low(u), low(p), spec).horizontal
    assert {v.dtype for v in jax.tree.leaves(got)} == {jnp.dtype("float32")}
    assert np.max(np.abs(flat(got) - expected)) < 1e-3


# ------------------------------------------------------------------------------------ radial parts
RADIAL = ["batch norm in training", "layer norm", "batch norm in inference"]


@pytest.mark.parametrize("name", RADIAL)
def test_radial_removal_is_a_projection(name, key):
    _, p, _, spec = ready(name)
    found = opt.radial_generators(spec)
    assert found
    u = random_like(p, key)
    transform = opt.remove_radial(spec)
    once, _ = transform.update(u, transform.init(p), p)
    twice, _ = transform.update(once, transform.init(p), p)
    assert far(twice, once) < 1e-12 and far(once, u) > 1e-2
    # the same as the general projection onto these generators alone
    x = tangents(spec, p)
    at, columns = 0, []
    for n, v in sorted(spec.algebra().items()):
        if n in {g.name for g in found}:
            columns += range(at, at + v.size)
        at += v.size
    x = x[:, columns]
    expected = flat(u) - x @ np.linalg.lstsq(x, flat(u), rcond=None)[0]
    assert np.max(np.abs(flat(once) - expected)) < 1e-9


@pytest.mark.parametrize("name", RADIAL)
def test_lengths_are_kept_and_the_function_with_them(name, key):
    fn, p, x, spec = ready(name)
    u = jax.tree.map(lambda v: 0.1 * v, random_like(p, key))
    plain, keeping = opt.remove_radial(spec), opt.remove_radial(spec, keep_norm=True)
    a = optax.apply_updates(p, plain.update(u, plain.init(p), p)[0])
    state = keeping.init(p)
    b = optax.apply_updates(p, keeping.update(u, state, p)[0])
    assert float(jnp.max(jnp.abs(fn(a, x) - fn(b, x)))) < 1e-9
    again = keeping.init(b)
    assert far(again.length, state.length) < 1e-9
    assert far(keeping.init(a).length, state.length) > 1e-4


def test_invariant_steps_commute_with_rescaling(key):
    fn, p, x, spec = ready("batch norm in training")
    loss = lambda w: jnp.mean(jnp.cos(fn(w, x)))  # noqa: E731
    names = [g.name for g in opt.radial_generators(spec)]
    g = {n: spec.sample(key)[n] for n in names}

    def step(p, transform):
        u, _ = transform.update(jax.grad(loss)(p), transform.init(p), p)
        return optax.apply_updates(p, u)

    ours = optax.chain(opt.remove_radial(spec, invariant=True), optax.sgd(0.1))
    assert far(step(spec.act(g, p), ours), spec.act(g, step(p, ours))) < 1e-9
    plain = optax.chain(opt.remove_radial(spec), optax.sgd(0.1))
    assert far(step(spec.act(g, p), plain), spec.act(g, step(p, plain))) > 1e-4


def test_a_network_without_norms_is_left_alone(key):
    _, p, _, spec = ready("relu")
    u = random_like(p, key)
    transform = opt.remove_radial(spec)
    assert far(transform.update(u, transform.init(p), p)[0], u) == 0
    with pytest.raises(ValueError, match="needs the weights"):
        transform.update(u, transform.init(p))
