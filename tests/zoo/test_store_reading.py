"""Reading a stored zoo: any networks in any order, all that is known of them, and networks run again."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.store_zoos import BYTES, assert_same, assert_same_array, numbers, small
from wsljax import zoo
from wsljax.zoo import Evaluation, Function, Population, store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "zoo"


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


def test_an_evaluation_that_cannot_be_repeated_is_refused(folder):
    evaluation = Evaluation(np.ones((4, 3)), np.zeros((4, 4)), {"error": "mse"})
    population = small(3).with_columns({"error": np.zeros(3)})
    with pytest.raises(ValueError, match="neither the population nor the writer has a `function`"):
        store.save(population, folder, evaluation=evaluation)
    assert [path.name for path in folder.iterdir()] == [".writer.lock"]
    runs = small(3).with_function(Function("mlp", {"widths": (3, 4)}))
    with pytest.raises(ValueError, match=r"columns \['error'\], which the population lacks"):
        store.save(runs, folder, evaluation=evaluation)


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
