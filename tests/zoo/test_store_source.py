"""Stored zoos as data sources: of grain, of its worker processes, and of threads."""

import pickle
import threading

import jax
import numpy as np
import pytest

from tests.zoo.store_zoos import BYTES, numbers, small
from wsljax.zoo import Population, store

COUNT = 57


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    store.save(small(COUNT), folder, shard_bytes=10 * BYTES)
    return folder


@pytest.fixture
def stored(folder):
    return store.open(folder)


def which(record) -> int:
    """The number of the network in a record, all of which must belong together."""
    as_population = Population(
        {
            layer: {name: x[None] for name, x in leaves.items()}
            for layer, leaves in record["params"].items()
        },
        {name: np.asarray(x)[None] for name, x in record["columns"].items()},
    )
    return numbers(as_population)[0]


def which_batch(record) -> list[int]:
    return numbers(Population(record["params"], record["columns"]))


def test_a_record_a_network(stored):
    source = stored.source()
    assert len(source) == COUNT
    assert [which(source[k]) for k in range(COUNT)] == list(range(COUNT))
    assert source[3]["columns"]["number"].shape == ()
    some = stored.source([5, -1, 5])
    assert [which(some[k]) for k in range(3)] == [5, 56, 5]
    with pytest.raises(IndexError, match="record 57 of 57"):
        source[COUNT]
    with pytest.raises(IndexError):
        source[-1]


def test_a_record_a_batch(stored):
    source = stored.source(batch_size=10)
    assert len(source) == 6
    assert sum((which_batch(source[k]) for k in range(6)), []) == list(range(COUNT))
    view = stored.for_process(1, 3)
    batches = view.source(np.arange(len(view))[::2], batch_size=4)
    found = sum((which_batch(batches[k]) for k in range(len(batches))), [])
    assert found == list(range(19, 38, 2))


@pytest.mark.parametrize("batch_size", [None, 10])
def test_every_epoch_has_another_order_of_the_same(stored, batch_size):
    source = stored.source(batch_size=batch_size, seed=3, epochs=3)
    read = which if batch_size is None else which_batch
    found = np.concatenate([np.atleast_1d(read(source[k])) for k in range(len(source))])
    epochs = found.reshape(3, COUNT).tolist()
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(COUNT)]}) == 4
    backwards = [read(source[k]) for k in reversed(range(len(source)))]
    assert (
        np.concatenate([np.atleast_1d(b) for b in reversed(backwards)]).tolist() == found.tolist()
    )
    other = stored.source(batch_size=batch_size, seed=4)
    assert np.atleast_1d(read(other[0])).tolist() != np.atleast_1d(read(source[0])).tolist()


def test_numbers_that_make_no_sense(stored):
    for options in ({"batch_size": 0}, {"epochs": 0}):
        with pytest.raises(ValueError, match="is 0; it is 1 or more"):
            stored.source(**options)
    with pytest.raises(IndexError, match="network 57"):
        stored.source([57])


@pytest.mark.parametrize("options", [{}, {"batch_size": 7, "seed": 1}, {"indices": [3, 1]}])
def test_a_pickled_source_reads_the_same(stored, options):
    source = stored.source(**options)
    copy = pickle.loads(pickle.dumps(source))
    assert repr(copy) == repr(source) and len(copy) == len(source)
    assert len(pickle.dumps(source)) < 20_000  # no networks in it
    for record in range(len(source)):
        a, b = copy[record], source[record]
        assert jax.tree.structure(a) == jax.tree.structure(b)
        assert jax.tree.all(jax.tree.map(np.array_equal, a, b))
    assert repr(stored.source([1])) != repr(stored.source([2]))


def test_shards_are_verified_once(stored, monkeypatch):
    from wsljax.zoo.store import shards

    checked = []
    original = shards.check_tensors
    monkeypatch.setattr(shards, "check_tensors", lambda p, h: (checked.append(p), original(p, h)))
    order = np.random.default_rng(0).permutation(COUNT)
    for start in range(0, COUNT, 5):
        stored.take(order[start : start + 5])
    source = pickle.loads(pickle.dumps(stored.source()))
    assert [which(source[k]) for k in range(COUNT)] == list(range(COUNT))
    assert len(checked) == len(set(checked)) == 6


def test_threads_read_one_zoo(stored):
    found, errors = {}, []

    def read(seed):
        try:
            order = np.random.default_rng(seed).permutation(COUNT)
            found[seed] = [
                n for k in range(0, COUNT, 4) for n in numbers(stored.take(order[k : k + 4]))
            ]
            assert found[seed] == order.tolist()
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(found) == 8


def test_grain_shuffles_and_batches(stored):
    grain = pytest.importorskip("grain")
    source = stored.source()
    assert isinstance(source, grain.sources.RandomAccessDataSource)
    dataset = grain.MapDataset.source(source).shuffle(seed=1).batch(8)
    found = [n for batch in dataset for n in which_batch(batch)]
    assert sorted(found) == list(range(COUNT)) and found != list(range(COUNT))
    batches = stored.source(batch_size=8, seed=0, epochs=2)
    iterator = iter(grain.MapDataset.source(batches).to_iter_dataset())
    first = [which_batch(next(iterator)) for _ in range(3)]
    state = iterator.get_state()
    rest = [which_batch(batch) for batch in iterator]
    assert sorted(sum(first + rest, [])) == sorted(2 * list(range(COUNT)))
    again = iter(grain.MapDataset.source(batches).to_iter_dataset())
    again.set_state(state)
    assert [which_batch(batch) for batch in again] == rest


@pytest.mark.filterwarnings("ignore")  # grain's and multiprocessing's own
def test_worker_processes_of_grain(stored):
    grain = pytest.importorskip("grain")
    flags = pytest.importorskip("absl.flags")
    flags.FLAGS.mark_as_parsed()  # grain 0.2.18 reads them, whoever runs it
    loader = grain.DataLoader(
        data_source=stored.source(),
        sampler=grain.samplers.IndexSampler(COUNT, shuffle=True, seed=0, num_epochs=1),
        operations=[grain.transforms.Batch(batch_size=8)],
        worker_count=2,
    )
    found = [n for batch in loader for n in which_batch(batch)]
    assert sorted(found) == list(range(COUNT))
