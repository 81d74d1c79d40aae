"""Conserved quantities of gradient flow, along an accurate integration of the flow itself."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.symmetry.conserved import not_conserved

from . import generator_nets as nets

NETS = {
    "relu": functools.partial(nets.mlp, jax.nn.relu),
    "cubed": functools.partial(nets.mlp, lambda v: 0.1 * v**3),
    "linear": functools.partial(nets.mlp, lambda v: v),
    "attention with biases": functools.partial(nets.attention, True),
    "rotary attention": functools.partial(nets.attention, True, True),
    "transformer": nets.transformer,
    "batch norm in training": functools.partial(nets.batch_norm, True),
    "batch norm in inference": functools.partial(nets.batch_norm, False),
    "layer norm": nets.layer_norm,
    "radial": nets.radial,
    "classifier": nets.classifier,
    "convolution": nets.convolution,
    "lora": nets.lora,
}
#: Of each net: the quantities there are, as the sum of the independent numbers in them.
COUNTS = {
    "relu": 9,
    "cubed": 9,
    "linear": 5 * 6 // 2 + 4 * 5 // 2,
    "attention with biases": 2 * 6 + 2 * 6 + 6,  # and the key bias
    "rotary attention": 2 * 2 + 2 * 6,  # one number for each plane
    "transformer": 12 + 2 * (3 + 3) + 1,  # gains, heads, and one of whole leaves; not the rotations
    "batch norm in training": 5 + 5 + 5,
    "layer norm": 5 + 3 + 1 + 1,
    "radial": 0,
    "classifier": 5 + 1 + 5,
    "convolution": 3,
    "lora": 3,
}
#: Where the flow is followed: all but those that have the kinds of another one.
FLOWS = [n for n in NETS if n not in ("attention with biases", "radial", "lora")]
STEPS = 200


@functools.cache
def ready(name):
    fn, params, x = NETS[name]()
    spec = symmetry.infer(fn, params, x, kinds=None)
    return fn, params, x, spec, jax.jit(lambda p: symmetry.conserved(p, spec))


def loss_of(fn, params, x):
    """Squares to random targets: of no symmetry but that of the network."""
    y = fn(params, x)
    target = y + jnp.std(y) * jax.random.normal(jax.random.key(7), y.shape, y.dtype)
    return lambda p: jnp.mean((fn(p, x) - target) ** 2) / jnp.var(y)


def flow(loss, p, length, steps=STEPS):
    """Gradient flow by the classical Runge-Kutta method of order four."""
    h = length / steps
    field = jax.grad(lambda p: -loss(p))
    stages = jnp.array([[0.0, 1.0], [0.5, 2.0], [0.5, 2.0], [1.0, 1.0]])

    def step(p, _):
        def stage(state, c):
            total, k = state
            k = field(jax.tree.map(lambda a, b: a + c[0] * h * b, p, k))
            return (jax.tree.map(lambda a, b: a + c[1] * h / 6 * b, total, k), k), None

        return jax.lax.scan(stage, (p, jax.tree.map(jnp.zeros_like, p)), stages)[0][0], None

    return jax.jit(lambda p: jax.lax.scan(step, p, None, length=steps)[0])(p)


def length_of(loss, p):
    """A time in which the weights move by a thirtieth of their size, to first order."""
    speed = jax.flatten_util.ravel_pytree(jax.grad(loss)(p))[0]
    size = jax.flatten_util.ravel_pytree(p)[0]
    return 0.03 * jnp.linalg.norm(size) / jnp.linalg.norm(speed)


def drift(before, after):
    """Largest change of the entries of trees, beside how much they all are."""
    a, b = (jax.flatten_util.ravel_pytree(q)[0] for q in (before, after))
    return float(jnp.max(jnp.abs(a - b), initial=0))


@pytest.mark.parametrize("name", FLOWS)
def test_constant_along_gradient_flow(name):
    """All of them are; not so where every weight goes a random part of its way."""
    fn, p, x, spec, quantities = ready(name)
    loss = loss_of(fn, p, x)
    moved = flow(loss, p, length_of(loss, p))
    assert loss(moved) < loss(p)
    before, after = quantities(p), quantities(moved)
    assert drift(before, after) < 1e-8, {n: drift(before[n], after[n]) for n in before}
    random = np.random.default_rng(0)
    partly = jax.tree.map(lambda a, b: a + random.random(a.shape) * (b - a), p, moved)
    control = quantities(partly)
    for g in spec.generators:
        if g.name in before and (g.terms or g.constant):  # others are leaves that do not matter
            assert drift(before[g.name], control[g.name]) > 1e-5, g.name


def test_descent_drifts_with_the_step_size():
    """Under gradient descent over the same time, ten times the step is ten times the drift."""
    fn, p, x, _, quantities = ready("relu")
    loss = loss_of(fn, p, x)
    length = length_of(loss, p)

    def descend(steps):
        def step(p, _):
            return jax.tree.map(lambda a, g: a - length / steps * g, p, jax.grad(loss)(p)), None

        return jax.jit(lambda p: jax.lax.scan(step, p, None, length=steps)[0])(p)

    coarse, fine = (drift(quantities(p), quantities(descend(n))) for n in (20, 200))
    assert coarse > 1e-5 and 8 < coarse / fine < 12


@pytest.mark.parametrize("name", COUNTS)
def test_all_there_are(name):
    """As many as the tangent fields of the algebra that are gradients, by their Jacobians."""
    _, p, _, spec, quantities = ready(name)
    assert independent(spec, quantities(p)) == COUNTS[name]
    assert gradients(spec, p) == COUNTS[name]


def independent(spec, q):
    """How many numbers are in them: of a symmetric matrix its triangle."""
    generators = {g.name: g for g in spec.generators}
    sizes = 0
    for n, x in q.items():
        g = generators[n]
        if g.kind == "linear" and not g.pairs:
            assert jnp.allclose(x, jnp.swapaxes(x, -1, -2))
            sizes += x.size // g.size * (g.size + 1) // 2
        else:
            sizes += x.size
    return sizes


def gradients(spec, p):
    """Dimension of the directions of the algebra whose tangent field has a symmetric Jacobian."""
    flat, unravel = jax.flatten_util.ravel_pytree(p)
    v, direction = jax.flatten_util.ravel_pytree(spec.algebra())
    if not v.size:
        return 0

    def twist(w, at):
        def field(x):
            def moved(t):
                g = spec.exp(direction(t))
                return jax.flatten_util.ravel_pytree(spec.act(g, unravel(x)))[0]

            return jax.jvp(moved, (v,), (w,))[1]

        jacobian = jax.jacfwd(field)(at)
        return (jacobian - jacobian.T).ravel()

    twist = jax.jit(twist)
    other = flat + 0.1 * jax.random.normal(jax.random.key(3), flat.shape)
    columns = [jnp.concatenate([twist(w, flat), twist(w, other)]) for w in jnp.eye(v.size)]
    gram = np.asarray(jnp.stack(columns) @ jnp.stack(columns).T)
    sizes = np.linalg.eigvalsh(gram)
    return int(np.sum(sizes < 1e-10 * max(np.max(sizes), 1)))


def test_known_formulas():
    """Du et al. 2018: differences of squares; for linear networks, of Gram matrices."""
    _, p, _, spec, quantities = ready("linear")
    q = quantities(p)
    into = p["w0"].T @ p["w0"] + jnp.outer(p["b0"], p["b0"])
    balance = (into - p["w1"] @ p["w1"].T) / 2
    (name,) = (n for n in q if n.startswith("linear") and q[n].shape == (5, 5))
    sign = next(
        t.exponent for g in spec.generators if g.name == name for t in g.terms if t.block == "w0"
    )
    assert jnp.allclose(q[name], sign * balance, atol=1e-12)
    _, p, _, _, quantities = ready("classifier")
    q = quantities(p)
    assert jnp.allclose(q["shift:w1"], p["w1"].sum(1)) and jnp.allclose(
        q["shift:b1"], p["b1"].sum()
    )


def test_an_offset_is_part_of_the_quantity():
    """BatchNorm in inference: variances move as ``v + eps``, and mean, variance are weights like others."""
    _, p, _, spec, quantities = ready("batch norm in inference")
    gen = next(g for g in spec.generators if any(t.offset for t in g.terms))
    total = 0.0
    for t in gen.terms:
        x = p[t.block]
        rest = tuple(k for k in range(x.ndim) if k != t.axis)
        total = total + t.exponent * jnp.sum(x**2 / 2 + t.offset * x, rest)
    assert jnp.allclose(quantities(p)[gen.name], total, atol=1e-12)


def test_what_is_not_trained_is_named():
    """With the running mean and variance held fixed, scaling what they normalise conserves nothing."""
    fn, p, x, spec, _ = ready("batch norm in inference")
    loss = loss_of(fn, p, x)
    frozen = ("mean", "var")

    def partly(some):
        return loss(some | {k: p[k] for k in frozen})

    moved = flow(partly, p, length_of(loss, p))
    assert all(jnp.array_equal(moved[k], p[k]) for k in frozen)
    before, after = (symmetry.conserved(q, spec, frozen) for q in (p, moved))
    assert before and drift(before, after) < 1e-8
    lost = set(symmetry.conserved(p, spec)) - set(before)
    assert lost and drift(*(symmetry.conserved(q, spec) for q in (p, moved))) > 1e-4
    assert all("not trained" in not_conserved(spec, frozen)[n] for n in lost)
    with pytest.raises(ValueError, match="'variance', which is no leaf"):
        symmetry.conserved(p, spec, ("variance",))


def test_reasons():
    *_, spec, quantities = ready("transformer")
    why = not_conserved(spec)
    assert "rotations" in next(why[g.name] for g in spec.generators if g.kind == "orthogonal")
    assert any("no directions" in reason for reason in why.values())
    *_, spec, _ = ready("attention with biases")
    assert "depends on o" in not_conserved(spec)["shift:bv"]


def test_transforms(key):
    """Jit, vmap over a population and grad; and dtypes: sums of squares at least in single precision."""
    fn, p, x, spec, _ = ready("lora")
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), p)
    q = jax.jit(jax.vmap(lambda p: symmetry.conserved(p, spec)))(many)
    one = jax.jit(lambda p: symmetry.conserved(p, spec))(p)
    for n in one:
        np.testing.assert_allclose(q[n], jnp.stack([one[n], 4 * one[n]]), rtol=1e-12)
    name = next(iter(one))
    gradient = jax.grad(lambda p: jnp.trace(symmetry.conserved(p, spec)[name]))(p)
    assert any(float(jnp.max(jnp.abs(a))) > 0.1 for a in gradient.values())
    half = jax.tree.map(lambda a: a.astype("bfloat16"), p)
    assert all(a.dtype in ("float32", "float64") for a in symmetry.conserved(half, spec).values())
    with pytest.raises(ValueError, match="params"):
        symmetry.conserved({"a": p["a"]}, spec)
