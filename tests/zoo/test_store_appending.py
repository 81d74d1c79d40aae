"""Writers that come after each other: what joins a zoo, what is refused, what is replaced."""

import jax
import numpy as np
import pytest

from tests.zoo.store_zoos import BYTES, numbers, small
from wsljax import symmetry
from wsljax.zoo import Function, Population, store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "zoo"


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
    assert len(list(folder.glob("shard-*"))) == 1


def test_a_writer_that_fails_before_its_first_network_leaves_nothing(folder):
    for path in (folder, folder):  # the second time as the first
        with pytest.raises(KeyError), store.Writer(path):
            raise KeyError("mine")
        assert [path.name for path in folder.iterdir()] == [".writer.lock"]
    store.save(small(2), folder)
    with pytest.raises(KeyError), store.Writer(folder, append=True):
        raise KeyError("mine")
    stored = store.open(folder)
    assert numbers(stored.population()) == [0, 1] and not stored.complete


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
