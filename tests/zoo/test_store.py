"""What is stored comes back bit for bit, in any order, with all that is known of it."""

import json
import pickle
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.store_zoos import BYTES, assert_same, assert_same_array, numbers, small
from wsljax import symmetry, zoo
from wsljax.zoo import Evaluation, Function, Population, store

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


def test_what_is_known_of_a_population_is_kept(folder):
    function = Function("mlp", {"widths": (3, 5, 2), "activation": ("relu", "tanh")})
    rows = {"activation": np.arange(20) % 2, "run": np.arange(20)}
    keys = jax.random.split(jax.random.key(0), 20)
    params = jax.vmap(lambda key: function.init({}, key=key))(keys)
    one = jax.tree.map(lambda leaf: leaf[0], params)
    spec = function.infer(one)
    labels, roles = {"activation": ("relu", "tanh")}, {"activation": "hyper", "run": "lineage"}
    population = Population(params, rows, spec, labels, function, roles)
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    y = np.arange(30) % 2
    measured = Evaluation(x, y, {"accuracy": "accuracy"}).measure(population)
    population = population.with_columns(measured, roles={"accuracy": "metric"})
    kept = Evaluation(x, y, {"accuracy": "accuracy"}, tolerance=1e-6)
    store.save(population, folder, evaluation=kept, shard_bytes=600)
    stored = store.open(folder)
    for found in (stored, stored.take([3, 1]), stored.population()):
        assert found.function == function and found.spec == spec
        assert dict(found.labels) == labels
        assert dict(found.roles) == {**roles, "accuracy": "metric"}
    np.testing.assert_array_equal(stored.population().apply(x), population.apply(x))
    assert_same_array(stored.evaluation.inputs, x)
    assert_same_array(stored.evaluation.targets, y)
    assert stored.evaluation.columns == kept.columns
    assert stored.evaluation.tolerance == 1e-6 and stored.evaluation.own_targets is None


def test_opening_runs_networks_again(folder):
    function = Function("mlp", {"widths": (2, 3), "activation": "tanh"})
    params = jax.vmap(lambda key: function.init({}, key=key))(
        jax.random.split(jax.random.key(0), 9)
    )
    x, y = np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32)
    evaluation = Evaluation(x, y, {"error": "mse"})
    population = Population(params, {}, function=function)
    right = population.with_columns(evaluation.measure(population))
    store.save(right, folder, evaluation=evaluation)
    assert len(store.open(folder)) == 9
    wrong = right.with_columns({"error": right.columns["error"] + 0.5})
    store.save(wrong, folder, evaluation=evaluation, overwrite=True)
    with pytest.raises(zoo.FunctionMismatch, match="error"):
        store.open(folder)
    assert len(store.open(folder, check=0)) == 9
    one_wrong = np.array(right.columns["error"])
    one_wrong[4] += 1
    store.save(
        right.with_columns({"error": one_wrong}), folder, evaluation=evaluation, overwrite=True
    )
    with pytest.raises(zoo.FunctionMismatch, match="network 4 "):
        store.open(folder, check=9)


def test_taking_is_what_a_population_does(folder):
    population = small(57)
    store.save(population, folder, shard_bytes=10 * BYTES)
    stored = store.open(folder)
    generator = np.random.default_rng(0)
    mask = generator.random(57) < 0.3
    many = generator.integers(-57, 57, size=300)
    for index in (many, mask, [], [56, 0, 56], slice(50, 3, -7), slice(9, 11), jnp.array([3, -1])):
        found = stored.take(index)
        assert_same(found, population.take(np.asarray(index) if isinstance(index, list) else index))
    for index in (0, 9, 10, 56, -1, -57, np.int64(3)):
        assert_same_array(
            stored[index]["dense_0"]["kernel"], population.params["dense_0"]["kernel"][index]
        )
    assert [float(p["dense_0"]["bias"][0]) for p in stored] == list(range(57))


def test_what_is_taken_is_ones_own(folder):
    store.save(small(3), folder)
    stored = store.open(folder)
    for leaf in (stored[0]["dense_0"]["bias"], stored.take([0]).params["dense_0"]["bias"]):
        leaf[:] = 77
    assert numbers(stored.population()) == [0, 1, 2]


@pytest.mark.parametrize("index", [[57], [-58], [0, 99]])
def test_indices_out_of_range(folder, index):
    store.save(small(57), folder)
    with pytest.raises(IndexError, match=f"network {index[-1]} of a zoo of 57"):
        store.open(folder).take(index)
    with pytest.raises(IndexError, match=f"network {index[-1]} "):
        store.open(folder)[index[-1]]


def test_indices_that_are_none(folder):
    store.save(small(5), folder)
    stored = store.open(folder)
    with pytest.raises(ValueError, match=r"mask has shape \(4,\)"):
        stored.take(np.ones(4, bool))
    with pytest.raises(ValueError, match="indices are integers"):
        stored.take([0.5])
    with pytest.raises(ValueError, match="indices are integers"):
        stored.take([[1, 2]])
    with pytest.raises(ValueError, match="`size` is 0"):
        stored.chunks(0)


@pytest.mark.parametrize("size", [1, 7, 10, 25, 99])
def test_chunks_follow_each_other(folder, size):
    store.save(small(57), folder, shard_bytes=10 * BYTES)
    parts = [numbers(part) for part in store.open(folder).chunks(size)]
    assert sum(parts, []) == list(range(57))
    assert all(len(part) == size for part in parts[:-1])


@pytest.mark.parametrize("count", [1, 2, 4, 5, 60])
def test_processes_share_the_networks(folder, count):
    store.save(small(57), folder, shard_bytes=10 * BYTES)
    stored = store.open(folder)
    views = [stored.for_process(index, count) for index in range(count)]
    parts = [numbers(view.population()) for view in views]
    assert sum(parts, []) == list(range(57))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for view, part in zip(views, parts):
        assert view.columns["number"].tolist() == part
        assert numbers(view.take(np.arange(len(view))[::-1])) == part[::-1]
        assert [n for chunk in view.chunks(4) for n in numbers(chunk)] == part
        if part:
            assert view[-1]["dense_0"]["bias"][0] == part[-1]
            with pytest.raises(IndexError):
                view[len(part)]
    even = [len(stored.for_process(index, count, drop_remainder=True)) for index in range(count)]
    assert set(even) == {57 // count}
    assert len(stored.for_process()) == 57  # the only process there is
    with pytest.raises(ValueError, match="process 2 of 2"):
        stored.for_process(2, 2)


def test_appending_in_one_writer_and_in_later_ones(folder):
    with store.Writer(folder, shard_bytes=10 * BYTES) as writer:
        for start in (0, 3, 25, 26):
            writer.write(small({0: 3, 3: 22, 25: 1, 26: 9}[start], start))
            writer.write(small(0))
    with store.Writer(folder, append=True) as writer:
        writer.write(small(4, 35))
        writer.flush()
        writer.write(small(2, 39))
    stored = store.open(folder)
    assert numbers(stored.population()) == list(range(41))
    assert len(list(folder.glob("shard-*"))) == 6
    store.Writer(folder, append=True).close()
    assert len(store.open(folder)) == 41


def test_append_makes_what_is_not_there(folder):
    with store.Writer(folder, append=True) as writer:
        writer.write(small(3))
    assert numbers(store.open(folder).population()) == [0, 1, 2]


def test_the_writer_does_not_see_later_changes(folder):
    population = small(3)
    with store.Writer(folder) as writer:
        writer.write(population)
        population.params["dense_0"]["kernel"][:] = -1
    assert numbers(store.open(folder).population()) == [0, 1, 2]


def test_a_writer_left_by_an_exception_keeps_what_it_was_given(folder):
    with pytest.raises(KeyError, match="mine"), store.Writer(folder) as writer:
        writer.write(small(3))
        raise KeyError("mine")
    stored = store.open(folder)
    assert numbers(stored.population()) == [0, 1, 2] and not stored.complete
    with pytest.raises(RuntimeError, match="closed"):
        writer.write(small(1))


def test_a_writer_that_was_never_used(folder):
    store.Writer(folder).close()
    stored = store.open(folder)
    assert len(stored) == 0 and stored.columns == {}
    with pytest.raises(ValueError, match="no network was ever written"):
        stored.population()


def test_existing_zoos_are_not_written_over(folder):
    store.save(small(5), folder)
    for write in (lambda: store.save(small(2), folder), lambda: store.Writer(folder)):
        with pytest.raises(FileExistsError, match="holds a zoo.*append=True.*overwrite=True"):
            write()
    before = store.open(folder)
    assert numbers(before.take([4])) == [4]
    store.save(small(7), folder, overwrite=True, shard_bytes=4 * BYTES)
    assert numbers(store.open(folder).population()) == list(range(7))
    assert len(list(folder.glob("shard-*"))) == 2
    assert numbers(before.take([0])) == [0]  # mapped before: still there


def test_overwriting_fails_and_the_old_stays(folder):
    store.save(small(5), folder)
    with pytest.raises(ValueError, match="'words' has dtype"):
        store.save(
            small(3).with_columns({"words": np.array(["a", "b", "c"])}), folder, overwrite=True
        )
    assert numbers(store.open(folder).population()) == list(range(5))


BASE = {"labels": {"number": ("zero", "one")}, "roles": {"number": "hyper"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p.with_params({"w": np.ones((2, 3))}),
            "another architecture.*'w' is float32|'w'",
        ),
        (lambda p: p.with_params([p.params]), "another architecture"),
        (
            lambda p: p.with_params(jax.tree.map(lambda x: x[:, :3], p.params)),
            r"'dense_0/bias' is float32 \(3,\), there 'dense_0/bias' is float32 \(4,\)",
        ),
        (
            lambda p: p.with_params(jax.tree.map(lambda x: x.astype(np.float64), p.params)),
            "'dense_0/bias' is float64",
        ),
        (lambda p: p.with_columns({"more": np.ones(2)}), r"have other columns \['more'\]"),
        (
            lambda p: Population(p.params, {"number": p.columns["number"]}),
            r"lack the columns \['loss'\]",
        ),
        (
            lambda p: p.with_columns({"loss": np.ones(2, np.float32)}),
            r"column 'loss' is float32 \(\) here, and float64 \(\) in the zoo",
        ),
        (lambda p: p.with_columns({}, labels={"number": ("one",)}), "'number' has labels"),
        (lambda p: p.with_columns({}, roles={"number": "step"}), "'number' has role 'step'"),
        (lambda p: p.with_function(Function("mlp", {"widths": (3, 4, 4)})), "another function"),
        (
            lambda p: p.with_spec(
                symmetry.parse(p[0], {"dense_0/kernel": "_ _", "dense_0/bias": "_"})
            ),
            "another spec",
        ),
    ],
)
def test_other_networks_do_not_join(folder, change, message):
    first = small(4).with_columns({}, **BASE).with_function(Function("mlp", {"widths": (3, 4)}))
    spec = symmetry.parse(first[0], {"dense_0/kernel": "_ h", "dense_0/bias": "h"})
    first = first.with_spec(spec)
    store.save(first, folder)
    with store.Writer(folder, append=True) as writer:
        with pytest.raises(ValueError, match=message):
            writer.write(change(small(2, 4)))
        writer.write(small(2, 4))  # says nothing of labels or function: takes those of the zoo
        writer.write(first.take([0]))
    stored = store.open(folder)
    assert stored.columns["number"].tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert stored.spec == spec and dict(stored.labels) == BASE["labels"]


def test_what_a_writer_is_told(folder):
    function = Function("mlp", {"widths": (3, 4)})
    spec = symmetry.parse(small(1)[0], {"dense_0/kernel": "_ h", "dense_0/bias": "h"})
    with store.Writer(folder, function=function, spec=spec, **BASE) as writer:
        writer.write(small(3))
    stored = store.open(folder)
    assert stored.function == function and stored.spec == spec
    assert dict(stored.labels) == BASE["labels"] and dict(stored.roles) == BASE["roles"]
    with pytest.raises(ValueError, match="another function"):
        store.Writer(folder, append=True, function=Function("mlp", {"widths": (3, 5)}))
    with pytest.raises(ValueError, match=r"roles of \['|labels or roles of 'none'"):
        store.Writer(folder, append=True, roles={"none": "hyper"})
    with pytest.raises(ValueError, match="roles of columns are"):
        store.Writer(folder, append=True, roles={"number": "hyperactive"})
    store.Writer(folder, append=True, roles={"loss": "metric"}).close()
    assert dict(store.open(folder).roles) == {"number": "hyper", "loss": "metric"}


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


def test_paths_that_will_not_do(folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(NotADirectoryError):
            store.save(small(1), path)
    with pytest.raises(NotADirectoryError, match="is a file; a zoo is a folder"):
        store.open(file)
    with pytest.raises(FileNotFoundError, match="no folder"):
        store.open(folder)
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="holds no zoo: there is no index.json"):
        store.open(folder)
    with pytest.raises(ValueError, match="`shard_bytes` is 0"):
        store.save(small(1), folder, shard_bytes=0)
    with pytest.raises(ValueError, match="`damaged` is 'maybe'"):
        store.open(folder, damaged="maybe")
    deep = tmp_path / "a" / "b" / "c"
    store.save(small(2), str(deep))
    assert numbers(store.open(str(deep)).population()) == [0, 1]


def test_a_zoo_may_be_moved_and_read_by_others(folder, tmp_path):
    population = small(20)
    store.save(population, folder, shard_bytes=10 * BYTES)
    stored = pickle.loads(pickle.dumps(store.open(folder)))
    assert numbers(stored.take([19, 3])) == [19, 3]
    moved = folder.rename(tmp_path / "moved")
    assert numbers(store.open(moved).population()) == list(range(20))
    assert str(tmp_path) not in (moved / "index.json").read_text()
    assert json.loads((moved / "index.json").read_text())["version"] == 1
    load_file = pytest.importorskip("safetensors.numpy").load_file
    found = load_file(sorted(moved.glob("shard-*"))[1])
    assert_same_array(found["params/dense_0/kernel"], population.params["dense_0"]["kernel"][10:])
    assert_same_array(found["columns/number"], population.columns["number"][10:])


def test_resident_memory_may_be_bounded(folder):
    store.save(small(300), folder, shard_bytes=10 * BYTES)
    stored = store.open(folder, resident=1)
    order = np.random.default_rng(0).permutation(300)
    assert numbers(stored.take(order)) == order.tolist()
    assert stored[17]["dense_0"]["bias"][0] == 17


def test_more_shards_than_are_mapped_at_once(folder, monkeypatch):
    from wsljax.zoo.store import shards

    monkeypatch.setattr(shards, "MAPPED_AT_ONCE", 3)
    store.save(small(100), folder, shard_bytes=5 * BYTES)
    stored = store.open(folder)
    order = np.random.default_rng(0).permutation(100)
    assert numbers(stored.take(order)) == order.tolist()
    assert len(stored._shards._maps) == 3
    assert "100 networks in 20 shards" in repr(stored)
