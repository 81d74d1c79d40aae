"""Whatever happens to the bytes of a stored zoo is noticed and named, and the rest can be read."""

import json
import os
import shutil

import numpy as np
import pytest

from tests.zoo.store_zoos import BYTES, numbers, small
from wsljax.zoo import Evaluation, Function, Population, store
from wsljax.zoo.store import index as index_file
from wsljax.zoo.store.tensor_file import Written, read_header


@pytest.fixture
def folder(tmp_path):
    """Three shards of ten, ten and five networks."""
    folder = tmp_path / "zoo"
    store.save(small(25), folder, shard_bytes=10 * BYTES)
    return folder


def shards(folder):
    return sorted(folder.glob("shard-*"))


def rewrite(folder, change):
    """Change the index as an attacker would: with a checksum that is right again."""
    path = folder / "index.json"
    data = json.loads(path.read_text())
    change(data)
    data.pop("crc32")
    path.write_text(json.dumps({**data, "crc32": index_file._checksum(data)}))


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"\0")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [truncate, lengthen, empty, os.remove])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_another_size_is_seen_on_opening(folder, harm, which):
    path = shards(folder)[which]
    harm(path)
    with pytest.raises(store.DamagedFile, match=f"{path.name} is damaged: .*damaged='skip'"):
        store.open(folder)
    stored = store.open(folder, damaged="skip")
    left = [n for n in range(25) if n // 10 != which]
    assert numbers(stored.population()) == left and stored.columns["number"].tolist() == left
    assert len(stored.damaged) == 1 and path.name in stored.damaged[0] in repr(stored)


def test_every_flipped_bit_of_a_shard_is_noticed(folder):
    """Each byte of the file in turn, header, padding and tensors."""
    path = shards(folder)[1]
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        stored = store.open(folder)
        with pytest.raises(store.DamagedFile, match=path.name):
            stored.take([10])
    assert numbers(stored.take([3, 24])) == [3, 24]
    for read in (stored.population, stored.verify_checksums, lambda: stored[12]):
        with pytest.raises(store.DamagedFile, match=f"{path.name}.*networks 10 to 19"):
            read()
    skipping = store.open(folder, damaged="skip")
    assert numbers(skipping.population()) == [*range(10), *range(20, 25)]
    assert numbers(skipping.take([10])) == [20]
    skipping.verify_checksums()


def test_the_damaged_tensor_is_named(folder):
    path = shards(folder)[0]
    data = bytearray(path.read_bytes())
    place = data.index(np.float32(9.0 + 0.5).tobytes())  # the last weight of a kernel
    data[place] ^= 4
    path.write_bytes(data)
    stored = store.open(folder)
    with pytest.raises(store.DamagedFile, match="'params/dense_0/kernel' fails its checksum"):
        stored[0]
    assert stored.columns["number"].tolist() == list(range(25))  # of which no bit is wrong


def test_damaged_columns_are_noticed_when_they_are_read(folder):
    path = shards(folder)[2]
    data = bytearray(path.read_bytes())
    data[data.index(np.int64(24).tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(store.DamagedFile, match="'columns/number' fails its checksum"):
        _ = store.open(folder).columns


def test_shards_that_are_exchanged_are_noticed(folder):
    first, second, _ = shards(folder)
    shutil.copy(first, folder / "kept")
    shutil.copy(second, first)
    shutil.move(folder / "kept", second)
    with pytest.raises(store.DamagedFile, match=f"{first.name} .*header fails its checksum"):
        store.open(folder)[0]


def test_all_damaged_files_are_named_at_once(folder):
    for path in shards(folder)[:2]:
        lengthen(path)
    with pytest.raises(store.DamagedFile) as caught:
        store.open(folder)
    assert all(path.name in str(caught.value) for path in shards(folder)[:2])
    stored = store.open(folder, damaged="skip")
    assert numbers(stored.population()) == list(range(20, 25)) and len(stored.damaged) == 2


def test_every_flipped_bit_of_the_index_is_noticed(folder):
    path = folder / "index.json"
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 7)
        path.write_bytes(bad)
        try:
            stored = store.open(folder)
        except ValueError as e:
            assert "index.json" in str(e)
        else:  # one kind of white space in place of another
            assert json.loads(bad) == json.loads(good)
            assert numbers(stored.population()) == list(range(25))
    for cut in (0, 1, len(good) // 2, len(good) - 2):
        path.write_bytes(good[:cut])
        with pytest.raises(ValueError, match="index.json is damaged"):
            store.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "format version 2; this wsljax reads up to 1. Upgrade"),
        (lambda d: d.update(version=None), "format version None"),
        (lambda d: d.update(format="other"), "not the index of a zoo"),
        (
            lambda d: d["shards"][0].update(file="../zoo/" + d["shards"][0]["file"]),
            "names a file '../",
        ),
        (lambda d: d["shards"][0].update(file="/etc/passwd"), "names a file '/etc/passwd'"),
        (lambda d: d["shards"][0].update(file="index.json"), "names a file 'index.json'"),
        (lambda d: d["shards"][0].update(file=3), "names a file 3"),
        (lambda d: d["shards"][1].update(file=d["shards"][0]["file"]), "one shard twice"),
        (lambda d: d["shards"][0].update(models=-1), "has -1 networks"),
        (lambda d: d["shards"][0].update(models=2**70), "networks"),
        (lambda d: d["shards"][0].update(models=11), "counts 25 networks, its shards 26"),
        (lambda d: d["shards"][0].update(bytes=-5), "sizes of"),
        (lambda d: d["shards"][0].update(header_crc32="x"), "sizes of"),
        (
            lambda d: d.update(evaluation={"file": "../../secret.safetensors"}),
            "names a file '../../",
        ),
        (lambda d: d.update(structure=None), "counts 25"),
        (lambda d: d["structure"].update(nodes={"list": ["*"]}), "a tree of 1 leaves, and 2"),
        (lambda d: d["structure"]["leaves"][0].update(dtype="float7"), "unknown dtype 'float7'"),
        (lambda d: d["structure"]["leaves"][0].update(shape=[-1]), "has the shape"),
        (lambda d: d["structure"]["leaves"][0].update(kind="code"), "unknown kind of leaf"),
        (lambda d: d["columns"]["loss"].update(dtype="object"), "column 'loss' is object"),
        (lambda d: d["columns"]["loss"].update(role="king"), "unknown role 'king'"),
        (lambda d: d.pop("shards"), "not an index that was written here"),
        (lambda d: d.update(shards=7), "not an index that was written here"),
    ],
)
def test_an_index_is_not_believed(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        store.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["structure"]["leaves"][0].update(shape=[2**40]),
        lambda d: d["structure"]["leaves"][0].update(shape=[2, 2]),
        lambda d: d["structure"]["leaves"][0].update(dtype="int32"),
        lambda d: d["structure"]["leaves"][0].update(path="other"),
        lambda d: d["columns"].pop("loss"),
        lambda d: d["columns"].update(more=d["columns"]["loss"]),
    ],
)
def test_an_index_that_does_not_fit_its_shards(folder, change):
    rewrite(folder, change)
    with pytest.raises(store.DamagedFile, match="shard-.*the index has"):
        store.open(folder)[0]
    assert len(store.open(folder, damaged="skip")) == 0


def test_a_deep_index_is_refused(folder):
    (folder / "index.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="index.json is damaged"):
        store.open(folder)


def header_of(entries, data=b""):
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text, data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


META = {"crc32": "00000000"}


@pytest.mark.parametrize(
    "entries",
    [
        {"__metadata__": META, "a": tensor(shape=(2**60,), offsets=(0, 2**62))},
        {"__metadata__": META, "a": tensor(offsets=(0, 4))},
        {"__metadata__": META, "a": tensor(offsets=(4, 12))},
        {"__metadata__": META, "a": tensor(offsets=(-8, 0))},
        {"__metadata__": META, "a": tensor(shape=(-2,))},
        {"__metadata__": META, "a": tensor(shape=(True, 2))},
        {"__metadata__": META, "a": tensor(shape=("2",))},
        {"__metadata__": META, "a": tensor(shape=(1,), offsets=(0, 4))},
        {"__metadata__": META, "a": tensor(dtype="O")},
        {"__metadata__": META, "a": tensor(), "b": tensor()},
        {"__metadata__": {"crc32": "0 0"}, "a": tensor(), "b": tensor()},
        {"__metadata__": {"crc32": "x"}, "a": tensor()},
        {"__metadata__": META, "a": 3},
        {"__metadata__": {}, "a": tensor()},
        {"a": tensor()},
        [1, 2],
        7,
    ],
)
def test_a_header_is_not_believed(tmp_path, entries):
    import zlib

    header, data = header_of(entries, bytes(8))
    path = tmp_path / "file"
    path.write_bytes(header + data)
    written = Written(len(header) + len(data), len(header), zlib.crc32(header))
    with pytest.raises(store.DamagedFile, match="not one that was written here"):
        read_header(path, written)
    with pytest.raises(store.DamagedFile, match="its header cannot have"):
        read_header(path, written._replace(header_bytes=2**40))
    with pytest.raises(store.DamagedFile, match="not one that was written here"):  # a wrong length
        read_header(path, written._replace(header_bytes=8, header_crc32=zlib.crc32(header[:8])))


def test_a_header_that_is_right_is_read(tmp_path):
    import zlib

    header, data = header_of({"__metadata__": META, "a": tensor()}, bytes(8))
    path = tmp_path / "file"
    path.write_bytes(header + data)
    found = read_header(path, Written(len(header) + 8, len(header), zlib.crc32(header)))
    assert found["a"].shape == (2,) and found["a"].start == len(header)


def test_links_out_of_the_folder_are_refused(folder, tmp_path):
    path = shards(folder)[0]
    outside = path.rename(tmp_path / "outside.safetensors")
    path.symlink_to(outside)
    with pytest.raises(ValueError, match="is a link out of its folder"):
        store.open(folder)
    path.unlink()
    (folder / "beside").symlink_to(outside)
    outside.rename(folder / "real")
    path.symlink_to(folder / "real")  # within the folder
    assert numbers(store.open(folder).population()) == list(range(25))


def test_the_evaluation_is_checked(tmp_path):
    function = Function("mlp", {"widths": (2, 3)})
    params = {"dense_0": {"kernel": np.ones((4, 2, 3)), "bias": np.zeros((4, 3))}}
    data = Evaluation(np.ones((5, 2)), np.zeros((5, 3)), {"error": "mse"})
    population = Population(params, {"error": np.full(4, 4.0)}, function=function)
    folder = tmp_path / "zoo"
    store.save(population, folder, evaluation=data)
    assert len(store.open(folder)) == 4
    (path,) = folder.glob("evaluation-*")
    good = path.read_bytes()
    for place in (3, 40, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 16
        path.write_bytes(bad)
        with pytest.raises(store.DamagedFile, match=path.name):
            store.open(folder)
        with pytest.raises(store.DamagedFile, match=path.name):
            store.open(folder, check=0).verify_checksums()
    path.unlink()
    with pytest.raises(store.DamagedFile, match="cannot be read"):
        store.open(folder)
    assert len(store.open(folder, check=0)) == 4
    with pytest.raises(ValueError, match="has an evaluation"):
        store.Writer(folder, append=True, evaluation=data)
    store.save(population, folder, evaluation=data, overwrite=True)
    assert len(store.open(folder)) == 4 and len(list(folder.glob("evaluation-*"))) == 1


def test_a_damaged_zoo_can_be_replaced(folder):
    (folder / "index.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        store.Writer(folder, append=True)
    store.save(small(3), folder, overwrite=True)
    assert numbers(store.open(folder).population()) == [0, 1, 2]
    assert len(shards(folder)) == 1
