"""Producers: rescaling and shifting them does to the value what it should, and to nothing before it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import registry
from wsljax.understanding.connectivity import find_producers

CASES = registry.load()
QUICK = [
    "raw/mlp_tuples",
    "raw/conv_pools_flatten_nchw",
    "raw/layer_norm",
    "linen/mlp_batchnorm_eval",
    "equinox/mlp",
]
EVERY = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(CASES)]


def built(name, seed=0):
    fn, params, inputs = CASES[name].build(jax.random.key(seed))
    floats = lambda x: x.astype("float32") if jnp.issubdtype(x.dtype, jnp.inexact) else x  # noqa: E731
    return fn, jax.tree.map(floats, params), jax.tree.map(floats, inputs)


def seen(found, places, params, inputs):
    """The values at the places."""
    return [found.run(params, inputs, {p.where: lambda x: x})[p.where] for p in places]


@pytest.mark.parametrize("name", EVERY)
def test_finite_action(name):
    """Every place: its value becomes ``s * value + t``; values before it stay."""
    with jax.enable_x64(False):
        fn, params, inputs = built(name)
        found = find_producers(fn, params, *inputs)
        leaves, treedef = jax.tree.flatten(params)
        run = jax.jit(lambda p: seen(found, found.places, p, inputs))
        before = run(params)
        rng = np.random.default_rng(0)
        for k, place in enumerate(found.places):
            steps = before[k].ndim - place.units.ndim
            if np.prod(before[k].shape[:steps]) != np.prod(place.lead):
                continue  # weights that are used again and again
            s, t = np.ones((*place.lead, place.count)), np.zeros((*place.lead, place.count))
            one = (-1,) * steps  # a later step of a stack depends on those before it
            s[one], t[one] = rng.uniform(0.5, 1.5, place.count), rng.normal(size=place.count)
            if place.shift is None:
                t[:] = 0
            changed = list(leaves)
            for entries in place.scale:
                entries.change(changed, lambda x, a: x * a, jnp.asarray(s, "float32"))
            if place.shift is not None:
                amount = jnp.asarray(t * place.shift.sign, "float32")
                place.shift.change(changed, lambda x, a: x + a, amount)
            after = run(treedef.unflatten(changed))
            want = s[..., place.units] * np.asarray(before[k]) + t[..., place.units]
            scale = np.abs(want).max() + 1e-6
            got = np.asarray(after[k])
            if steps:  # all steps but the last; that one too unless the scan runs backwards
                want, got = want[one], got[one]
            np.testing.assert_allclose(got / scale, want / scale, atol=2e-5, err_msg=place.text)
            for j in range(k):
                if found.places[j].where[0] == place.where[0] == ():
                    np.testing.assert_array_equal(before[j], after[j])


def test_what_is_read_twice_is_left_alone():
    def fn(p, x):
        return jnp.tanh(jnp.tanh(x @ p["w"]) @ p["w"] + p["b"]) @ p["out"]

    shapes = {"w": (4, 4), "b": (4,), "out": (4, 2)}
    params = {n: jnp.ones(s) for n, s in shapes.items()}
    found = find_producers(fn, params, jnp.ones((3, 4)))
    assert [p.last for p in found.places] == [True]
    assert any("w is read elsewhere too" in line for line in found.left)


def test_computed_weights_are_reported():
    def fn(p, x):
        w = p["w"] / jnp.linalg.norm(p["w"])
        return jnp.tanh(x @ w) @ p["out"]

    params = {"w": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
    found = find_producers(fn, params, jnp.ones((5, 3)))
    assert len(found.places) == 1 and found.places[0].last
    assert "computed from leaves" in found.left[0] and "test_producers.py" in found.left[0]


def test_slices_of_one_leaf():
    """Two layers whose weights lie beside each other in one leaf, one shared bias row each."""

    def fn(p, x):
        h = jnp.tanh(x @ p["w"][:, :4] + p["b"][0])
        h = jnp.tanh(x @ p["w"][:, 4:] + p["b"][1]) * h
        return h @ p["out"]

    shapes = {"w": (3, 8), "b": (2, 4), "out": (4, 2)}
    keys = jax.random.split(jax.random.key(0), 4)
    params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items())}
    x = jax.random.normal(keys[3], (5, 3))
    found = find_producers(fn, params, x)
    first, second = (p for p in found.places if not p.last)
    leaves, treedef = jax.tree.flatten(params)
    factor = jnp.arange(1.0, 5.0)
    for entries in second.scale:
        entries.change(leaves, lambda x, s: x * s, factor)
    changed = treedef.unflatten(leaves)
    np.testing.assert_array_equal(changed["w"][:, :4], params["w"][:, :4])
    np.testing.assert_array_equal(changed["b"][0], params["b"][0])
    np.testing.assert_allclose(changed["w"][:, 4:], params["w"][:, 4:] * factor)
    assert "shifted by b" in first.text


def test_a_stack_of_layers_keeps_its_steps():
    def fn(p, x):
        step = lambda h, layer: (jnp.tanh(h @ layer["w"] + layer["b"]), None)  # noqa: E731
        return jax.lax.scan(step, x, p["stack"])[0] @ p["out"]

    shapes = {"stack": {"w": (3, 4, 4), "b": (3, 4)}, "out": (4, 2)}
    params = jax.tree.map(jnp.ones, shapes, is_leaf=lambda s: isinstance(s, tuple))
    found = find_producers(fn, params, jnp.ones((5, 4)))
    place = next(p for p in found.places if not p.last)
    assert place.lead == (3,) and place.count == 4 and place.shift is not None


def test_traced_under_transformations():
    """Shapes are enough, and constants may be traced."""
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    params = {"w": shape((3, 4)), "v": shape((4, 2))}

    def count(c):
        fn = lambda p, x: jnp.tanh(c * (x @ p["w"])) @ p["v"]  # noqa: E731
        return jnp.asarray(len(find_producers(fn, params, shape((5, 3))).places))

    assert int(jax.jit(count)(2.0)) == 2
