"""Spec: the group's laws on every form of annotation, blocks, JSON, and misuse."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.symmetry.axes import Alt, Fixed, Prod, Reorder, Sum, Unit

from . import brute_force

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
    "flipped": ({"a": (3, 4), "b": (4, 2)}, {"a": "_ h", "b": "h{::-1} _"}),
    "rolled on both sides": ({"a": (4, 4), "b": (4,)}, {"a": "h{1:,0} h{3,0,2,1}", "b": "h"}),
    "alternating": ({"a": (3, 6), "b": (3,)}, {"a": "_ (e+o){0,3,1,4,2,5}", "b": "e"}),
    "scattered in padding": (
        {"a": (7, 2), "b": (3,)},
        {"a": "(h+_2+v){3,0,4,5,1,2,6} _", "b": "h"},
    ),
    "flipped heads": (
        {"a": (5, 6), "b": (2, 3, 5)},
        {"a": "(_2+d){4,1,2,0,3} (g=2 q[g]){::-1}", "b": "g{1,0} q[g]{2,0,1} _2+d"},
    ),
    "reindexed alternatives": (
        {"a": (3, 2, 4), "b": (2, 4)},
        {"a": "(_2+_1){0,2,1} g{::-1} q[g]|v[g]", "b": "g v[g]{3,0,2,1}"},
    ),
    "reindexed product unit": (
        {"a": (5, 8), "b": (8, 2)},
        {"a": "_ (u.0=2 u.1=4){::3,1::3,2::3}", "b": "(u.1 u.0) _2{::-1}"},
    ),
    "factors on two reindexed axes": (
        {"a": (2, 5, 4), "b": (8,)},
        {"a": "u.0{1,0} _ u.1{2:,:2}", "b": "(u.0 u.1)"},
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


def test_the_action_is_what_the_grammar_says(form, key):
    """Against a reading of the grammar entry by entry, in numpy."""
    spec, params = form
    g = spec.sample(key)
    moved = spec.act(g, params)
    for leaf in spec.leaves:
        expected = brute_force.act(spec, g, leaf, np.asarray(params[leaf.path]))
        assert np.array_equal(moved[leaf.path], expected), spec.axes[leaf.path]


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


def hidden(fn_of_hidden, units, out, key):
    """``fn(params, x) = fn_of_hidden(tanh(x w)) o`` with its parameters and an input."""
    keys = jax.random.split(key, 3)
    params = {
        "w": jax.random.normal(keys[0], (3, units)),
        "o": jax.random.normal(keys[1], (out, 2)),
    }
    fn = lambda p, x: fn_of_hidden(jnp.tanh(x @ p["w"])) @ p["o"]  # noqa: E731
    return fn, params, jax.random.normal(keys[2], (5, 3))


REINDEXED = {
    "flip": (lambda h: h[:, ::-1], 7, 7, {"w": "_ h", "o": "h{::-1} _"}),
    "roll": (lambda h: jnp.roll(h, -1, 1), 5, 5, {"w": "_ h", "o": "h{1:,0} _"}),
    "roll, seen from the other side": (
        lambda h: jnp.roll(h, 1, 1),
        5,
        5,
        {"w": "_ h{1:,0}", "o": "h _"},
    ),
    "strided": (
        lambda h: jnp.concatenate([h[:, ::2], h[:, 1::2]], 1),
        6,
        6,
        {"w": "_ h", "o": "h{::2,1::2} _"},
    ),
    "alternating signs": (
        lambda h: h * jnp.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]) + jnp.array([1.0, 0.0] * 3),
        6,
        6,
        {"w": "_ (e=3+o){0,3,1,4,2,5}", "o": "(e+o){0,3,1,4,2,5} _"},
    ),
    "padded on both sides": (
        lambda h: jnp.pad(h, ((0, 0), (2, 1))),
        4,
        7,
        {"w": "_ h", "o": "(h+v){4,5,:4,6} _"},
    ),
}


@pytest.mark.parametrize("name", REINDEXED)
def test_functions_that_reorder_their_units(name, key):
    of_hidden, units, out, texts = REINDEXED[name]
    fn, params, x = hidden(of_hidden, units, out, key)
    spec = symmetry.parse(params, texts)
    changes = symmetry.check(fn, params, spec, x, key=key)
    assert set(changes) == {u.name for u in spec.units} | {"all"}
    assert max(changes.values()) < 1e-5, spec
    # without the reindexing the same annotation is wrong, and the check says so
    bare = {k: re.sub(r"\{.*?\}", "", t) for k, t in texts.items()}
    wrong = symmetry.parse(params, bare)
    assert max(symmetry.check(fn, params, wrong, x, key=key).values()) > 1e-2


def test_reindexed_inputs_and_outputs(key):
    def fn(p, x):
        return jnp.tanh(x[:, ::-1] * p["a"])[:, jnp.array([2, 0, 1, 3])]

    params, x = {"a": jax.random.normal(key, (4,))}, jax.random.normal(key, (3, 4))
    leaf = symmetry.Leaf
    h = Unit("h", 4)
    spec = symmetry.Spec(
        (leaf("a", (4,), (h,)),),
        (symmetry.Units("h", 4),),
        inputs=(leaf("0", (3, 4), (Fixed(3), Reorder(h, (3, 2, 1, 0)))),),
        outputs=(leaf("", (3, 4), (Fixed(3), Reorder(h, (2, 0, 1, 3)))),),
    )
    spec.validate()
    assert max(symmetry.check(fn, params, spec, x, key=key).values()) == 0.0
    assert symmetry.Spec.from_json(spec.to_json()) == spec
    assert "h{::-1}" in repr(spec) and "h{2,:2,3}" in repr(spec)


def test_the_table_shortens_a_long_order():
    order = ",".join(map(str, np.random.default_rng(0).permutation(200)))
    spec = symmetry.parse({"a": jnp.zeros((200, 3))}, {"a": f"h{{{order}}} _"})
    row = next(line for line in repr(spec).splitlines() if line.startswith("a "))
    assert row.endswith(",...} _") and len(row) < 80
    assert symmetry.Spec.from_json(spec.to_json()) == spec


def test_no_gather_where_an_order_is_a_few_runs():
    spec = symmetry.parse({"a": jnp.zeros((8, 3))}, {"a": "h{::-1} _"})
    text = str(jax.make_jaxpr(lambda p: spec.unblocks(spec.blocks(p)))({"a": jnp.zeros((8, 3))}))
    assert "rev" in text and "gather" not in text


def test_wrong_reindexing_is_told_with_the_leaf():
    h, v = Unit("h", 2), Unit("v", 2)
    cases = [
        (Reorder(Sum((h, v)), (0, 1, 2)), "lists 3 coordinates"),
        (Reorder(Sum((h, v)), (0, 1, 2, 4)), "3 is missing, 4 is out of range"),
        (Reorder(Sum((h, v)), (0, 1, 2, 2)), "3 is missing, 2 is there twice"),
        (Reorder(Sum((h, v)), "::-1"), "still the text"),
        (Sum((h, Reorder(v, (1, 0)))), "only a whole axis"),
        (Prod((Reorder(h, (1, 0)), v)), "only a whole axis"),
        (Reorder(Reorder(Sum((h, v)), (1, 0, 2, 3)), (1, 0, 2, 3)), "only a whole axis"),
        (Reorder(Alt(1, (Prod((h, v)), Prod((v, h)))), (1, 0, 2, 3)), "alternatives"),
    ]
    for tree, words in cases:
        leaf = symmetry.Leaf("w/x", (4, 2), (tree, Sum((Fixed(1), Fixed(1)))))
        spec = symmetry.Spec((leaf,), (symmetry.Units("h", 2), symmetry.Units("v", 2)))
        with pytest.raises(ValueError, match=f"'w/x': axis 0: .*{words}"):
            spec.validate()
    good = symmetry.parse({"w": jnp.zeros(4)}, {"w": "h{::-1}"}).to_json()
    with pytest.raises(ValueError, match="'w': .*lists 3 coordinates"):
        symmetry.Spec.from_json(good.replace("{::-1}", "{:3}"))


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_leaves_are_welcome(dtype, x64):
    """Leaves, inputs, outputs and elements may be numpy; they come back as jax holds them."""

    def fn(p, x):
        return jnp.tanh(x @ p["w"]) @ p["o"]

    random = np.random.default_rng(0)
    params = {"w": random.normal(size=(3, 4)).astype(dtype), "o": np.ones((4, 2), dtype)}
    x, y = random.normal(size=(5, 3)).astype(dtype), random.normal(size=(5, 2)).astype(dtype)
    with jax.enable_x64(x64):
        spec = symmetry.infer(
            fn, params, x, free_inputs=True, free_outputs=True, kinds=("permutation",)
        )
        key = jax.random.key(0)
        g = {name: np.asarray(perm) for name, perm in spec.sample(key).items()}
        assert same(spec.act_inputs(g, (x,)), spec.act_inputs(g, (jnp.asarray(x),)))
        assert same(spec.act_outputs(g, y), spec.act_outputs(g, jnp.asarray(y)))
        moved, as_jax = spec.act(g, params), jax.tree.map(jnp.asarray, params)
        assert same(moved, spec.act(g, as_jax))
        kept = dtype if x64 else "float32"
        assert all(isinstance(a, jax.Array) and a.dtype == kept for a in moved.values())
        assert same(spec.act(spec.inverse(g), moved), as_jax)
        assert same(spec.unblocks(spec.blocks(params)), as_jax)
        assert max(symmetry.check(fn, params, spec, x, key=key).values()) < 1e-5
