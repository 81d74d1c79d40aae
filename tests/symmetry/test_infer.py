"""infer beyond the registry: errors, reports, free ends, rules of the user's, abstract shapes."""

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry


def mlp(p, x):
    return jnp.tanh(x @ p["w0"] + p["b0"]) @ p["w1"]


def weights(key=0, h=5):
    k = jax.random.split(jax.random.key(key), 3)
    return {
        "w0": jax.random.normal(k[0], (3, h)),
        "b0": jax.random.normal(k[1], (h,)),
        "w1": jax.random.normal(k[2], (h, 2)),
    }


X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda p: {**p, "b0": jnp.arange(5)}, TypeError, "'b0' has dtype int"),
        (lambda p: {**p, "act": jax.nn.relu}, TypeError, "'act' is .*eqx.partition"),
        (lambda p: {**p, "n": 3.0}, TypeError, "'n' is float"),
        (lambda p: {**p, "w2": jnp.zeros((0, 2))}, ValueError, "'w2' has a zero-size axis"),
        (lambda p: {**p, "b0": p["b0"].at[1].set(jnp.nan)}, ValueError, "'b0' has NaN.*eval_shape"),
    ],
)
def test_bad_parameters_name_the_leaf_and_the_remedy(change, error, words):
    with pytest.raises(error, match=words):
        symmetry.infer(mlp, change(weights()), X, kinds=("permutation",))


def test_bad_inputs_are_told():
    with pytest.raises(ValueError, match="zero-size axis"):
        symmetry.infer(mlp, weights(), jnp.zeros((0, 3)), kinds=("permutation",))
    with pytest.raises(TypeError, match="close over it"):
        symmetry.infer(lambda p, x, mode: mlp(p, x), weights(), X, "train", kinds=("permutation",))
    with pytest.raises(ValueError, match="flags"):
        symmetry.infer(mlp, weights(), X, free_inputs=(True, False), kinds=("permutation",))
    with pytest.raises(ValueError, match="unknown kind"):
        symmetry.infer(mlp, weights(), X, kinds=("spin",))


def test_closing_over_a_tracer_is_told():
    def outer(scale):
        spec = symmetry.infer(lambda p, x: mlp(p, x) * scale, weights(), X, kinds=("permutation",))
        return scale * len(spec.units)

    with pytest.raises(TypeError, match="closes over a value"):
        jax.jit(outer)(jnp.ones(2))


def test_wrong_tree_and_rank_are_told_by_the_function_itself():
    with pytest.raises(KeyError):
        symmetry.infer(mlp, {"w0": weights()["w0"]}, X, kinds=("permutation",))


def test_inferring_under_jit_of_parameters_works():
    seen = []

    @jax.jit
    def f(p):
        seen.append(symmetry.infer(mlp, p, X, kinds=("permutation",)).axes)
        return p["b0"]

    f(weights())
    assert seen[0] == symmetry.infer(mlp, weights(), X, kinds=("permutation",)).axes


def test_infer_allocates_no_array():
    big = {
        "w0": jax.ShapeDtypeStruct((3, 2**40), "float32"),
        "b0": jax.ShapeDtypeStruct((2**40,), "float32"),
        "w1": jax.ShapeDtypeStruct((2**40, 2), "float32"),
    }
    spec = symmetry.infer(mlp, big, jax.ShapeDtypeStruct((4, 3), "float32"), kinds=("permutation",))
    assert [u.size for u in spec.units] == [2**40]


def test_an_unknown_primitive_pins_and_says_where():
    mystery = jax.extend.core.Primitive("test_mystery")
    mystery.def_abstract_eval(lambda a: a)

    def fn(p, x):
        h = jnp.tanh(x @ p["w0"] + p["b0"])
        return mystery.bind(h) @ p["w1"]

    with pytest.warns(UserWarning, match="no rule for .*test_infer.py"):
        spec = symmetry.infer(fn, weights(h=3), X, kinds=("permutation",))
    assert spec.units == ()
    assert any("no rule" in p.reason and "test_infer.py" in p.reason for p in spec.pinned)
    assert "no rule" in str(spec)


def test_a_rule_can_be_taught():
    scaled = jax.extend.core.Primitive("test_scaled_matmul")
    scaled.def_abstract_eval(lambda a, b: jax.core.ShapedArray((a.shape[0], b.shape[1]), a.dtype))
    scaled.def_impl(lambda a, b: 2 * a @ b)

    def fn(p, x):
        return scaled.bind(jnp.tanh(x @ p["w0"] + p["b0"]), p["w1"])

    with pytest.warns(UserWarning, match="test_scaled_matmul"):
        assert symmetry.infer(fn, weights(), X, kinds=("permutation",)).units == ()

    @symmetry.register_rule(scaled)
    def rule(walk, eqn, a, b):
        return walk.einsum([a, b], ["i k", "k j"], "i j")

    assert [u.size for u in symmetry.infer(fn, weights(), X, kinds=("permutation",)).units] == [5]
    with pytest.raises(TypeError, match="primitive"):
        symmetry.register_rule(3)


def test_unread_parameters_are_pinned_and_reported():
    p = {**weights(), "spare": jnp.ones((3, 4))}
    spec = symmetry.infer(mlp, p, X, kinds=("permutation",))
    assert spec.axes["spare"] == "_ _"
    assert {q.reason for q in spec.pinned if q.path == "spare"} == {"not read by the function"}


def test_a_position_table_read_in_part_moves_as_a_whole():
    def fn(p, x):
        return jnp.tanh(x @ p["w"] + p["pos"][:4]) @ p["out"]

    p = {"w": jnp.ones((3, 6)), "pos": jnp.ones((9, 6)), "out": jnp.ones((6, 2))}
    assert symmetry.infer(fn, p, X, kinds=("permutation",)).axes["pos"] == "_ h0"


def test_free_ends_of_an_mlp(key):
    p = weights()
    spec = symmetry.infer(mlp, p, X, free_inputs=True, free_outputs=True, kinds=("permutation",))
    assert sorted(u.size for u in spec.units) == [2, 3, 4, 5]  # logits, inputs, batch, hidden
    g = spec.sample(key)
    moved = mlp(spec.act(g, p), *spec.act_inputs(g, (X,)))
    np.testing.assert_allclose(moved, spec.act_outputs(g, mlp(p, X)), atol=1e-12)
    assert max(symmetry.check(mlp, p, spec, X, key=key).values()) < 1e-12
    half = symmetry.infer(mlp, p, X, free_outputs=True, kinds=("permutation",))
    assert sorted(u.size for u in half.units) == [2, 5]
    assert half.inputs is None


def test_attention_without_positions_is_equivariant_to_tokens(key):
    def fn(p, x):
        q, k, v = (x @ p[n] for n in "qkv")
        return jax.nn.softmax(q @ k.T) @ v

    p = {n: jax.random.normal(jax.random.fold_in(key, i), (3, 4)) for i, n in enumerate("qkv")}
    spec = symmetry.infer(fn, p, X, free_inputs=True, free_outputs=True, kinds=("permutation",))
    token = spec.inputs[0].trees[0]
    assert token == spec.outputs[0].trees[0]
    assert symmetry.check(fn, p, spec, X, key=key)[token.name] < 1e-12


def test_several_inputs_may_be_freed_apart():
    def fn(p, x, y):
        return jnp.tanh(x @ p["a"]) @ p["b"] + y

    p = {"a": jnp.ones((3, 5)), "b": jnp.ones((5, 2))}
    spec = symmetry.infer(
        fn, p, X, jnp.ones((4, 2)), free_inputs=(True, False), kinds=("permutation",)
    )
    assert [leaf.path for leaf in spec.inputs] == ["0", "1"]
    assert sorted(u.size for u in spec.units) == [3, 5]


def test_check_finds_a_wrong_spec(key):
    wrong = symmetry.parse(weights(), {"w0": "_ h", "b0": "_", "w1": "h _"})
    assert symmetry.check(mlp, weights(), wrong, X, key=key)["h"] > 1e-3
    with pytest.raises(ValueError, match="NaN or infinite"):
        symmetry.check(lambda p, x: mlp(p, x) / 0, weights(), wrong, X, key=key)


def test_no_setting_is_changed_and_the_collector_runs_again():
    import gc

    before = jax.config.jax_enable_x64
    symmetry.infer(mlp, weights(), X, kinds=("permutation",))
    assert gc.isenabled()
    assert jax.config.jax_enable_x64 == before


COORDINATES = {
    "shifted": lambda e: (e - 3) < 0,
    "compared with a number": lambda e: e == 2,
    "as a float": lambda e: e.astype(float) / 4,
    "reshaped": lambda e: e.reshape(2, 2)[:, 0].astype(float).sum() + 0 * e,
    "rows of an index": lambda e: jnp.stack([e, e], axis=-1).sum(-1) * 1.0,
    "summed one-hot": lambda e: jax.nn.one_hot(e, 5) @ jnp.arange(5.0),
    "sorted": lambda e: jnp.sort(e) * 1.0,
}


@pytest.mark.parametrize("name", COORDINATES)
def test_coordinates_read_as_numbers_are_pinned(name, key):
    def fn(p, x):
        best = jnp.argmax(x @ p["w"], axis=-1)
        return COORDINATES[name](best)[:, None] * (x @ p["out"])

    keys = jax.random.split(key, 3)
    p = {"w": jax.random.normal(keys[0], (3, 5)), "out": jax.random.normal(keys[1], (3, 2))}
    spec = symmetry.infer(fn, p, X, kinds=("permutation",))
    assert spec.units == ()


def test_choices_of_different_steps_are_not_confused(key):
    def fn(p, x):
        def step(carry, i):
            return carry + 1, jnp.tanh(x @ p["w"][i])

        _, ys = jax.lax.scan(step, 0.0, jnp.arange(3))
        return jnp.sum(ys * ys[::-1], axis=(0, 2))

    p = {"w": jax.random.normal(key, (3, 3, 4))}
    spec = symmetry.infer(fn, p, X, kinds=("permutation",))
    assert max(symmetry.check(fn, p, spec, X, key=key).values()) < 1e-12
    assert spec.log_order() == pytest.approx(np.log(24))
