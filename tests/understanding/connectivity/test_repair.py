"""REPAIR and stored statistics, by laws, in plain JAX, linen, nnx and equinox."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures.linen_dense import BatchNormMLP
from tests.architectures.linen_resnet import ResNet
from wsljax.understanding.connectivity import (
    average,
    barrier,
    find_producers,
    linear,
    repair,
    reset_statistics,
)
from wsljax.understanding.connectivity.statistics import moments

from .common import digits, loss, member, mlp, trained
from .test_producers import built


@pytest.fixture(autouse=True)
def float32():
    with jax.enable_x64(False):
        yield


def close(a, b, **options):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, **options), a, b)


def largest_change(a, b):
    return max(
        float(jnp.max(jnp.abs(u - v))) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b))
    )


def hidden(p, x):
    """Pre-activations of the digits network, by hand."""
    found = []
    for w, b in p[:-1]:
        z = x @ w + b
        found.append((z.mean(0), z.std(0)))
        x = jax.nn.relu(z)
    return found


@pytest.mark.parametrize("t", [0.3, *(pytest.param(t, marks=pytest.mark.slow) for t in (0.0, 1.0))])
def test_statistics_of_an_mlp(t):
    a, b = (member(trained(3), k) for k in (0, 1))
    x = digits()[0]
    merged = linear((a, b), t)
    found = jax.jit(lambda m, a, b: repair(mlp, m, (a, b), x, weights=(1 - t, t), tolerance=1e-5))(
        merged, a, b
    )
    for now, one, other in zip(hidden(found.params, x), hidden(a, x), hidden(b, x)):
        for k in (0, 1):  # mean, deviation
            want = (1 - t) * one[k] + t * other[k]
            np.testing.assert_allclose(now[k], want, atol=2e-4)
    assert not found.left and float(found.error) < 1e-4
    # the last layer is what it was, and so is an end
    close(found.params[-1], merged[-1])
    if t in (0, 1):
        assert int(found.rounds) == 0
        close(found.params, merged, rtol=0)
    else:
        off = [abs(s[1] - (1 - t) * u[1] - t * v[1]).max()
               for s, u, v in zip(hidden(merged, x), hidden(a, x), hidden(b, x))]  # fmt: skip
        assert max(off) > 0.1  # there was something to repair


def test_the_first_layers_are_exact_first():
    a, b = (member(trained(3), k) for k in (0, 1))
    x = digits()[0]
    found = repair(mlp, linear((a, b), 0.5), (a, b), x, rounds=1)
    first = hidden(found.params, x)[0][1]
    want = (hidden(a, x)[0][1] + hidden(b, x)[0][1]) / 2
    np.testing.assert_allclose(first, want, rtol=1e-3, atol=1e-5)
    assert int(found.rounds) == 1 and float(found.error) > 1e-3  # the second layer is not


@pytest.mark.slow
def test_chunks_change_nothing():
    a, b = (member(trained(3), k) for k in (0, 1))
    x = digits()[0]
    whole = repair(mlp, linear((a, b), 0.5), (a, b), x)
    parts = repair(mlp, linear((a, b), 0.5), (a, b), x, chunk=256)
    close(whole.params, parts.params, rtol=2e-3, atol=2e-4)
    with pytest.raises(ValueError, match="does not divide"):
        repair(mlp, a, (a, b), x, chunk=255)


def test_it_helps_along_the_line():
    """The repaired midpoint of two digits networks loses less than the plain one."""
    a, b = (member(trained(3), k) for k in (0, 1))
    x, y = digits()

    def adjust(p, points, t):
        return repair(mlp, p, points, x[:512], weights=jnp.stack([1 - t, t])).params

    plain = barrier(loss, a, b, x, y, points=3)
    better = barrier(loss, a, b, x, y, points=3, adjust=adjust)
    np.testing.assert_allclose(plain.ends, better.ends, rtol=1e-4)
    assert float(better.barrier) < 0.9 * float(plain.barrier)


def test_several_ends():
    networks = [member(trained(3), k) for k in range(3)]
    x = digits()[0]
    found = repair(mlp, average(networks), networks, x)
    for now, *each in zip(hidden(found.params, x), *(hidden(p, x) for p in networks)):
        np.testing.assert_allclose(now[1], sum(e[1] for e in each) / 3, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="one number each"):
        repair(mlp, networks[0], networks, x, weights=(0.5, 0.5))


ARCHITECTURES = [
    "raw/conv_flatten_nhwc",
    "nnx/mlp_batchnorm_eval",
    *(
        pytest.param(n, marks=pytest.mark.slow)
        for n in (
            "raw/layer_norm",
            "raw/resnet_projected",
            "linen/resnet_batchnorm_eval",
            "equinox/cnn_global",
            "linen/resnet_groupnorm",
            "linen/densenet",
            "linen/mobilenet_se",
            "linen/convnext",
            "equinox/resnet_eval_ema",
            "equinox/resnet_eval_batch",
            "equinox/resnet_groupnorm",
            "raw/resnet_pad_shortcut",
            "raw/unet",
        )
    ),
]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_statistics_of_architectures(name):
    """All values at places get the statistics wanted, with one program for all; ends are fixed points."""
    fn, a, inputs = built(name, 0)
    _, b, _ = built(name, 1)
    inputs = jax.tree.map(
        lambda x: jax.random.normal(jax.random.key(3), (48, *x.shape[1:])), inputs
    )

    @jax.jit
    def run(m, a, b, weights):
        return repair(fn, m, (a, b), *inputs, weights=weights, tolerance=2e-5)

    found = run(average([a, b]), a, b, jnp.array([0.5, 0.5]))
    assert float(found.error) < 1e-4
    at_end = run(a, a, b, jnp.array([1.0, 0.0]))
    assert int(at_end.rounds) == 0 and largest_change(at_end.params, a) == 0
    # the same, measured anew
    traced = find_producers(fn, a, *inputs)
    places = [p for p in traced.places if not p.last]
    assert places
    measure = jax.jit(
        lambda p: [(m.mean, m.deviation) for m in moments(traced, places, p, *inputs)]
    )
    for place, now, one, other in zip(places, measure(found.params), measure(a), measure(b)):
        want = [(u + v) / 2 for u, v in zip(one, other)]
        alive = np.asarray(now[1]) > 1e-4 * np.asarray(want[1])
        np.testing.assert_allclose(now[1][alive], want[1][alive], rtol=2e-3)
        if place.shift is not None:
            np.testing.assert_allclose(
                (now[0] / want[1])[alive], (want[0] / want[1])[alive], atol=2e-3
            )


@pytest.mark.parametrize("net", [BatchNormMLP, pytest.param(ResNet, marks=pytest.mark.slow)])
def test_recomputed_statistics_are_those_of_training(net):
    """In evaluation with reset statistics a network gives what it gives in training, on the same batch."""
    shape = (64, 4) if net is BatchNormMLP else (64, 6, 6, 2)
    x = jax.random.normal(jax.random.key(1), shape)
    evaluate = net(train=False).apply
    variables = jax.jit(net(train=False).init)(jax.random.key(0), x)
    trains, _ = net(train=True).apply(variables, x, mutable=["batch_stats"])
    found = reset_statistics(evaluate, variables, x, chunk=16)
    assert float(jnp.max(jnp.abs(evaluate(variables, x) - trains))) > 0.1
    np.testing.assert_allclose(evaluate(found.params, x), trains, atol=1e-4)
    close(found.params["params"], variables["params"], rtol=0)
    assert float(found.error) < 1e-4


@pytest.mark.parametrize("how", ["plain", "folded", "log"])
def test_however_it_is_written(how):
    """The same normalisation in three writings."""
    eps = 1e-3

    def fn(p, x):
        h = x @ p["w"] + p["c"]
        variance = jnp.exp(p["var"]) if how == "log" else p["var"]
        if how == "folded":
            scale = p["gain"] * jax.lax.rsqrt(variance + eps)
            h = h * scale + (p["shift"] - p["mean"] * scale)
        else:
            h = (h - p["mean"]) / jnp.sqrt(variance + eps) * p["gain"] + p["shift"]
        return jax.nn.relu(h) @ p["v"]

    k = jax.random.split(jax.random.key(0), 8)
    p = {
        n: 0.5 + jax.random.uniform(k[i], (5,))
        for i, n in enumerate(("mean", "var", "gain", "shift", "c"))
    }
    p |= {"w": jax.random.normal(k[5], (3, 5)), "v": jax.random.normal(k[6], (5, 2))}
    x = jax.random.normal(k[7], (64, 3))
    found = reset_statistics(fn, p, x).params
    z = x @ p["w"] + p["c"]
    np.testing.assert_allclose(found["mean"], z.mean(0), rtol=1e-4, atol=1e-5)
    variance = jnp.exp(found["var"]) if how == "log" else found["var"]
    np.testing.assert_allclose(variance, z.var(0), rtol=1e-4)
    for name in ("w", "c", "gain", "shift", "v"):
        np.testing.assert_array_equal(found[name], p[name])


def test_layers_of_a_scanned_stack():
    """Each step of the stack gets the statistics of its own layer."""

    def fn(p, x):
        def step(h, layer):
            return jnp.tanh(h @ layer["w"] + layer["b"]), None

        return jax.lax.scan(step, x, p["stack"])[0] @ p["out"]

    def draw(key):
        k = jax.random.split(key, 3)
        stack = {"w": jax.random.normal(k[0], (3, 6, 6)), "b": jax.random.normal(k[1], (3, 6))}
        return {"stack": stack, "out": jax.random.normal(k[2], (6, 2))}

    def by_hand(p, x):
        found = []
        for w, b in zip(p["stack"]["w"], p["stack"]["b"]):
            z = x @ w + b
            found.append(jnp.stack([z.mean(0), z.std(0)]))
            x = jnp.tanh(z)
        return jnp.stack(found)

    a, b = draw(jax.random.key(0)), draw(jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (128, 6))
    found = repair(fn, average([a, b]), (a, b), x, tolerance=1e-5)
    want = (by_hand(a, x) + by_hand(b, x)) / 2
    np.testing.assert_allclose(by_hand(found.params, x), want, atol=1e-3)


def test_without_bias_the_report_says_so():
    def fn(p, x):
        return jax.nn.relu(x @ p["w"]) @ p["v"]

    k = jax.random.split(jax.random.key(0), 5)
    a = {"w": jax.random.normal(k[0], (3, 6)), "v": jax.random.normal(k[1], (6, 2))}
    b = {"w": jax.random.normal(k[2], (3, 6)), "v": jax.random.normal(k[3], (6, 2))}
    x = jax.random.normal(k[4], (64, 3)) + 1
    found = repair(fn, average([a, b]), (a, b), x)
    assert len(found.left) == 1 and "w: nothing shifts its 6 units" in found.left[0]
    spread = lambda p: (x @ p["w"]).std(0)  # noqa: E731
    np.testing.assert_allclose(spread(found.params), (spread(a) + spread(b)) / 2, rtol=1e-4)


@pytest.mark.slow
def test_vmap_is_the_loop():
    stacked = trained(3)
    a, others = member(stacked, 0), jax.tree.map(lambda v: v[1:], stacked)
    x = digits()[0][:256]
    run = lambda a, b: repair(mlp, average([a, b]), (a, b), x)  # noqa: E731
    both = jax.vmap(run, in_axes=(None, 0))(a, others)
    for k in (0, 1):
        close(member(both.params, k), run(a, member(others, k)).params, rtol=1e-3, atol=1e-4)


def test_errors():
    x = jnp.ones((4, 3))
    with pytest.raises(ValueError, match="no stored mean"):
        reset_statistics(lambda p, x: x @ p, jnp.ones((3, 2)), x)
    with pytest.raises(ValueError, match="last=True"):
        repair(lambda p, x: x @ p, jnp.ones((3, 2)), [jnp.ones((3, 2))], x)
    with pytest.raises(ValueError, match="leading axis of examples"):
        reset_statistics(lambda p, x, y: x @ p, jnp.ones((3, 2)), x, jnp.ones(5))
    assert repair(lambda p, x: x @ p, jnp.ones((3, 2)), [jnp.ones((3, 2))], x, last=True)


@pytest.mark.slow
def test_leaves_keep_their_dtypes():
    net = nn.Sequential([nn.Dense(4, param_dtype=jnp.bfloat16), nn.relu, nn.Dense(2)])
    x = jax.random.normal(jax.random.key(2), (32, 3))
    a, b = (net.init(jax.random.key(k), x) for k in (0, 1))
    found = repair(net.apply, average([a, b]), (a, b), x)
    same = jax.tree.map(lambda u, v: u.dtype == v.dtype and u.shape == v.shape, found.params, a)
    assert jax.tree.all(same)
