"""Laws of learned optimisers: equivariance, for any spec and method; what a fresh one is; where it runs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.representation.specs import SPECS
from wsljax import symmetry
from wsljax.applications import OptimiserNetwork, learned_optimiser
from wsljax.applications.learned_optimisers import fixed_as_units


def mlp(p, x):
    return jnp.tanh(x @ p["w"] + p["b"]) @ p["v"] + p["c"]


def weights(key, width=5, dtype=jnp.float64):
    k = jax.random.split(key, 4)
    shapes = {"w": (3, width), "b": (width,), "v": (width, 2), "c": (2,)}
    return {
        name: jax.random.normal(key, shape, dtype) / 2
        for key, (name, shape) in zip(k, shapes.items())
    }


def spec_of(width=5):
    return symmetry.infer(
        mlp, weights(jax.random.key(0), width), jnp.zeros((2, 3)), kinds=("permutation",)
    )


def loss(p, x):
    return jnp.mean((mlp(p, x) - jnp.sin(x[:, :2])) ** 2)


def awake(net, key, size=0.5):
    """With a head that is not zero, so that the network has a say."""
    return eqx.tree_at(
        lambda n: n.head, net, size * jax.random.normal(key, net.head.shape, net.head.dtype)
    )


def train(optimiser, params, gradient, steps):
    def step(carry, i):
        p, state = carry
        updates, state = optimiser.update(gradient(p, i), state, p)
        return (optax.apply_updates(p, updates), state), None

    return jax.lax.scan(step, (params, optimiser.init(params)), jnp.arange(steps))[0]


def apart(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.abs(x - y).max()) for x, y in pairs)


def trained_both_ways(spec, params, gradient, net, key, steps=4):
    """A network that is acted on and trained, and one that is trained and acted on."""
    g = spec.sample(key, kinds=("permutation",))
    optimiser = learned_optimiser(net)
    run = jax.jit(lambda p: train(optimiser, p, gradient, steps)[0])
    return run(spec.act(g, params)), spec.act(g, run(params))


def some(cases, quick):
    """Those that run always; the others on request."""
    slow = pytest.mark.slow
    values = [c if isinstance(c, tuple) else (c,) for c in cases]
    marks = [() if c in quick else slow for c in cases]
    return [pytest.param(*v, marks=m) for v, m in zip(values, marks)]


@pytest.mark.parametrize(
    "method",
    some([None, "pointwise", "universal", "nfn", "neural_graph"], ("universal", "neural_graph")),
)
def test_training_a_moved_network_is_moving_the_trained_one(method, key):
    spec, params = spec_of(), weights(key)
    x = jax.random.normal(jax.random.key(1), (4, 16, 3))
    net = OptimiserNetwork(
        spec, 4, 1, method=method, told=2, width=8, rate=0.05, dtype=jnp.float64, key=key
    )
    gradient = lambda p, i: jax.grad(loss)(p, x[i])  # noqa: E731
    moved, after = trained_both_ways(spec, params, gradient, awake(net, key), jax.random.key(3))
    assert apart(moved, after) < 1e-10
    assert apart(after, params) > 1e-2  # it went somewhere
    plain = train(optax.adam(0.05), params, gradient, 4)[0]
    g = spec.sample(jax.random.key(3), kinds=("permutation",))
    assert apart(spec.act(g, plain), after) > 1e-3  # and not where the nominal step alone goes


def test_a_network_that_is_not_equivariant_is_told_apart(key):
    spec, params = spec_of(), weights(key)
    x = jax.random.normal(jax.random.key(1), (4, 16, 3))
    net = OptimiserNetwork(
        spec, 4, 1, method="flat", told=2, width=8, rate=0.05, dtype=jnp.float64, key=key
    )
    gradient = lambda p, i: jax.grad(loss)(p, x[i])  # noqa: E731
    moved, after = trained_both_ways(spec, params, gradient, awake(net, key), jax.random.key(3))
    assert apart(moved, after) > 1e-4


@pytest.mark.parametrize(
    "name, shared",
    some(
        [(name, shared) for name in SPECS for shared in (True, False)],
        (("packed heads", True), ("scanned", False)),
    ),
)
def test_any_spec(name, shared, key):
    annotations = SPECS[name]
    params = {n: jax.random.normal(jax.random.fold_in(key, i), shape)
              for i, (n, (shape, _)) in enumerate(annotations.items())}  # fmt: skip
    spec = symmetry.parse(params, {n: text for n, (_, text) in annotations.items()})
    net = OptimiserNetwork(
        spec, 2, 1, told=1, width=4, share_fixed=shared, dtype=jnp.float64, key=key
    )
    optimiser, net = None, awake(net, key)
    optimiser = learned_optimiser(net)
    g = spec.sample(jax.random.key(3), kinds=("permutation",))
    gradients = jax.tree.map(jnp.cos, params)  # of elements, so it moves along

    @jax.jit
    def once(p, d):
        return optimiser.update(d, optimiser.init(p), p)[0]

    moved = once(spec.act(g, params), spec.act(g, gradients))
    assert apart(moved, spec.act(g, once(params, gradients))) < 1e-10


@pytest.mark.parametrize("nominal", ["adam", "momentum"])
def test_a_fresh_one_is_its_nominal_optimiser(nominal, key):
    params = weights(key)
    x = jax.random.normal(jax.random.key(1), (6, 16, 3))
    gradient = lambda p, i: jax.grad(loss)(p, x[i])  # noqa: E731
    net = OptimiserNetwork(spec_of(), 4, 1, nominal=nominal, rate=0.05, dtype=jnp.float64, key=key)
    known = {
        "adam": optax.chain(optax.scale_by_adam(eps=0.0, eps_root=1e-16), optax.scale(-0.05)),
        "momentum": optax.chain(optax.ema(0.9), optax.scale(-0.05)),
    }[nominal]
    ours, theirs = (train(o, params, gradient, 6)[0] for o in (learned_optimiser(net), known))
    assert apart(ours, theirs) < 1e-12


@pytest.mark.slow
def test_other_widths_and_chains_and_populations(key):
    net = OptimiserNetwork(spec_of(), 4, 1, told=2, width=8, rate=0.05, key=key)
    net, spec = awake(net, key), spec_of(9)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), learned_optimiser(net, spec=spec))
    x = jax.random.normal(jax.random.key(1), (16, 3), jnp.float32)
    gradient = lambda p, i: jax.grad(loss)(p, x)  # noqa: E731
    several = jax.vmap(lambda k: weights(k, 9, jnp.float32))(jax.random.split(key, 3))
    together, state = jax.jit(jax.vmap(lambda p: train(optimiser, p, gradient, 3)))(several)
    one = jax.tree.map(lambda a: a[1], several)
    alone = jax.jit(lambda p: train(optimiser, p, gradient, 3)[0])(one)
    assert apart(jax.tree.map(lambda a: a[1], together), alone) < 1e-5
    assert all(isinstance(a, jax.Array) for a in jax.tree.leaves(state))
    assert {a.dtype for a in jax.tree.leaves(together)} == {jnp.dtype("float32")}
    with pytest.raises(ValueError, match="update\\(grads, state, params\\)"):
        optimiser.update(several, state)
    with pytest.raises(
        ValueError, match="'b' has shape"
    ):  # the spec it was drawn for has other widths
        one = weights(key, 9)
        learned_optimiser(net).update(one, learned_optimiser(net).init(one), one)


def test_half_precision_stays_and_averages_are_wide(key):
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), weights(key))
    optimiser = learned_optimiser(awake(OptimiserNetwork(spec_of(), 4, 1, key=key), key))
    updates, state = jax.jit(lambda p: optimiser.update(p, optimiser.init(p), p))(params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
    assert {u.dtype for u in jax.tree.leaves(state.squares)} == {jnp.dtype("float32")}
    assert np.isfinite(np.asarray(updates["w"], np.float32)).all()


def test_weights_without_gradient_are_no_trouble(key):
    """Dead units: all their gradients are zero, and so are gradients through the run finite."""
    params, net = (
        weights(key),
        awake(OptimiserNetwork(spec_of(), 4, 1, dtype=jnp.float64, key=key), key),
    )

    def after(net):
        gradients = jax.tree.map(jnp.zeros_like, params)
        updates, _ = learned_optimiser(net).update(
            gradients, learned_optimiser(net).init(params), params
        )
        return sum(jnp.sum(u) for u in jax.tree.leaves(updates))

    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(jax.jit(jax.grad(after))(net)))


def test_all_coordinates_of_a_fixed_axis_share_their_weights(key):
    spec = spec_of()
    assert all("_" not in text.split() for text in fixed_as_units(spec).axes.values())
    sizes = [
        sum(a.size for a in jax.tree.leaves(OptimiserNetwork(s, 4, 1, key=key)))
        for s in (spec, spec_of(9))
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"nominal": "sgd"}, "nominal"),
        ({"nominal_decay": 0.7}, "nominal_decay"),
        ({"decays": (0.9, 1.0)}, "decays"),
        ({"rate": 0.0}, "rate"),
        ({"method": "no such"}, "no method"),
    ],
)
def test_bad_options(options, said, key):
    with pytest.raises(ValueError, match=said):
        OptimiserNetwork(spec_of(), 4, 1, key=key, **options)
