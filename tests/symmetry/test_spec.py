"""Spec: the group's laws on every form of annotation, blocks, JSON, and misuse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry

FORMS = {
    "plain": ({"a": (3, 4), "b": (4,)}, {"a": "_ h", "b": "h"}),
    "thrice": ({"t": (4, 4, 4), "b": (4,)}, {"t": "h h h", "b": "h"}),
    "wreath in one axis": ({"a": (5, 6), "b": (6, 5)}, {"a": "d (g=2 q[g])", "b": "(g q[g]) d"}),
    "wreath over two axes": ({"a": (2, 3, 5)}, {"a": "g q[g] d"}),
    "wreath of wreaths": ({"a": (2, 3, 4)}, {"a": "a b[a] c[a,b]"}),
    "over a fixed axis": ({"a": (3, 5, 4), "b": (3, 4)}, {"a": "_L d m[_L]", "b": "_L m[_L]"}),
    "sums": ({"a": (9, 4), "b": (5,)}, {"a": "h+_1+v h", "b": "h+_1"}),
    "gates": ({"a": (12, 3), "b": (12,)}, {"a": "h+h+h+h h", "b": "h+h+h+h"}),
    "alternatives": ({"a": (3, 2, 4), "b": (2, 4)}, {"a": "_2+_1 g q[g]|v[g]", "b": "g v[g]"}),
    "product unit": ({"a": (5, 8), "b": (8,)}, {"a": "_ (u.0=2 u.1=4)", "b": "(u.1 u.0)"}),
    "parents of one name": (
        {"a": (12, 5), "g": (2,)},
        {"a": "(g g t[g,g]) c[g#1]", "g": "g"},
    ),
}


@pytest.fixture(params=FORMS, ids=list(FORMS))
def form(request):
    shapes, texts = FORMS[request.param]
    keys = jax.random.split(jax.random.key(1), len(shapes))
    params = {k: jax.random.normal(r, s) for r, (k, s) in zip(keys, shapes.items(), strict=True)}
    return symmetry.parse(params, texts), params


def same(a, b):
    return all(
        jnp.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_act_is_an_action(form, key):
    spec, params = form
    g1, g2 = spec.sample(key), spec.sample(jax.random.fold_in(key, 1))
    assert same(spec.act(spec.identity(), params), params)
    assert same(spec.act(spec.compose(g2, g1), params), spec.act(g2, spec.act(g1, params)))
    assert same(spec.act(spec.inverse(g1), spec.act(g1, params)), params)
    assert same(spec.compose(g1, spec.inverse(g1)), spec.identity())


def test_elements_move_something_and_keep_all_entries(form, key):
    spec, params = form
    tries = [spec.act(spec.sample(k), params) for k in jax.random.split(key, 8)]
    assert not all(same(t, params) for t in tries)
    moved = tries[0]
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True):
        assert np.array_equal(np.sort(np.ravel(a)), np.sort(np.ravel(b)))


def test_the_action_under_jit_vmap_and_grad(form, key):
    spec, params = form
    g = spec.sample(key)
    assert same(jax.jit(spec.act)(g, params), spec.act(g, params))
    stack = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    gs = jax.vmap(spec.sample)(jax.random.split(key, 2))
    each = jax.vmap(spec.act)(gs, stack)
    for i in range(2):
        g_i, p_i, each_i = jax.tree.map(lambda x, i=i: x[i], (gs, stack, each))
        assert same(each_i, spec.act(g_i, p_i))
    weights = jax.tree.map(lambda x: jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), params)

    def value(p):
        return sum(
            jnp.vdot(a, b)
            for a, b in zip(jax.tree.leaves(spec.act(g, p)), jax.tree.leaves(weights), strict=True)
        )

    assert same(jax.grad(value)(params), spec.act(spec.inverse(g), weights))


def test_blocks_are_exact_and_move_by_their_labels(form, key):
    spec, params = form
    blocks = spec.blocks(params)
    assert same(spec.unblocks(blocks), params)
    g = spec.sample(key)
    moved = spec.blocks(spec.act(g, params))
    for block in spec.layout:
        x = np.asarray(blocks[block.name])
        assert x.shape == block.shape
        grid = list(np.indices(x.shape))
        old = list(grid)
        for axis, name in enumerate(block.axes):
            if not name.startswith("_"):
                perm = np.asarray(g[name])
                old[axis] = perm[tuple(grid[p] for p in block.parents[axis]) + (grid[axis],)]
        assert np.array_equal(moved[block.name], x[tuple(old)])


def test_json_keeps_everything(form):
    spec, params = form
    again = symmetry.Spec.from_json(spec.to_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert same(again.unblocks(spec.blocks(params)), params)
    assert symmetry.parse(params, spec.axes).units == spec.units


def test_equal_specs_are_traced_once(form, key):
    spec, params = form
    again = symmetry.Spec.from_json(spec.to_json())
    count = 0

    @jax.jit
    def f(s, p):
        nonlocal count
        count += 1
        return s.act(s.sample(key), p)

    f(spec, params)
    f(again, params)
    assert count == 1


def test_log_order_counts_permutations():
    params = {"a": jnp.zeros((2, 3, 4))}
    spec = symmetry.parse(params, {"a": "g q[g] _"})
    assert math.isclose(spec.log_order(), math.log(2 * 6**2))


def test_sampling_is_uniform():
    spec = symmetry.parse({"a": jnp.zeros((2, 3))}, {"a": "_L m[_L]"})
    keys = jax.random.split(jax.random.key(0), 6000)
    perms = np.asarray(jax.vmap(lambda k: spec.sample(k)["m"])(keys))
    code = perms @ np.array([9, 3, 1])
    joint = code[:, 0] * 100 + code[:, 1]
    _, counts = np.unique(joint, return_counts=True)
    assert len(counts) == 36
    assert counts.min() > 110 and counts.max() < 230  # 166.7 expected, over 4 deviations


def test_misuse_is_told():
    params = {"a": jnp.zeros((3, 4))}
    spec = symmetry.parse(params, {"a": "_ h"})
    with pytest.raises(ValueError, match="missing \\['a'\\]"):
        spec.act({}, {"b": params["a"]})
    with pytest.raises(ValueError, match="jax.vmap"):
        spec.act({}, {"a": jnp.zeros((5, 3, 4))})
    with pytest.raises(ValueError, match="'z'"):
        spec.act({"z": jnp.arange(4)}, params)
    with pytest.raises(ValueError, match="expected \\(4,\\)"):
        spec.act({"h": jnp.arange(3)}, params)
    with pytest.raises(ValueError, match="unknown kind"):
        spec.sample(jax.random.key(0), kinds=("rotation",))
    with pytest.raises(ValueError, match="not a spec"):
        symmetry.Spec.from_json("{}")
    with pytest.raises(ValueError, match="missing"):
        spec.unblocks({})


def test_dtype_is_kept(key):
    for dtype in ("float32", "bfloat16", "float64", "complex64"):
        params = {"a": jnp.ones((3, 4), dtype)}
        spec = symmetry.parse(params, {"a": "_ h"})
        assert spec.act(spec.sample(key), params)["a"].dtype == dtype
