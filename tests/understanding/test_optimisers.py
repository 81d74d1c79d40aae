"""Optimisers that know the group: what they compute, and that their steps commute with the group."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.understanding import optimisers as opt

SCALES = ("permutation", "scale", "uniform")
NETS = {
    "relu": functools.partial(nets.mlp, jax.nn.relu),
    "leaky": functools.partial(nets.mlp, nets.leaky),
    "degree 2": functools.partial(nets.mlp, lambda v: jax.nn.relu(v) ** 2),
    "convolution": nets.convolution,
    "gated": nets.gated,
    "batch norm in inference": functools.partial(nets.batch_norm, False),
}


@functools.cache
def ready(name):
    fn, p, x = NETS[name]()
    return fn, p, x, symmetry.infer(fn, p, x, kinds=SCALES)


def far(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.max(jnp.abs(x - y)) / (1e-12 + jnp.max(jnp.abs(y)))) for x, y in pairs)


def norm(p, power=2.0):
    return float(sum(jnp.sum(jnp.abs(x) ** power) for x in jax.tree.leaves(p)))


def two_sided(spec):
    """A spec with the generators that have a balance; kernels and biases, no offsets."""
    return [g.name for g in spec.generators if len({t.exponent > 0 for t in g.terms}) == 2]


# ------------------------------------------------------------------------------------ balance
QUICK = [("relu", 1.0), ("degree 2", 2.0), ("convolution", 3.0), ("batch norm in inference", 2.0)]
LONG = [
    pytest.param(n, 2.0, marks=pytest.mark.slow) for n in ("relu", "leaky", "convolution", "gated")
]


@pytest.mark.parametrize("name, p", QUICK + LONG)
def test_balance_is_a_stationary_point(name, p, key):
    fn, params, x, spec = ready(name)
    params = spec.act(spec.sample(key, kinds=("scale",)), params)
    done = opt.balance(params, spec, p)
    assert float(done.imbalance) < 1e-12
    assert far(spec.act(done.element, params), done.params) < 1e-12
    assert far(fn(done.params, x), fn(params, x)) < 1e-9
    mine = two_sided(spec)
    offset = {t.block: t.offset for g in spec.generators for t in g.terms if t.offset}
    blocks = {t.block for g in spec.generators if g.name in mine for t in g.terms}

    def size(v):
        found = spec.blocks(spec.act(spec.exp(v), done.params))
        return sum(jnp.sum(jnp.abs(found[n] + offset.get(n, 0)) ** p) for n in blocks)

    zero = {n: v for n, v in spec.algebra().items() if n in mine}
    size = jax.jit(size)
    slope = jax.jit(jax.grad(size))(zero)
    assert max(float(jnp.max(jnp.abs(v))) for v in slope.values()) < 1e-9 * float(size(zero))
    for k in range(3):  # smallest, among others
        v = {
            n: 0.3 * jax.random.normal(jax.random.fold_in(key, k), z.shape) for n, z in zero.items()
        }
        assert size(v) > size(zero)


@pytest.mark.parametrize("p, q", [(2.0, None), (2.0, 1.0), (1.0, 3.0)])
def test_passes_in_parallel_never_increase_the_norm(p, q, key):
    _, params, _, spec = ready("relu")
    params = spec.act(
        spec.exp({n: 3 * jax.random.normal(key, v.shape) for n, v in spec.algebra().items()}),
        params,
    )

    def size(w):
        """Saul's norm: rows are what leads into a unit; outputs are rows of the last kernel."""
        r = 1.0 if q is None else q / p
        rows = [
            jnp.sum(jnp.abs(w["w0"]) ** p, 0) + jnp.abs(w["b0"]) ** p,
            jnp.sum(jnp.abs(w["w1"]) ** p, 0) + jnp.abs(w["b1"]) ** p,
            jnp.sum(jnp.abs(w["w2"]) ** p, 0),
        ]
        return sum(float(jnp.sum(x**r)) for x in rows)

    sizes = [size(params)]
    w, one_pass = (
        params,
        jax.jit(lambda w: opt.balance(w, spec, p, q, steps=1, newton=False).params),
    )
    for _ in range(40):
        w = one_pass(w)
        sizes.append(size(w))
    assert all(b <= a * (1 + 1e-12) for a, b in zip(sizes, sizes[1:]))
    assert sizes[1] < 0.9 * sizes[0]
    best = opt.balance(params, spec, p, q)
    assert float(best.imbalance) < 1e-12
    assert size(best.params) <= sizes[-1] * (1 + 1e-9)
    many = opt.balance(params, spec, p, q, steps=5000, newton=False)
    assert far(best.params, many.params) < 1e-6


def test_one_hidden_layer_has_sauls_closed_form(key):
    fn = lambda p, x: jax.nn.relu(x @ p["a"] + p["b"]) @ p["c"]  # noqa: E731
    p = nets.normal(0, a=(3, 5), b=(5,), c=(5, 2))
    spec = symmetry.infer(fn, p, nets.inputs(12, 3), kinds=SCALES)
    for power in (1, 2, 4):
        into = (jnp.sum(jnp.abs(p["a"]) ** power, 0) + jnp.abs(p["b"]) ** power) ** (1 / power)
        out = jnp.sum(jnp.abs(p["c"]) ** power, 1) ** (1 / power)
        done = opt.balance(p, spec, power)
        assert far(done.element["scale:h0"], jnp.sqrt(out / into)) < 1e-10


def test_balance_is_constant_on_orbits(key):
    _, p, _, spec = ready("convolution")
    moved = spec.act(spec.sample(key, kinds=("scale",)), p)
    assert far(opt.balance(moved, spec).params, opt.balance(p, spec).params) < 1e-9
    assert far(moved, p) > 0.1


def test_dead_units_and_one_sided_generators_are_left_alone():
    _, p, _, spec = ready("relu")
    p = p | {"w2": p["w2"].at[1].set(0)}
    done = opt.balance(p, spec)
    assert float(done.element["scale:h1"][1]) == 1 and float(done.imbalance) < 1e-12
    fn, p, x = nets.batch_norm(True)
    spec = symmetry.infer(fn, p, x, kinds=SCALES)
    assert far(opt.balance(p, spec).params["w0"], p["w0"]) == 0
    with pytest.raises(ValueError, match="positive"):
        opt.balance(p, spec, 0)
    with pytest.raises(ValueError, match="no scaling generator"):
        opt.balance(p, spec, names=("spin",))


def test_balance_keeps_dtypes_and_transforms(key):
    fn, p, x, spec = ready("relu")
    small = jax.tree.map(lambda v: v.astype("float32"), p)
    done = jax.jit(lambda w: opt.balance(w, spec))(small)
    assert {v.dtype for v in jax.tree.leaves(done.params)} == {jnp.dtype("float32")}
    assert float(done.imbalance) < 1e-5
    stack = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), p)
    each = jax.vmap(lambda w: opt.balance(w, spec).params)(stack)
    assert far(jax.tree.map(lambda v: v[0], each), opt.balance(p, spec).params) < 1e-9


def test_balancing_every_k_steps(key):
    _, p, _, spec = ready("relu")
    p = spec.act(spec.sample(key, kinds=("scale",)), p)
    transform = optax.chain(optax.sgd(1e-3), opt.balancing(spec, every=2, steps=50))
    state = transform.init(p)
    g = jax.tree.map(jnp.ones_like, p)
    u, state = transform.update(g, state, p)
    assert far(u, jax.tree.map(lambda v: -1e-3 * v, g)) < 1e-9
    p = optax.apply_updates(p, u)
    u, state = transform.update(g, state, p)
    p = optax.apply_updates(p, u)
    gaps = [jnp.sum(p["w0"] ** 2, 0) + p["b0"] ** 2 - jnp.sum(p["w1"] ** 2, 1)]
    assert float(jnp.max(jnp.abs(jnp.concatenate(gaps)))) < 1e-3
    with pytest.raises(ValueError, match="every"):
        opt.balancing(spec, every=0)


# ------------------------------------------------------------------------------------ commuting steps
def stepper(make, loss, n=3):
    """Some steps from given weights, as one compiled function."""

    @jax.jit
    def run(p):
        transform = make(p)

        def step(carry, _):
            p, state = carry
            u, state = transform.update(jax.grad(loss)(p), state, p)
            return (optax.apply_updates(p, u), state), None

        return jax.lax.scan(step, (p, transform.init(p)), None, length=n)[0][0]

    return run


def steps_of(make, loss, p, n=3):
    return stepper(make, loss, n)(p)


COMMUTING = {
    "path": lambda fn, spec, x: lambda p: opt.path_sgd(fn, x, learning_rate=1e-2),
    "g-sgd gauge": lambda fn, spec, x: lambda p: opt.g_sgd(spec, 1e-2),
    "g-sgd path": lambda fn, spec, x: lambda p: opt.g_sgd(spec, 1e-2, coordinates="path"),
    "balanced metric": lambda fn, spec, x: lambda p: optax.chain(
        opt.scale_by_metric(lambda w: opt.balanced_metric(w, spec)),
        opt.project_quotient(spec, metric=lambda w: opt.balanced_metric(w, spec)),
        optax.sgd(1e-2),
    ),
}  # fmt: skip


SLOW = pytest.mark.slow
CASES = [
    *(("relu", method) for method in COMMUTING),
    ("convolution", "path"),
    ("convolution", "g-sgd path"),
    ("batch norm in inference", "g-sgd path"),
    pytest.param("convolution", "g-sgd gauge", marks=SLOW),
    pytest.param("convolution", "balanced metric", marks=SLOW),
    pytest.param("degree 2", "path", marks=SLOW),
    pytest.param("degree 2", "g-sgd path", marks=SLOW),
    pytest.param("gated", "g-sgd gauge", marks=SLOW),
    pytest.param("batch norm in inference", "balanced metric", marks=SLOW),
]


@pytest.mark.parametrize("name, method", CASES)
def test_steps_commute_with_rescaling(name, method, key):
    fn, p, x, spec = ready(name)
    target = jnp.cos(jnp.arange(fn(p, x).size)).reshape(fn(p, x).shape)
    loss = lambda w: jnp.mean((fn(w, x) - target) ** 2)  # noqa: E731
    g = spec.sample(key, kinds=("scale",))
    moved = spec.act(g, p)
    run = stepper(COMMUTING[method](fn, spec, x), loss)
    there = run(p)
    assert far(there, p) > 1e-5
    assert far(run(moved), spec.act(g, there)) < 1e-7
    # control: plain gradient descent does not
    sgd = stepper(lambda p: optax.sgd(1e-2), loss)
    assert far(sgd(moved), spec.act(g, sgd(p))) > 1e-4


@pytest.mark.parametrize("method", ["path", "g-sgd gauge"])
def test_steps_commute_with_permutations(method, key):
    fn, p, x, spec = ready("relu")
    loss = lambda w: jnp.mean(fn(w, x) ** 2)  # noqa: E731
    g = spec.sample(key)
    run = stepper(COMMUTING[method](fn, spec, x), loss)
    assert far(run(spec.act(g, p)), spec.act(g, run(p))) < 1e-7


@pytest.mark.parametrize("method", ["path", "g-sgd path"])
def test_steps_descend(method):
    fn, p, x, spec = ready("relu")
    target = jnp.cos(jnp.arange(fn(p, x).size)).reshape(fn(p, x).shape)
    loss = lambda w: jnp.mean((fn(w, x) - target) ** 2)  # noqa: E731
    assert loss(steps_of(COMMUTING[method](fn, spec, x), loss, p, 50)) < 0.95 * loss(p)


# ------------------------------------------------------------------------------------ Path-SGD
def test_path_metric_counts_paths():
    """Against the sum over all paths, written out."""
    fn, p, x, _ = ready("relu")
    metric = opt.path_metric(fn, p, jnp.ones((1, 3)))
    w0, w1, w2 = (np.asarray(p[n]) for n in ("w0", "w1", "w2"))
    b0 = np.asarray(p["b0"])
    expected = np.zeros_like(w1)
    for i in range(5):
        for j in range(4):
            into = sum(w0[a, i] ** 2 for a in range(3)) + b0[i] ** 2
            expected[i, j] = into * sum(w2[j, c] ** 2 for c in range(2))
    assert far(metric["w1"], expected) < 1e-12
    out = [sum((w1[i, j] * w2[j, c]) ** 2 for j in range(4) for c in range(2)) for i in range(5)]
    assert far(metric["b0"], jnp.asarray(out)) < 1e-12


def test_weights_on_no_path_are_not_moved():
    fn, p, x, _ = ready("relu")
    p = p | {"w2": p["w2"].at[2].set(0.0)}
    u, _ = opt.scale_by_path(fn, x).update(jax.tree.map(jnp.ones_like, p), None, p)
    assert float(jnp.max(jnp.abs(u["w1"][:, 2]))) == 0 and float(u["b1"][2]) == 0
    assert all(bool(jnp.all(jnp.isfinite(v))) for v in jax.tree.leaves(u))


# ------------------------------------------------------------------------------------ G-SGD
def test_g_sgd_holds_one_entry_of_each_unit():
    fn, p, x, spec = ready("leaky")
    loss = lambda w: jnp.mean(fn(w, x) ** 2)  # noqa: E731
    for coordinates in ("gauge", "path"):
        there = steps_of(lambda w, c=coordinates: opt.g_sgd(spec, 1e-2, coordinates=c), loss, p)
        still0, still1 = there["w0"] == p["w0"], there["w1"] == p["w1"]
        assert still0.sum(0).tolist() == [1] * 5 and still1.sum(0).tolist() == [1] * 4


def test_g_sgd_in_path_values_is_descent_in_path_values(key):
    """A chain 2-2-2-1: one step, against descent in the products along basis paths."""
    fn = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"]) @ p["c"]  # noqa: E731
    # the diagonal is the skeleton: it is largest, and stays so in the balanced network
    p = {
        "a": jnp.array([[2.0, 0.3], [-0.4, 2.0]]),
        "b": jnp.array([[1.5, 0.2], [0.3, 1.6]]),
        "c": jnp.array([[1.2, 0.4], [-0.3, 1.1]]),
    }
    x = nets.inputs(8, 2)
    spec = symmetry.infer(fn, p, x, kinds=SCALES)
    loss = lambda w: jnp.mean((fn(w, x) - 1) ** 2)  # noqa: E731
    p = opt.balance(p, spec).params
    rate = 1e-2

    skeleton = {"a": jnp.diag(p["a"]), "b": jnp.diag(p["b"]), "c": jnp.diag(p["c"])}

    def values(w):
        """Of basis paths, relative to the skeleton's initial product on the other layers."""
        s = skeleton
        a = w["a"] * (jnp.diag(w["b"]) * jnp.diag(w["c"]) / s["b"] / s["c"])[None, :]
        b = (jnp.diag(w["a"]) / s["a"])[:, None] * w["b"] * (jnp.diag(w["c"]) / s["c"])[None, :]
        c = (jnp.diag(w["a"]) * jnp.diag(w["b"]) / s["a"] / s["b"])[:, None] * w["c"]
        return a, b, c

    off = ~jnp.eye(2, dtype=bool)

    def weights(u):
        """With the skeleton of the first two layers as it is; from the outputs back."""
        a_off, b_off, c = u
        way = jnp.diag(c) / skeleton["c"]
        b = jnp.where(off, b_off / way[None, :], jnp.diag(skeleton["b"]))
        a = jnp.where(off, a_off / way[None, :], jnp.diag(skeleton["a"]))
        return {"a": a, "b": b, "c": c}

    u = values(p)
    slope = jax.grad(lambda u: loss(weights(u)))(u)
    expected = weights(jax.tree.map(lambda x, g: x - rate * g, u, slope))
    got = steps_of(lambda w: opt.g_sgd(spec, rate, coordinates="path"), loss, p, 1)
    assert far(got, expected) < 1e-10
    assert far(got, steps_of(lambda w: opt.g_sgd(spec, rate), loss, p, 1)) > 1e-4


def test_g_sgd_needs_scaling():
    fn, p, x = nets.mlp(jnp.tanh)
    spec = symmetry.infer(fn, p, x, kinds=SCALES)
    with pytest.raises(ValueError, match="no scaling generators"):
        opt.g_sgd(spec, 0.1)
    with pytest.raises(ValueError, match="coordinates"):
        opt.g_sgd(ready("relu")[3], 0.1, coordinates="polar")
