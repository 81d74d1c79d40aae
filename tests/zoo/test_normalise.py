"""Normalisers invert, commute with the group where they say so, and read published numbers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.representation.specs import SPECS, spec_of
from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.normalise import KINDS, Normaliser, finite_members

NAMES = ("mlp", "lstm", "flatten", "packed heads", "scanned")


def stack_of(spec, models=6, seed=0, dtype=np.float32):
    draw = np.random.default_rng(seed)
    return {
        leaf.path: jnp.asarray(draw.normal(k, 1 + k, size=(models, *leaf.shape)).astype(dtype))
        for k, leaf in enumerate(spec.leaves)
    }


def one(stack, k=0):
    return {path: x[k] for path, x in stack.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_inverse_and_equivariance(name, kind, key):
    spec = spec_of(SPECS[name])
    stack = stack_of(spec)
    normaliser = Normaliser.fit(stack, kind, spec)
    params = one(stack, 2)
    elements = jax.vmap(spec.sample)(jax.random.split(key, 4))

    @jax.jit
    def run(params):
        forward = normaliser.forward(params)
        first = jax.vmap(lambda g: normaliser.forward(spec.act(g, params)))(elements)
        last = jax.vmap(lambda g: spec.act(g, forward))(elements)
        return normaliser.backward(forward), first, last

    back, first, last = run(params)
    for path, x in params.items():
        assert back[path].dtype == x.dtype
        scale = np.abs(x).max() + np.abs(normaliser.mean[path]).max()
        np.testing.assert_allclose(back[path], x, atol=2e-6 * scale)
    commutes = all(np.array_equal(first[path], last[path]) for path in params)
    assert commutes == normaliser.equivariant
    if kind in ("leaf", "layer", "block", "fixed"):
        assert normaliser.equivariant
    if kind == "entry":
        assert not normaliser.equivariant


def test_numbers_are_those_of_numpy():
    spec = spec_of(SPECS["flatten"])
    stack = stack_of(spec)
    k, b = (np.asarray(stack[path], np.float64) for path in "kb")
    leaf = Normaliser.fit(stack, "leaf")
    np.testing.assert_allclose(leaf.mean["k"], k.mean(), rtol=1e-6)
    np.testing.assert_allclose(leaf.deviation["k"], k.std(), rtol=1e-6)
    position = Normaliser.fit(stack, "position")
    np.testing.assert_allclose(
        position.mean["k"], k.mean(axis=(0, 3, 4), keepdims=True)[0], rtol=1e-5
    )
    np.testing.assert_allclose(position.deviation["b"], b.std(), rtol=1e-6)
    entry = Normaliser.fit(stack, "entry")
    np.testing.assert_allclose(entry.deviation["k"], k.std(axis=0), rtol=1e-6)
    fixed = Normaliser.fit(stack, "fixed", spec)  # "_ _ _ c": all but the output channel
    np.testing.assert_allclose(fixed.mean["k"][..., 0], k.mean(axis=(0, 4)), rtol=1e-4, atol=1e-6)
    tree = {"a": {"kernel": stack["k"], "bias": stack["b"]}, "c": stack["w"]}
    layer = Normaliser.fit(tree, "layer")
    both = np.concatenate([k.ravel(), b.ravel()])
    assert layer.mean["a/kernel"] == layer.mean["a/bias"] != layer.mean["c"]
    np.testing.assert_allclose(layer.deviation["a/bias"], both.std(), rtol=1e-6)
    forward = jax.vmap(Normaliser.fit(stack, "entry").forward)(stack)
    for x in forward.values():
        np.testing.assert_allclose(np.mean(x, axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(np.std(x, axis=0), 1, atol=1e-5)


def test_packed_gates_have_their_own_numbers():
    spec = spec_of(SPECS["lstm"])
    stack = {path: x.at[..., 4:8].add(100.0) for path, x in stack_of(spec).items()}
    normaliser = Normaliser.fit(stack, "block", spec)
    gates = np.unique(normaliser.mean["b"])
    assert len(gates) == 4 and (normaliser.mean["b"][4:8] > 50).all()
    assert len(np.unique(Normaliser.fit(stack, "leaf", spec).mean["b"])) == 1


def test_training_networks_alone():
    draw = np.random.default_rng(0)
    population = Population({"w": draw.normal(size=(20, 3))}, {})
    train, rest = population.take(np.arange(10)), population.take(np.arange(10, 20))
    moved = Population({"w": np.concatenate([train.params["w"], rest.params["w"] + 1e6])}, {})
    a, b = Normaliser.fit(train, "entry"), Normaliser.fit(moved.take(np.arange(10)), "entry")
    assert np.array_equal(a.mean["w"], b.mean["w"])


def test_constant_weights_come_back_exactly():
    stack = {"zero": jnp.zeros((5, 2)), "same": jnp.full((5, 3), 0.1, jnp.float32)}
    for kind in ("leaf", "entry", "position"):
        normaliser = Normaliser.fit(stack, kind)
        forward = normaliser.forward(one(stack))
        assert all(np.isfinite(x).all() for x in forward.values())
        assert not forward["same"].any()
        back = normaliser.backward(forward)
        assert all(np.array_equal(back[path], one(stack)[path]) for path in stack)


def test_bfloat16_is_kept():
    stack = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)), jnp.bfloat16)}
    normaliser = Normaliser.fit(stack, "entry")
    forward = normaliser.forward(one(stack))
    assert forward["w"].dtype == jnp.bfloat16 and normaliser.mean["w"].dtype == jnp.float32
    np.testing.assert_allclose(
        np.float32(normaliser.backward(forward)["w"]), np.float32(stack["w"][0]), atol=0.03
    )


def test_json_and_tree_round_trips():
    spec = spec_of(SPECS["mlp"])
    stack = stack_of(spec)
    for kind, given in (("entry", None), ("fixed", spec)):
        normaliser = Normaliser.fit(stack, kind, given)
        again = Normaliser.from_json(json.loads(json.dumps(normaliser.to_json())))
        assert again.kind == kind and again.spec == given
        for path in stack:
            assert again.mean[path].dtype == normaliser.mean[path].dtype
            assert np.array_equal(again.mean[path], normaliser.mean[path])
            assert np.array_equal(again.deviation[path], normaliser.deviation[path])
    leaves, treedef = jax.tree.flatten(normaliser)
    assert len(leaves) == 2 * len(stack) and jax.tree.unflatten(treedef, leaves).kind == "fixed"
    with pytest.raises(ValueError, match="not a stored normaliser"):
        Normaliser.from_json({"format": "other", "kind": "leaf"})


def test_published_entry_wise_numbers_of_an_inr():
    draw = np.random.default_rng(0)
    widths = [(2, 5), (5, 5), (5, 1)]
    numbers = {
        "weights": {k: [draw.uniform(1, 2, size=(*w, 1)) for w in widths] for k in ("mean", "std")},
        "biases": {
            k: [draw.uniform(1, 2, size=(w[1], 1)) for w in widths] for k in ("mean", "std")
        },
    }
    params = {
        f"dense_{i}": {"kernel": jnp.zeros(w), "bias": jnp.zeros(w[1])}
        for i, w in enumerate(widths)
    }
    normaliser = Normaliser.from_statistics(numbers, params)
    assert normaliser.kind == "entry"
    for i in range(3):
        path = f"dense_{i}/kernel"
        np.testing.assert_allclose(
            normaliser.mean[path], numbers["weights"]["mean"][i][..., 0], rtol=1e-6
        )
    torch = {f"seq.{i}.weight": jnp.zeros(w[::-1]) for i, w in enumerate(widths)}
    torch |= {f"seq.{i}.bias": jnp.zeros(w[1]) for i, w in enumerate(widths)}
    other = Normaliser.from_statistics(numbers, torch, transposed=True)
    for i in range(3):
        np.testing.assert_array_equal(
            other.mean[f"seq.{i}.weight"], normaliser.mean[f"dense_{i}/kernel"].T
        )
        np.testing.assert_array_equal(
            other.deviation[f"seq.{i}.bias"], normaliser.deviation[f"dense_{i}/bias"]
        )


def test_published_position_wise_numbers_of_a_cnn():
    draw = np.random.default_rng(0)
    numbers = {
        "weights": {k: [draw.uniform(1, 2, size=(3, 3)), np.array([1.5])] for k in ("mean", "std")},
        "biases": {k: [np.array([0.5]), np.array([0.25])] for k in ("mean", "std")},
    }
    params = {"conv_0": {"kernel": jnp.zeros((3, 3, 1, 4)), "bias": jnp.zeros(4)},
              "dense_0": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}}  # fmt: skip
    normaliser = Normaliser.from_statistics(numbers, params)
    back = normaliser.backward(params)["conv_0"]["kernel"]
    np.testing.assert_allclose(back[..., 0, 3], numbers["weights"]["mean"][0], rtol=1e-6)
    with pytest.raises(ValueError, match="2 weights, the network 1"):
        Normaliser.from_statistics(numbers, {"conv_0": params["conv_0"]})
    with pytest.raises(ValueError, match=r"'conv_0/kernel' has shape \(5, 5, 1, 4\)"):
        wrong = {**params, "conv_0": {"kernel": jnp.zeros((5, 5, 1, 4)), "bias": jnp.zeros(4)}}
        Normaliser.from_statistics(numbers, wrong)
    with pytest.raises(ValueError, match="KeyError.*biases"):
        Normaliser.from_statistics({"weights": numbers["weights"]}, params)


def test_errors_name_what_is_wrong():
    x = np.ones((6, 3), np.float32)
    x[2, 1], x[4, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"2 of 6 networks hold NaN or infinity.*\[2, 4\]"):
        Normaliser.fit({"w": x})
    assert finite_members(Population({"w": x}, {})).tolist() == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    with pytest.raises(ValueError, match="unknown kind 'channel'"):
        Normaliser.fit({"w": np.ones((2, 3))}, "channel")
    with pytest.raises(ValueError, match="'block' needs a `spec`"):
        Normaliser.fit({"w": np.ones((2, 3))}, "block")
    with pytest.raises(ValueError, match="length 0"):
        Normaliser.fit({"w": np.ones((0, 3))})
    normaliser = Normaliser.fit({"w": np.random.default_rng(0).normal(size=(4, 3))}, "entry")
    with pytest.raises(ValueError, match=r"missing \['w'\], unknown \['v'\]"):
        normaliser.forward({"v": np.ones(3)})
    with pytest.raises(ValueError, match=r"'w' has shape \(4, 3\).*jax.vmap"):
        normaliser.forward({"w": np.ones((4, 3))})
    assert Normaliser.fit({"w": np.ones((2, 3, 3, 4, 4))}, "position").equivariant is None
