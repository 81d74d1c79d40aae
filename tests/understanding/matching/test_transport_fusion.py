"""Fusion by transport: planted permutations, networks with split units, soft maps, unequal widths on data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.representation.specs import SPECS, params_of, spec_of
from wsljax import symmetry
from wsljax.understanding.matching.summed_axes import summed_axes
from wsljax.understanding.matching.transport import transport_plan
from wsljax.understanding.matching.transport_fusion import transport_fusion

QUICK = ["rnn", "heads"]


def draw(spec, seed):
    return params_of(spec, jax.random.key(seed), jnp.float32)


# ------------------------------------------------------------------------------------ plans
@pytest.mark.parametrize("sizes", [(4, 6), (6, 4), (3, 9), (5, 5)])
@pytest.mark.parametrize("temperature", [0.0, 0.2])
def test_plans_use_all_units_alike(sizes, temperature):
    n, m = sizes
    gains = np.random.default_rng(0).normal(size=(3, n, m))
    plan = transport_plan(gains, temperature=temperature)
    np.testing.assert_allclose(plan.sum(-1), 1, atol=1e-9)
    np.testing.assert_allclose(plan.sum(-2), n / m, atol=1e-4)
    assert plan.min() >= 0


def test_exact_plans_are_optimal():
    from scipy.optimize import linprog

    rng = np.random.default_rng(1)
    for n, m in ((4, 6), (5, 3)):
        gains = rng.normal(size=(n, m))
        rows = np.kron(np.eye(n), np.ones(m))
        columns = np.kron(np.ones(n), np.eye(m))
        best = linprog(
            -gains.ravel(),
            A_eq=np.concatenate([rows, columns]),
            b_eq=np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)]),
        )
        plan = transport_plan(gains) / n
        assert np.sum(plan * gains) == pytest.approx(-best.fun, abs=1e-9)
        assert np.sum(transport_plan(gains, temperature=0.05) / n * gains) > -best.fun - 0.05


def test_free_plans_are_optimal():
    """Against all maps of five units onto three."""
    import itertools

    rng = np.random.default_rng(2)
    for _ in range(5):
        gains = rng.normal(size=(3, 5))
        onto = (f for f in itertools.product(range(3), repeat=5) if len(set(f)) == 3)
        best = max(sum(gains[i, j] for j, i in enumerate(f)) for f in onto)
        plan = transport_plan(gains, marginals="free")
        assert np.sum((plan > 0) * gains) == pytest.approx(best)
        flipped = transport_plan(gains.T, marginals="free")
        assert np.sum(flipped * gains.T) == pytest.approx(best)


# ------------------------------------------------------------------------------------ equal widths
@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SPECS]
)
@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_what_is_planted_comes_back(name, temperature, key):
    """Exactly by exact plans; by sharp ones nearly, where units are told apart."""
    spec = spec_of(SPECS[name])
    if temperature and name not in ("mlp", "heads", "scanned", "lstm"):
        pytest.skip("covered by exact plans")
    a = draw(spec, 0)
    b = spec.act(spec.sample(key), a)
    fused = transport_fusion(a, b, spec, key=key, temperature=temperature)
    for n in a:
        if temperature:
            gap = float(jnp.linalg.norm(fused.params[n] - a[n]) / jnp.linalg.norm(a[n]))
            assert gap < 0.05
        else:
            np.testing.assert_array_equal(fused.params[n], a[n])
    for m in fused.maps.values():
        np.testing.assert_allclose(m.sum(-1), 1, atol=1e-5)


# ------------------------------------------------------------------------------------ unequal widths
def mlp(p, x):
    x = jnp.tanh(x @ p["a"] + p["c"])
    x = jnp.tanh(p["b"] @ x[..., None])[..., 0]  # a kernel (out, in)
    return x @ p["d"]


def attention(p, x):
    x = x @ p["e"]
    q, k, v = (jnp.einsum("td,dhe->the", x, p[n]) for n in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("the,she->hts", q, k))
    x = x + jnp.einsum("hts,she,hed->td", weights, v, p["o"])
    return x @ p["w"]


def scanned(p, x):
    def layer(x, w):
        return x + jax.nn.gelu(x @ w["up"]) @ w["down"], None

    return jax.lax.scan(layer, x @ p["e"], p["layers"])[0] @ p["w"]


def convolution(p, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    for n in ("k", "l"):
        x = jax.lax.conv_general_dilated(x, p[n], (1, 1), "SAME", dimension_numbers=numbers)
        x = jax.nn.relu(x * p["g" + n])
    return x.reshape(x.shape[0], -1) @ p["w"]


def recurrent(p, x):
    step = lambda h, x: (jnp.tanh(x @ p["x"] + h @ p["h"]), None)  # noqa: E731
    return jax.lax.scan(step, jnp.zeros(p["h"].shape[0]), x)[0] @ p["w"]


CASES = {
    "mlp": (mlp, {"a": (6, 5), "c": (5,), "b": (4, 5), "d": (4, 3)}, (7, 6)),
    "attention": (
        attention,
        {
            "e": (5, 6),
            "q": (6, 3, 2),
            "k": (6, 3, 2),
            "v": (6, 3, 4),
            "o": (3, 4, 6),
            "w": (6, 2),
        },
        (7, 5),
    ),
    "scanned": (
        scanned,
        {"e": (5, 6), "layers": {"up": (2, 6, 4), "down": (2, 4, 6)}, "w": (6, 3)},
        (7, 5),
    ),
    "convolution": (
        convolution,
        {"k": (3, 3, 2, 3), "gk": (3,), "l": (3, 3, 3, 4), "gl": (4,), "w": (64, 2)},
        (5, 4, 4, 2),
    ),
    "recurrent": (recurrent, {"x": (3, 5), "h": (5, 5), "w": (5, 2)}, (6, 3)),
}


def weights(shapes, seed):
    shapes, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    drawn = [jax.random.normal(k, s, jnp.float32) for k, s in zip(keys, shapes)]
    return jax.tree.unflatten(treedef, drawn)


def split_units(params, spec, sums, copies, seed):
    """Every unit ``u`` is replaced by ``copies(u, size)`` of itself, in a random order."""
    rng = np.random.default_rng(seed)
    chosen = {}
    for u in spec.units:
        chosen[u.name] = rng.permutation(np.repeat(np.arange(u.size), copies(u)))
    blocks, out = spec.blocks(params), {}
    for block in spec.layout:
        x = np.asarray(blocks[block.name], np.float64)
        for k, axis in enumerate(block.axes):
            if axis not in chosen:
                continue
            count = np.bincount(chosen[axis])[chosen[axis]]
            shape = [1] * x.ndim
            shape[k] = -1
            power = sums.get((block.name, k), 0.0)
            x = np.take(x, chosen[axis], k) / count.reshape(shape) ** power
        out[block.name] = x.astype(np.float32)
    return out


def wide(name, copies):
    """A network, its spec, and a wider one with its spec that computes the same."""
    fn, shapes, shape = CASES[name]
    a = weights(shapes, 0)
    x = jax.random.normal(jax.random.key(9), shape, jnp.float32)
    spec = symmetry.infer(fn, a, x, kinds=("permutation",))
    blocks = split_units(a, spec, summed_axes(fn, a, spec, x), copies, seed=3)
    if name == "convolution":  # a flattened axis has its own order
        big = dict(zip(("gk", "gl", "k", "l"), (blocks[n] for n in ("gk", "gl", "k", "l"))))
        big["w"] = blocks["w"].reshape(-1, 2)
    else:
        flat = [blocks[leaf.path] for leaf in spec.leaves]
        big = jax.tree.unflatten(jax.tree.structure(a), flat)
    big = jax.tree.map(jnp.asarray, big)
    return fn, x, a, spec, big, symmetry.infer(fn, big, x, kinds=("permutation",))


@pytest.mark.parametrize(
    "name",
    ["attention", *(pytest.param(n, marks=pytest.mark.slow) for n in CASES if n != "attention")],
)
def test_split_units_are_fused_back(name, key):
    """A network widened by splitting every unit in two, in random order, becomes what it was."""
    fn, x, a, spec, big, spec_big = wide(name, lambda u: 2)
    np.testing.assert_allclose(fn(big, x), fn(a, x), rtol=2e-4, atol=2e-4)
    fused = transport_fusion(a, big, spec, spec_big, key=key, fn=fn, inputs=(x,))
    for y, z in zip(jax.tree.leaves(fused.params), jax.tree.leaves(a), strict=True):
        np.testing.assert_allclose(y, z, atol=1e-5)
    np.testing.assert_allclose(fn(fused.params, x), fn(a, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(n, marks=pytest.mark.slow) for n in CASES if n != "mlp")]
)
def test_units_split_unevenly_need_free_marginals(name, key):
    """Some units three times, others once; and the other way round, the narrow network is widened."""
    fn, x, a, spec, big, spec_big = wide(name, lambda u: [1 + 2 * (i % 2) for i in range(u.size)])
    np.testing.assert_allclose(fn(big, x), fn(a, x), rtol=2e-4, atol=2e-4)
    told = dict(key=key, fn=fn, inputs=(x,), marginals="free")
    back = transport_fusion(a, big, spec, spec_big, **told)
    for y, z in zip(jax.tree.leaves(back.params), jax.tree.leaves(a), strict=True):
        np.testing.assert_allclose(y, z, atol=1e-5)
    there = transport_fusion(big, a, spec_big, spec, **told)
    for y, z in zip(jax.tree.leaves(there.params), jax.tree.leaves(big), strict=True):
        np.testing.assert_allclose(y, z, atol=1e-5)


def test_units_with_the_same_activations_are_fused(key):
    """By activations alone, for which the weights of ``a`` are never looked at."""
    fn, x, a, spec, big, spec_big = wide("mlp", lambda u: 2)
    x = jax.random.normal(jax.random.key(5), (60, 6), jnp.float32)
    fused = transport_fusion(
        a, big, spec, spec_big, key=key, fn=fn, inputs=(x,), cost="activations", temperature=0.02
    )
    np.testing.assert_allclose(fn(fused.params, x), fn(a, x), atol=0.02)


def test_where_functions_add_up(key):
    fn, shapes, shape = CASES["attention"]
    p = weights(shapes, 0)
    x = jnp.zeros(shape, jnp.float32)
    spec = symmetry.infer(fn, p, x, kinds=("permutation",))
    found = summed_axes(fn, p, spec, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert found == {
        ("q", 0): 1.0, ("k", 0): 1.0, ("v", 0): 1.0, ("q", 2): 0.5, ("k", 2): 0.5,
        ("o", 0): 1.0, ("o", 1): 1.0, ("w", 0): 1.0,
    }  # fmt: skip
    tied = lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"].T + (x @ p["d"]) @ p["u"]  # noqa: E731
    p = weights({"w": (3, 4), "d": (3, 2), "u": (2, 3)}, 0)
    spec = symmetry.parse(p, {"w": "_ h", "d": "_ r", "u": "r _"})
    assert summed_axes(tied, p, spec, jnp.ones((5, 3), jnp.float32)) == {
        ("w", 1): 0.5,
        ("u", 0): 1.0,
    }


def test_unequal_networks_on_digits(key):
    """Fused, the middle of networks of 64 and 32 units is far better than without looking at units."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)

    def fn(p, x):
        return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"] + p["c"]

    def loss(p):
        return optax.softmax_cross_entropy_with_integer_labels(fn(p, x[:1200]), y[:1200]).mean()

    @jax.jit
    def train(p):
        rule = optax.adam(1e-2)
        step = lambda c, _: _step(rule, jax.grad(loss), *c)  # noqa: E731
        return jax.lax.scan(step, (p, rule.init(p)), length=150)[0][0]

    def start(width, seed):
        k = jax.random.split(jax.random.key(seed), 2)
        w = jax.random.normal(k[0], (64, width), jnp.float32) / 8
        v = jax.random.normal(k[1], (width, 10), jnp.float32) / width**0.5
        return {"w": w, "b": jnp.zeros(width, w.dtype), "v": v, "c": jnp.zeros(10, w.dtype)}

    a, b = train(start(32, 0)), train(start(64, 1))
    specs = [symmetry.infer(fn, p, x[:2], kinds=("permutation",)) for p in (a, b)]
    accuracy = lambda p: float((fn(p, x[1200:]).argmax(-1) == y[1200:]).mean())  # noqa: E731
    middle = lambda p: jax.tree.map(lambda s, t: (s + t) / 2, a, p)  # noqa: E731
    naive = {"w": b["w"][:, :32], "b": b["b"][:32], "v": 2 * b["v"][:32], "c": b["c"]}
    fused = transport_fusion(a, b, *specs, key=key, fn=fn, inputs=(x[:2],)).params
    assert min(accuracy(a), accuracy(b)) > 0.9
    assert accuracy(middle(fused)) > accuracy(middle(naive)) + 0.03


def _step(rule, grad, p, state):
    updates, state = rule.update(grad(p), state, p)
    return (optax.apply_updates(p, updates), state), None


def test_bad_input_is_named(key):
    fn, shapes, shape = CASES["mlp"]
    a = weights(shapes, 0)
    b = weights({**shapes, "a": (6, 8), "c": (8,), "b": (4, 8)}, 1)
    x = jnp.ones(shape, jnp.float32)
    spec, spec_b = (symmetry.infer(fn, p, x, kinds=("permutation",)) for p in (a, b))
    with pytest.raises(ValueError, match="pass `fn=`"):
        transport_fusion(a, b, spec, spec_b, key=key)
    with pytest.raises(ValueError, match="the spec has"):
        transport_fusion(a, b, spec, key=key)
    with pytest.raises(ValueError, match="cost"):
        transport_fusion(a, a, spec, key=key, cost="loss")
    with pytest.raises(ValueError, match="marginals"):
        transport_fusion(a, a, spec, key=key, marginals="none")
    with pytest.raises(ValueError, match="temperature"):
        transport_fusion(a, a, spec, key=key, marginals="free", temperature=0.1)
    with pytest.raises(ValueError, match="same units"):
        transport_fusion(a, a, spec, spec_of(SPECS["mlp"]), key=key)
    with pytest.raises(ValueError, match="copies"):
        transport_plan(np.zeros((127, 131)))
    other = weights({**shapes, "d": (4, 5)}, 1)
    wrong = symmetry.infer(fn, other, x, kinds=("permutation",))
    with pytest.raises(ValueError, match="'d' has shapes"):
        transport_fusion(a, other, spec, wrong, key=key, fn=fn, inputs=(x,))
