"""Geometries: paths stay on the manifold, velocities are tangent, and maps are those of spheres."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.generation.flow import Geometry
from wsljax.generation.geometry import Euclidean, Spheres, incoming, normalising
from wsljax.generation.spaces import SphereSpace

SCALES = ("permutation", "scale")
NETS = {
    "relu": functools.partial(nets.mlp, jax.nn.relu),
    "convolution": nets.convolution,
    "batch norm in inference": functools.partial(nets.batch_norm, False),
    "batch norm in training": functools.partial(nets.batch_norm, True),
}


@functools.cache
def ready(name):
    fn, params, x = NETS[name]()
    return fn, params, x, symmetry.infer(fn, params, x, kinds=SCALES)


def normal(key, like, dtype=None):
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, x.shape, dtype or x.dtype) for k, x in zip(keys, leaves)]
    return jax.tree.unflatten(treedef, drawn)


def lengths(geometry, x):
    """Of the weights into each unit, computed entry by entry."""
    blocks = {n: np.asarray(b, np.float64) for n, b in geometry.spec.blocks(x).items()}
    out = {}
    for gen in geometry.spheres:
        total = np.zeros(gen.shape)
        for term in gen.terms:
            b = blocks[term.block]
            for index in np.ndindex(b.shape):
                if all(index[axis] == k for axis, k in term.part):
                    total[tuple(index[k] for k in term.where)] += b[index] ** 2
        out[gen.name] = np.sqrt(total)
    return out


def inner(geometry, x, v):
    both = (
        lengths(geometry, jax.tree.map(jnp.add, x, v)),
        lengths(geometry, x),
        lengths(geometry, v),
    )
    return {n: (both[0][n] ** 2 - both[1][n] ** 2 - both[2][n] ** 2) / 2 for n in both[0]}


def far(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.max(jnp.abs(x - y)) / (1e-12 + jnp.max(jnp.abs(y)))) for x, y in pairs)


def compiled(name):
    return eqx.filter_jit(lambda geometry, *args: getattr(geometry, name)(*args))


project, tangent, interpolate = compiled("project"), compiled("tangent"), compiled("interpolate")
exp, log, distance = compiled("exp"), compiled("log"), compiled("distance")


# ------------------------------------------------------------------------------ which weights
def test_incoming_weights_are_found():
    def blocks(name):
        return [sorted(t.block for t in g.terms) for g in incoming(ready(name)[3])]

    assert blocks("relu") == [["b0", "w0"], ["b1", "w1"]]
    assert blocks("batch norm in training") == [["w0"], ["g", "s"]]
    # variances have the exponent two, and an offset
    assert blocks("batch norm in inference") == [["b0", "mean", "w0"], ["g", "s"]]
    assert blocks("convolution") == [["b0", "b1", "k0"]]  # a residual stream: k1 goes in and out
    recurrent = {"wx": jnp.ones((2, 3)), "wh": jnp.ones((3, 3)), "wo": jnp.ones((3, 1))}

    def rnn(p, x):
        step = lambda h, v: (jax.nn.relu(v @ p["wx"] + h @ p["wh"]), None)  # noqa: E731
        return jax.lax.scan(step, jnp.zeros(3), x)[0] @ p["wo"]

    spec = symmetry.infer(rnn, recurrent, jnp.ones((4, 2)), kinds=SCALES)
    assert [[t.block for t in g.terms] for g in incoming(spec)] == [["wx"]]
    with pytest.raises(ValueError, match="no scaling generator"):
        incoming(spec, ["s"])
    with pytest.raises(ValueError, match="incoming weights may be scaled"):
        Spheres(symmetry.parse(recurrent, {"wx": "_ h", "wh": "h h", "wo": "h _"}))


@pytest.mark.parametrize("name", NETS)
def test_normalising_keeps_the_function(name):
    fn, params, x, spec = ready(name)
    geometry = Spheres(spec, lengths=1.0)
    element = normalising(params, spec, geometry.spheres, dict(geometry.lengths))
    there = spec.act(element, params)
    for found in lengths(geometry, there).values():
        np.testing.assert_allclose(found, 1, atol=1e-9)
    assert far(fn(there, x), fn(params, x)) < 1e-8
    assert far(project(geometry, there), there) < 1e-9
    scaled = spec.act(spec.sample(jax.random.key(0), kinds=("scale",)), params)
    again = normalising(scaled, spec, geometry.spheres, dict(geometry.lengths))
    on = {t.block for g in geometry.spheres for t in g.terms if not t.part}
    a, b = spec.blocks(spec.act(again, scaled)), spec.blocks(there)
    if name in ("relu", "convolution"):  # one network of each orbit, if all scalings are used
        assert far({n: a[n] for n in on}, {n: b[n] for n in on}) < 1e-8


def test_units_without_weights_stay_as_they_are():
    fn, params, x, spec = ready("relu")
    params = params | {"w0": params["w0"].at[:, 2].set(0), "b0": params["b0"].at[2].set(0)}
    geometry = Spheres(spec)
    element = normalising(params, spec, geometry.spheres, dict(geometry.lengths))
    moved = spec.act(element, params)
    assert float(jnp.abs(moved["w0"][:, 2]).max()) == 0
    assert far(fn(moved, x), fn(params, x)) < 1e-9
    y = project(geometry, normal(jax.random.key(0), params))
    for found in (
        project(geometry, params),
        *interpolate(geometry, project(geometry, params), y, jnp.asarray(0.5)),
    ):
        assert all(bool(jnp.isfinite(v).all()) for v in jax.tree.leaves(found))
    slope = jax.grad(lambda p: sum(jnp.sum(v) for v in jax.tree.leaves(project(geometry, p))))(
        params
    )
    assert all(bool(jnp.isfinite(v).all()) for v in jax.tree.leaves(slope))


# ------------------------------------------------------------------------------ paths
@pytest.mark.parametrize("name", ["relu", pytest.param("convolution", marks=pytest.mark.slow)])
@given(st.integers(0, 2**31 - 1), st.floats(0, 1), st.sampled_from(["float32", "float64"]))
@settings(max_examples=6)
def test_paths_keep_lengths_and_velocities_are_tangent(name, seed, t, dtype):
    _, params, _, spec = ready(name)
    geometry = Spheres(spec)
    k0, k1, k2 = jax.random.split(jax.random.key(seed), 3)
    x0, x1 = (project(geometry, normal(k, params, dtype)) for k in (k0, k1))
    x, v = interpolate(geometry, x0, x1, jnp.asarray(t, dtype))
    goal = dict(geometry.lengths)
    tolerance = 1e-6 if dtype == "float64" else 3e-6
    for n, found in lengths(geometry, x).items():
        np.testing.assert_allclose(found / goal[n], 1, atol=tolerance)
    speed = lengths(geometry, v)
    for n, found in inner(geometry, x, v).items():
        assert np.all(np.abs(found) <= tolerance * goal[n] * (1 + speed[n]))
    w = tangent(geometry, x, normal(k2, params, dtype))
    for n, found in inner(geometry, x, w).items():
        assert np.all(np.abs(found) <= tolerance * goal[n] * (1 + lengths(geometry, w)[n]))
    for n, found in lengths(geometry, exp(geometry, x, w)).items():
        np.testing.assert_allclose(found / goal[n], 1, atol=tolerance)


def test_paths_are_geodesics():
    _, params, _, spec = ready("relu")
    geometry = Spheres(spec)
    x0, x1 = (project(geometry, normal(jax.random.key(k), params)) for k in (0, 1))
    path = lambda t: interpolate(geometry, x0, x1, t)  # noqa: E731
    for t, end in ((0.0, x0), (1.0, x1)):
        assert far(path(jnp.asarray(t))[0], end) < 1e-9
    t = jnp.asarray(0.3)
    x, v = path(t)
    slope = jax.jvp(lambda s: path(s)[0], (t,), (jnp.ones(()),))[1]
    assert far(v, slope) < 1e-9  # the velocity is the derivative
    start = log(geometry, x0, x1)
    assert far(exp(geometry, x0, start), x1) < 1e-9
    assert far(exp(geometry, x0, jax.tree.map(lambda a: 0.3 * a, start)), x) < 1e-9
    for n, found in lengths(geometry, v).items():  # of constant speed
        np.testing.assert_allclose(found, lengths(geometry, start)[n], rtol=1e-9)
    assert far(x["w2"], 0.7 * x0["w2"] + 0.3 * x1["w2"]) < 1e-12  # straight where it is free
    angles = [np.arccos(a / geometry.lengths[0][1] ** 2) for a in _inner_products(geometry, x0, x1)]
    speed = lengths(geometry, start)[geometry.spheres[0].name] / geometry.lengths[0][1]
    np.testing.assert_allclose(speed, angles[0], rtol=1e-9)
    one = distance(geometry, x0, x) / distance(geometry, x0, x1)
    assert float(one) == pytest.approx(0.3, abs=1e-9)


def _inner_products(geometry, x, y):
    return [inner(geometry, x, y)[gen.name] for gen in geometry.spheres]


def test_projecting_is_differentiable_and_its_derivative_is_the_tangent_part():
    _, params, _, spec = ready("relu")
    geometry = Spheres(spec)
    x = project(geometry, normal(jax.random.key(0), params))
    v = normal(jax.random.key(1), params)
    assert far(jax.jvp(geometry.project, (x,), (v,))[1], tangent(geometry, x, v)) < 1e-9
    twice = tangent(geometry, x, tangent(geometry, x, v))
    assert far(twice, tangent(geometry, x, v)) < 1e-9


def test_close_and_opposite_points():
    _, params, _, spec = ready("relu")
    geometry = Spheres(spec)
    x = project(geometry, normal(jax.random.key(0), params))
    same, still = interpolate(geometry, x, x, jnp.asarray(0.4))
    assert (
        far(same, x) < 1e-9 and max(float(jnp.abs(v).max()) for v in jax.tree.leaves(still)) < 1e-9
    )
    near = exp(geometry, x, tangent(geometry, x, jax.tree.map(lambda a: 1e-9 * a, params)))
    back = exp(geometry, x, log(geometry, x, near))
    assert far(back, near) < 1e-12
    opposite = jax.tree.map(jnp.negative, x)
    for found in interpolate(geometry, x, opposite, jnp.asarray(0.5)):
        assert all(bool(jnp.isfinite(v).all()) for v in jax.tree.leaves(found))


# ------------------------------------------------------------------------------ the group, and flows
def test_geometry_commutes_with_permutations():
    _, params, _, spec = ready("relu")
    geometry = Spheres(spec)
    g = spec.sample(jax.random.key(2), kinds=("permutation",))
    move = functools.partial(spec.act, g)
    x0, x1 = (normal(jax.random.key(k), params) for k in (0, 1))
    assert far(project(geometry, move(x0)), move(project(geometry, x0))) < 1e-12
    x0, x1 = project(geometry, x0), project(geometry, x1)
    a = interpolate(geometry, move(x0), move(x1), jnp.asarray(0.2))
    b = interpolate(geometry, x0, x1, jnp.asarray(0.2))
    assert far(a, tuple(move(v) for v in b)) < 1e-12


def test_both_are_geometries_of_flows():
    _, params, _, spec = ready("relu")
    for geometry in (Euclidean(), Spheres(spec)):
        assert isinstance(geometry, Geometry)
    line = Euclidean()
    x, v = line.interpolate(params, jax.tree.map(jnp.zeros_like, params), jnp.asarray(0.25))
    assert far(x, jax.tree.map(lambda a: 0.75 * a, params)) < 1e-12
    assert far(line.exp(params, v), jax.tree.map(lambda a: 0 * a, params)) < 1e-12
    assert line.project(params) is params and line.tangent(params, v) is v


def test_small_steps_along_the_field_follow_the_path():
    """Euler steps by the exponential map, along the exact field of one pair, end at the target."""
    _, params, _, spec = ready("relu")
    stack = jax.tree.map(lambda v: jnp.stack([v, v + 0.1]), params)
    space = SphereSpace.fit(stack, spec=spec)
    geometry = space.geometry
    target = space.encode(params)
    x = project(geometry, normal(jax.random.key(0), target))

    def step(x, t):
        towards = geometry.log(x, target)
        return geometry.exp(x, jax.tree.map(lambda v: v / (5 - t), towards)), None

    found = jax.lax.scan(step, x, jnp.arange(5.0))[0]
    assert far(found, target) < 1e-6
