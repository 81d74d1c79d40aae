"""`teleport`: the objective gets better, the loss stays, along any spec and any action."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.understanding.teleportation import (
    Action,
    GradientObjective,
    by_element,
    curvature,
    gradient_norm,
    sharpness,
    teleport,
    top_eigenvalue,
)

CASES = {
    "leaky MLP": (lambda: nets.mlp(nets.leaky), ("scale",)),
    "attention": (lambda: nets.attention(True), ("linear", "shift")),
    "transformer": (nets.transformer, ("linear", "orthogonal", "scale", "uniform")),
}


def narrow(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if x.dtype == jnp.float64 else x, tree)


@functools.cache
def inferred(name):
    make, kinds = CASES[name]
    fn, p, x = make()
    spec = symmetry.infer(fn, p, x, kinds=kinds)
    y = jax.random.normal(jax.random.key(5), fn(p, x).shape, "float64")

    def loss(p, x, y):
        return jnp.mean((fn(p, x) - y) ** 2)

    return loss, (p, x, y), spec, kinds


def problem(name, dtype="float64"):
    loss, data, spec, kinds = inferred(name)
    return loss, *narrow(data, dtype), spec, kinds


@pytest.mark.parametrize(
    "name",
    ["leaky MLP", *(pytest.param(n, marks=pytest.mark.slow) for n in ("attention", "transformer"))],
)
def test_any_spec_in_float32(name):
    loss, p, x, y, spec, kinds = problem(name, "float32")
    found = {gen.kind for gen in spec.generators if gen.continuous}
    assert set(kinds) <= found
    out = teleport(loss, p, spec, x, y, steps=4)
    report = out.report
    assert report.objective_after > 1.1 * report.objective_before
    assert report.accepted >= 3
    # the report is checked against numbers that come from elsewhere
    exact = jax.tree.map(lambda a: np.asarray(a).astype("float64"), (p, out.params))
    before, after = (float(loss(q, *narrow((x, y), "float64"))) for q in exact)
    assert abs(after - before) <= 1.5e-5 * abs(before)
    assert report.loss_change <= 1e-5
    wanted = sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(jax.grad(loss)(out.params, x, y)))
    assert np.isclose(float(report.objective_after), wanted, rtol=1e-4)
    # and the element leads there
    moved = spec.act(out.element, p)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(out.params), strict=True):
        assert a.dtype == b.dtype == jnp.result_type(b)
        assert np.allclose(a, b, rtol=1e-3, atol=1e-4)
    for gen in spec.generators:
        assert (gen.name in out.element) == (gen.continuous and gen.dimension > 0)


@pytest.mark.parametrize("name", ["leaky MLP", "attention"])
def test_gradient_is_moved_as_a_covector(name):
    """The short cut that needs no data gives the gradient at the moved params."""
    loss, p, x, y, spec, _ = problem(name)
    g = spec.sample(jax.random.key(3))
    moved = by_element(spec, g, p).covector(jax.grad(loss)(p, x, y))
    direct = jax.grad(loss)(spec.act(g, p), x, y)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(direct), strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-11)


def test_short_cut_takes_the_same_way():
    loss, p, x, y, spec, _ = problem("leaky MLP")
    quick = teleport(loss, p, spec, x, y)
    plain = teleport(loss, p, spec, x, y, objective=lambda p, x, y: gradient_norm(loss)(p, x, y))
    for a, b in zip(jax.tree.leaves(quick.params), jax.tree.leaves(plain.params), strict=True):
        assert np.allclose(a, b, rtol=1e-9)


def test_kinds_move_a_subgroup_only():
    loss, p, x, y, spec, _ = problem("attention")
    out = teleport(loss, p, spec, x, y, kinds=("shift",), steps=3)
    changed = {k for k in p if not np.array_equal(p[k], out.params[k])}
    assert changed == {"bv", "bo"}  # the key bias moves no gradient
    assert out.report.objective_after > out.report.objective_before


def test_traced_and_batched():
    loss, p, x, y, spec, _ = problem("leaky MLP")
    batch = jax.vmap(lambda k: jax.tree.map(lambda a: a + 0.1 * jax.random.normal(k, a.shape), p))(
        jax.random.split(jax.random.key(0), 3)
    )
    many = jax.jit(jax.vmap(lambda p: teleport(loss, p, spec, x, y, steps=3)))(batch)
    one = teleport(loss, jax.tree.map(lambda a: a[1], batch), spec, x, y, steps=3)
    for a, b in zip(jax.tree.leaves(many.params), jax.tree.leaves(one.params), strict=True):
        assert np.allclose(a[1], b, rtol=1e-8)
    assert np.all(many.report.objective_after > many.report.objective_before)
    # one trace serves every call, and does not grow with the number of generators' entries
    count = []

    @jax.jit
    def run(p):
        count.append(1)
        return teleport(loss, p, spec, x, y, steps=2).params

    run(run(p))
    assert len(count) == 1


def test_objectives():
    loss, p, x, y, spec, _ = problem("leaky MLP")
    k = jax.random.key(1)
    for objective, minimise in [
        (sharpness(loss, directions=4, radii=(0.5,), key=k), True),
        (top_eigenvalue(loss, iterations=40, key=k), True),
        (curvature(spec, draws=2, key=k), False),
        (lambda p, x, y: sum(jnp.sum(jnp.abs(a)) for a in jax.tree.leaves(p)), True),
    ]:
        options = {"objective": objective, "minimise": minimise, "steps": 3}
        run = jax.jit(lambda p, o=options: teleport(loss, p, spec, x, y, **o).report)
        report = run(p)
        gain = report.objective_after / report.objective_before
        assert (gain < 0.99) if minimise else (gain > 1.01), (objective, gain)
        assert report.loss_change < 1e-10


def test_top_eigenvalue_against_the_dense_hessian():
    loss, p, x, y, *_ = problem("leaky MLP")
    flat, rebuild = jax.flatten_util.ravel_pytree(p)
    values = jnp.linalg.eigvalsh(jax.hessian(lambda f: loss(rebuild(f), x, y))(flat))
    top = values[jnp.argmax(jnp.abs(values))]
    got = top_eigenvalue(loss, iterations=200, key=jax.random.key(0))(p, x, y)
    assert np.isclose(float(got), float(top), rtol=1e-4)


def test_curvature_against_differences():
    _, p, _, _, spec, _ = problem("leaky MLP")
    got = float(curvature(spec, draws=1, key=jax.random.key(2))(p))
    flat, rebuild = jax.flatten_util.ravel_pytree(spec.algebra())
    (way,) = jax.random.normal(jax.random.key(2), (1, flat.size), flat.dtype)
    at = lambda t: jax.flatten_util.ravel_pytree(spec.act(spec.exp(rebuild(t * way)), p))[0]  # noqa: E731
    h = 1e-3
    first, second = (at(h) - at(-h)) / (2 * h), (at(h) - 2 * at(0.0) + at(-h)) / h**2
    a, b, c = first @ first, second @ second, first @ second
    assert np.isclose(got, float(jnp.sqrt(a * b - c**2) / a**1.5), rtol=1e-4)


def test_balance_is_the_least_norm():
    """The least squared norm on a scaling orbit is known: incoming and outgoing norms agree."""
    fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]  # noqa: E731
    p = nets.normal(3, a=(3, 4), b=(4, 2))
    x = nets.inputs(8, 3)
    spec = symmetry.infer(fn, p, x, kinds=("scale",))
    loss = lambda p: jnp.sum(fn(p, x) ** 2)  # noqa: E731
    square = lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2)  # noqa: E731
    new = teleport(loss, p, spec, objective=square, minimise=True, steps=100, halvings=30).params
    least = 2 * jnp.sum(jnp.linalg.norm(p["a"], axis=0) * jnp.linalg.norm(p["b"], axis=1))
    assert np.isclose(float(square(new)), float(least), rtol=1e-6)


def rosenbrock(p):
    return 100 * (p[0] ** 2 - p[1]) ** 2 + (p[0] - 1) ** 2


def turn(v, p):
    a, b = 10 * (p[0] ** 2 - p[1]), p[0] - 1
    a, b = a * jnp.cos(v) - b * jnp.sin(v), a * jnp.sin(v) + b * jnp.cos(v)
    return jnp.stack([b + 1, (b + 1) ** 2 - a / 10])


def test_a_users_action_is_followed_to_the_top():
    p = jnp.array([-1.0, -1.0])
    norm = gradient_norm(rosenbrock)
    action = Action(turn, jnp.zeros(()))
    out = jax.jit(lambda p: teleport(rosenbrock, p, action, steps=60, radius=0.3))(p)
    angles = jnp.linspace(-0.5, 0.5, 1001)
    near = jax.vmap(lambda t: norm(turn(t, out.params)))(angles)
    assert abs(float(angles[jnp.argmax(near)])) < 1e-2  # the top of its hill
    assert float(out.report.objective_after) > 2 * float(norm(p))
    assert out.report.loss_change < 1e-10
    assert out.element is None and out.path.shape == (60,)
    assert np.allclose(turn(jnp.sum(out.path), p), out.params)


def test_trust_and_radius_bound_each_step():
    loss, p, x, y, spec, _ = problem("leaky MLP")
    for trust in ("all", "each"):
        run = jax.jit(
            lambda p, trust=trust: teleport(loss, p, spec, x, y, steps=5, radius=0.05, trust=trust)
        )
        path = run(p).path
        lengths = np.stack([np.linalg.norm(v, axis=-1) for v in path.values()])
        longest = np.sqrt((lengths**2).sum(0)) if trust == "all" else lengths
        assert np.all(longest <= 0.05 * (1 + 1e-9)) and np.any(longest > 0.04)


def test_steps_that_change_the_loss_are_refused():
    """Under jit, where nothing can be raised, a loss that is not invariant stays where it is."""
    loss, p, x, y, spec, _ = problem("leaky MLP")
    decayed = lambda p, x, y: loss(p, x, y) + sum(jnp.sum(a**2) for a in jax.tree.leaves(p))  # noqa: E731
    out = jax.jit(lambda p: teleport(decayed, p, spec, x, y, objective=gradient_norm(loss)))(p)
    assert out.report.refused > 0 and out.report.loss_change <= 1e-10
    for a, b in zip(jax.tree.leaves(out.params), jax.tree.leaves(p), strict=True):
        assert np.allclose(a, b, rtol=1e-8)  # no further than rounding would hide
    with pytest.raises(ValueError, match=r"scale:\S+' changes the loss.*kinds="):
        teleport(decayed, p, spec, x, y)


def test_wrong_generator_is_named():
    fn, p, x = nets.mlp(nets.leaky)
    spec = symmetry.infer(fn, p, x, kinds=("scale",))
    smooth = lambda p: jnp.sum(nets.mlp(jnp.tanh)[0](p, x) ** 2)  # noqa: E731
    with pytest.raises(ValueError, match="scale:h0' changes the loss"):
        teleport(smooth, p, spec)


def test_clear_errors():
    fn, p, x = nets.mlp(jnp.tanh)
    loss = lambda p: jnp.sum(fn(p, x) ** 2)  # noqa: E731
    permutations = symmetry.infer(fn, p, x, kinds=("permutation",))
    with pytest.raises(ValueError, match="no continuous generators.*kinds=None.*teleport_on_batch"):
        teleport(loss, p, permutations)
    leaky, p, x = nets.mlp(nets.leaky)
    spec = symmetry.infer(leaky, p, x, kinds=("scale",))
    loss = lambda p: jnp.sum(leaky(p, x) ** 2)  # noqa: E731
    with pytest.raises(ValueError, match="of the kinds"):
        teleport(loss, p, spec, kinds=("linear",))
    with pytest.raises(ValueError, match="`radius` positive"):
        teleport(loss, p, spec, radius=0.0)
    with pytest.raises(ValueError, match="`trust`"):
        teleport(loss, p, spec, trust="none")
    with pytest.raises(ValueError, match="generators of a spec"):
        teleport(loss, p, Action(lambda v, p: p, jnp.zeros(2)), kinds=("scale",))
    with pytest.raises(ValueError, match="no entries"):
        teleport(loss, p, Action(lambda v, p: p, {}))
    with pytest.raises(TypeError, match="expected a Spec"):
        teleport(loss, p, 3)
    with pytest.raises(ValueError, match="w0"):
        teleport(loss, p | {"w0": jnp.ones((3, 6))}, spec)
    with pytest.raises(ValueError, match="not finite"):
        teleport(lambda p: jnp.log(-jnp.sum(p["w0"] ** 2)), p, spec)


def test_gradient_norm_of_another_order():
    loss, p, x, y, spec, _ = problem("leaky MLP")
    norm = gradient_norm(loss, order=1)
    assert isinstance(norm, GradientObjective)
    report = teleport(loss, p, spec, x, y, objective=norm).report
    wanted = sum(float(jnp.sum(jnp.abs(g))) for g in jax.tree.leaves(jax.grad(loss)(p, x, y)))
    assert np.isclose(float(report.objective_before), wanted)
    assert report.objective_after > report.objective_before
