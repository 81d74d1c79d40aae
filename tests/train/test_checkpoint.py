"""Checkpoints: what is saved comes back as it was, and a wrong target is an error with a path."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from wsljax import train


class State(NamedTuple):
    model: eqx.nn.MLP
    opt_state: tuple
    key: jax.Array
    count: jax.Array
    nothing: None


def make_state(key, width=8):
    model = eqx.nn.MLP(2, 3, width, depth=2, key=key)
    opt_state = optax.adam(1e-3).init(eqx.filter(model, eqx.is_inexact_array))
    return State(model, opt_state, jax.random.split(key, 3), jnp.int32(7), None)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        if eqx.is_array(x) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            assert jax.random.key_impl(x) == jax.random.key_impl(y)
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        if eqx.is_array(x) or isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        else:
            assert x is y


@pytest.fixture
def store(tmp_path):
    with train.Checkpointer(tmp_path / "checkpoints") as store:
        yield store


def test_a_training_state_comes_back(store, key):
    state = make_state(key)
    store.save(3, state, {"history": [{"loss": 0.5}], "spec": "{}"})
    other = make_state(jax.random.key(1))
    assert_same(store.restore(other), state)
    assert store.items() == {"history": [{"loss": 0.5}], "spec": "{}"}
    x = jnp.ones(2)
    np.testing.assert_array_equal(store.restore(other).model(x), state.model(x))


def test_an_abstract_target_will_do(store, key):
    tree = {"a": jnp.ones((2, 3), jnp.bfloat16), "key": jax.random.key(5), "b": np.arange(4)}
    store.save(0, tree)
    abstract = jax.eval_shape(lambda: {**tree, "b": jnp.asarray(tree["b"])})
    found = store.restore(abstract)
    assert found["a"].dtype == jnp.bfloat16
    assert jax.random.uniform(found["key"]) == jax.random.uniform(tree["key"])
    np.testing.assert_array_equal(found["b"], tree["b"])


def test_numpy_scalars_keep_their_type(store):
    tree = {"best": np.float32(0.25), "array": np.arange(3.0)}
    store.save(1, tree)
    found = store.restore(tree)
    assert isinstance(found["best"], np.float32) and found["best"] == tree["best"]
    assert isinstance(found["array"], np.ndarray)


def test_the_newest_stay(tmp_path):
    with train.Checkpointer(tmp_path / "c", keep=2) as store:
        assert store.latest() is None
        for step in (1, 2, 10):
            store.save(step, {"a": jnp.full(2, step)})
        assert store.steps() == (2, 10)
        np.testing.assert_array_equal(store.restore({"a": jnp.zeros(2, int)}, 2)["a"], [2, 2])
        store.save(10, {"a": jnp.full(2, 11)})  # the same step again
        np.testing.assert_array_equal(store.restore({"a": jnp.zeros(2, int)})["a"], [11, 11])


def test_another_process_finds_it(tmp_path):
    with train.Checkpointer(tmp_path / "c") as store:
        store.save(4, {"a": jnp.ones(2)})
    with train.Checkpointer(tmp_path / "c") as store:
        assert store.latest() == 4
        np.testing.assert_array_equal(store.restore({"a": jnp.zeros(2)})["a"], [1, 1])


def test_arrays_come_back_sharded_as_the_target(store):
    mesh = train.make_mesh()
    tree = {"a": jnp.arange(8.0)}
    store.save(0, tree)
    found = store.restore(train.shard({"a": jnp.zeros(8)}, mesh))
    assert found["a"].sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("zoo")), 1)
    np.testing.assert_array_equal(found["a"], tree["a"])


def test_errors_name_the_leaf_and_the_remedy(store):
    store.save(1, {"layer": {"kernel": jnp.ones((2, 3))}})
    with pytest.raises(ValueError, match=r"layer/kernel.*\(2, 3\) float64.*\(2, 4\).*settings"):
        store.restore({"layer": {"kernel": jnp.ones((2, 4))}})
    with pytest.raises(ValueError, match="float64.*float32"):
        store.restore({"layer": {"kernel": jnp.ones((2, 3), jnp.float32)}})
    with pytest.raises(ValueError, match="no leaf 'layer/bias'"):
        store.restore({"layer": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}})
    with pytest.raises(ValueError, match="also holds 'layer/kernel'"):
        store.restore({})
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 5; it has the steps \[1\]"):
        store.restore({}, 5)


def test_an_empty_folder_is_an_error_that_says_so(store):
    with pytest.raises(FileNotFoundError, match="no checkpoint at all"):
        store.restore({"a": jnp.ones(1)})
