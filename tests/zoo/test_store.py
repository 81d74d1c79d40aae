"""What is stored comes back bit for bit: every dtype, every tree, every layout of shards."""

import pickle
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.store_zoos import BYTES, assert_same, assert_same_array, small
from wsljax import symmetry
from wsljax.zoo import Population, store

DTYPES = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 complex64 bool".split()
DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def of_dtype(name, shape, seed=0):
    """Any bits at all (NaNs among them), but for bools, which are 0 or 1."""
    dtype = jnp.dtype(name)
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.random.default_rng(seed).integers(256, size=count).astype(np.uint8)
    return (raw % 2 if name == "bool" else raw).view(dtype).reshape(shape)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "zoo"


@pytest.mark.parametrize("models", [0, 1, 7, 40])
@pytest.mark.parametrize("shard_bytes", [1, 10 * BYTES, 2**26])
def test_everything_comes_back(folder, models, shard_bytes):
    population = small(models)
    store.save(population, folder, shard_bytes=shard_bytes)
    stored = store.open(folder)
    assert len(stored) == models and stored.complete and stored.damaged == ()
    assert_same(stored.population(), population)
    assert_same(stored.take(slice(None)), population)
    for name, column in population.columns.items():
        assert_same_array(stored.columns[name], column)
    assert len(list(folder.glob("shard-*"))) == {1: models, 800: -(-models // 10)}.get(
        shard_bytes, min(models, 1)
    )


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(folder, name):
    params = {"a": of_dtype(name, (9, 3, 2)), "scalar": of_dtype(name, (9,), 1)}
    params["odd"] = of_dtype("uint8", (9, 3))  # so that what follows is not aligned by chance
    population = Population(params, {"column": of_dtype(name, (9, 2), 2)})
    store.save(population, folder, shard_bytes=4 * 40)
    stored = store.open(folder)
    assert_same(stored.population(), population)
    assert_same(stored.take([8, 0, 0, 3]), population.take([8, 0, 0, 3]))
    assert_same_array(stored[5]["a"], params["a"][5])
    assert stored[5]["scalar"].shape == ()
    assert_same_array(stored[5]["scalar"], params["scalar"][5])


def test_other_byte_orders_and_layouts(folder):
    values = np.arange(24.0).reshape(4, 3, 2)
    params = {
        "swapped": values.astype(">f4"),
        "fortran": np.asfortranarray(values),
        "strided": np.repeat(values, 2, axis=0)[::2, ::-1],
        "device": jnp.asarray(values),
    }
    store.save(Population(params, {}), folder, shard_bytes=2 * 24 * 7)
    found = store.open(folder).population().params
    assert_same_array(found["swapped"], values.astype(np.float32))
    assert_same_array(found["strided"], values[:, ::-1])
    for name in ("fortran", "device"):
        assert_same_array(found[name], values)


def test_a_population_spread_over_devices(folder):
    from wsljax import train

    params = {"w": np.arange(80.0).reshape(16, 5)}
    spread = train.shard(jax.tree.map(jnp.asarray, params), train.make_mesh())
    assert len(spread["w"].sharding.device_set) == 4
    store.save(Population(spread, {"n": np.arange(16)}), folder, shard_bytes=48 * 3)
    assert_same_array(store.open(folder).population().params["w"], params["w"])


TREES = {
    "dict": {"a": {"b": 0, "c": 1}, "d": 2},
    "int keys": {"layers": {0: 0, 1: 1, 10: 2}},
    "list": [0, [1, []], {"x": 2}],
    "tuple": (0, (1,), (), None, {"x": (2, None)}),
    "bare": 0,
    "odd names": {"a/b": {"c d": 0}, "é": 1, "": 2},
}


@pytest.mark.parametrize("name", TREES)
def test_every_tree_of_dicts_lists_and_tuples(folder, name):
    params = jax.tree.map(lambda k: np.full((5, 2), k, np.float32), TREES[name])
    population = Population(params, {})
    store.save(population, folder)
    stored = store.open(folder)
    assert_same(stored.population(), population)
    assert jax.tree.structure(stored[2]) == jax.tree.structure(params)


def test_zero_length_axes_and_nothing_else(folder):
    params = {"none": np.zeros((6, 0, 4), np.float32), "some": np.arange(6.0)}
    population = Population(params, {"empty": np.zeros((6, 0), np.int32)})
    store.save(population, folder, shard_bytes=16)
    assert_same(store.open(folder).population(), population)
    only = Population({"none": params["none"]}, {})
    store.save(only, folder, overwrite=True)
    stored = store.open(folder)
    assert len(stored) == 6 and stored[5]["none"].shape == (0, 4)
    assert_same(stored.take([1, 1, 5]), only.take([1, 1, 5]))


def test_columns_without_parameters(folder):
    population = Population({}, {"score": np.arange(5)})
    store.save(population, folder)
    assert_same(store.open(folder).population(), population)


def test_shared_leaves_are_kept_if_json_knows_them(folder):
    shared = {"rate": 0.1, "depth": 3, "name": "net", "on": True, "inf": float("inf")}
    params = {"w": np.ones((4, 2)), "shared": shared}
    store.save(Population(params, {}), folder)
    found = store.open(folder)[1]["shared"]
    assert found == shared
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in shared.items()}


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


def test_named_tuples_need_like(folder):
    params = [Layer(np.arange(12.0).reshape(4, 3), np.arange(4.0))]
    store.save(Population(params, {}), folder)
    stored = store.open(folder)
    with pytest.raises(ValueError, match="named tuples or modules.*give `like=`"):
        stored.population()
    like = [Layer(jax.ShapeDtypeStruct((3,), jnp.float64), np.zeros(()))]
    found = pickle.loads(pickle.dumps(store.open(folder, like=like)))
    assert isinstance(found[2][0], Layer)
    assert_same_array(found[2][0].kernel, params[0].kernel[2])


def test_modules_and_functions_need_like(folder, key):
    make = lambda key: eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=key)  # noqa: E731
    stack = eqx.filter_vmap(make)(jax.random.split(key, 5))
    arrays = eqx.filter(make(key), eqx.is_array)
    spec = symmetry.parse(arrays, {"layers/0/weight": "h _", "layers/0/bias": "h",
                                   "layers/1/weight": "_ h", "layers/1/bias": "_"})  # fmt: skip
    store.save(Population(stack, {}, spec), folder)
    with pytest.raises(ValueError, match="give `like=`"):
        store.open(folder)[0]
    stored = store.open(folder, like=make(key))
    x = jnp.ones(3)
    one = jax.tree.map(lambda leaf: leaf[3] if eqx.is_array(leaf) else leaf, stack)
    np.testing.assert_array_equal(stored[3](x), one(x))
    assert stored.spec == spec and stored.take([1]).spec == spec
    plain = {"w": np.ones((2, 2)), "act": jnp.tanh}
    store.save(Population(plain, {}), folder, overwrite=True)
    with pytest.raises(ValueError, match="leaf 'act' is a .*give `like=`"):
        store.open(folder)[0]
    assert store.open(folder, like={"w": np.ones(2), "act": jnp.sin})[0]["act"] is jnp.sin


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"dense_0": {"kernel": np.ones((3, 4))}}, "only the zoo has 'dense_0/bias'"),
        ({"dense_1": np.ones(3)}, "not of the structure"),
        (small(2).params, r"'dense_0/bias' has shape \(2, 4\) in `like`.* without a model axis"),
    ],
)
def test_another_like_is_refused(folder, like, message):
    store.save(small(3), folder)
    with pytest.raises(ValueError, match=message):
        store.open(folder, like=like).population()


@pytest.mark.parametrize(
    ("population", "message"),
    [
        (
            Population({"k": jax.random.split(jax.random.key(0), 3)}, {}),
            "'k' has dtype key.*key_data",
        ),
        (Population({"z": np.ones(3, np.complex128)}, {}), "'z' has dtype complex128.*convert"),
        (Population({"o": np.array([{}, {}, {}])}, {}), "'o' has dtype object"),
        (Population({"w": np.ones(2)}, {"name": np.array(["a", "b"])}), "'name'.*labels"),
        (Population({}, {}), "neither arrays nor columns"),
    ],
)
def test_what_cannot_be_stored(folder, population, message):
    with pytest.raises(ValueError, match=message):
        store.save(population, folder)
