"""Tables, images and the formats that are tables: what is read, and what is refused."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from tests.data import data_folder
from tests.zoo import foreign_files
from tests.zoo.foreign_files import idx_bytes
from wsljax.interop.torch_file import UnknownGlobal
from wsljax.zoo.foreign import (
    ForeignZooError,
    nfn_split,
    read_cifar,
    read_components,
    read_foreign,
    read_idx,
    read_rnn_npy,
    read_smallcnnzoo,
)
from wsljax.zoo.foreign.folders import inside
from wsljax.zoo.foreign.safetensors_file import literal
from wsljax.zoo.foreign.tables import read_bytes, read_csv, read_json, read_json_lines

DATA = data_folder()
needs_data = pytest.mark.skipif(DATA is None, reason="the real data files are not here")


# -- CSV and JSON ----------------------------------------------------------------------------------


def table(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv(tmp_path, name):
    text = '\ufeffa, b\r\n1,"x,y"\r\n\r\n2,z\r\n'
    assert read_csv(table(tmp_path, text, name)) == {"a": ["1", "2"], "b": ["x,y", "z"]}


def test_duplicated_headers(tmp_path):
    """A repeated header line, as of files put together with `cat`; a name that occurs twice."""
    assert read_csv(table(tmp_path, "a,b\n1,2\na,b\n3,4\n")) == {"a": ["1", "3"], "b": ["2", "4"]}
    assert read_csv(table(tmp_path, "a,a\n1,1\n")) == {"a": ["1"]}
    with pytest.raises(ForeignZooError, match="two columns 'a' with different cells"):
        read_csv(table(tmp_path, "a,a\n1,2\n"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty"),
        ("a,b\n1\n", "line 2: 1 cells under 2 names"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 cells"),
        ("a\n\xff", None),
    ],
)
def test_bad_csv(tmp_path, text, message):
    if message is None:
        (tmp_path / "t.csv").write_bytes(b"a\n\xff\xfe")
        with pytest.raises(ForeignZooError, match="no text"):
            read_csv(tmp_path / "t.csv")
        return
    with pytest.raises(ForeignZooError, match=message):
        read_csv(table(tmp_path, text))


def test_gzip_bombs_and_damage(tmp_path):
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(ForeignZooError, match="more than 1000 bytes"):
        read_bytes(path, 1000)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ForeignZooError, match="cannot be unpacked"):
        read_bytes(path)


def test_json(tmp_path):
    assert read_json_lines(table(tmp_path, '{"a": NaN}\n\n{"a": 1}\n{"a": 2')) != []
    assert len(read_json_lines(table(tmp_path, '{"a": 1}\n{"a": 2'))) == 1  # a killed writer
    for text in ('{"a": 1}\n{]\n{"a": 2}\n', "[1]\n{}\n", "{"):
        with pytest.raises(ForeignZooError, match="JSON"):
            read_json_lines(table(tmp_path, text))
    with pytest.raises(ForeignZooError, match="no JSON"):
        read_json(table(tmp_path, "[" * 200_000))


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../../x", "a\\x", "x\0", 3, None])
def test_paths_stay_inside(name):
    with pytest.raises(ForeignZooError):
        inside(Path("root"), name, "splits.json")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "open('x')",
        "[].__class__",
        "(" * 10_000,
        "1+",
        "x" * 2_000_000,
    ],
)
def test_literals_are_never_evaluated(text):
    with pytest.raises(ForeignZooError, match="model 1"):
        literal(text, "model 1")


# -- the Small CNN Zoo -----------------------------------------------------------------------------


def test_small_cnn_zoo_columns(tmp_path):
    zoo = read_smallcnnzoo(foreign_files.smallcnnzoo(tmp_path).path)
    assert zoo.columns["run"].tolist() == [0, 1, 2, 0, 1, 2]
    assert zoo.columns["step"].tolist() == [0, 0, 0, 86, 86, 86]
    assert zoo.label("activation") == ["relu", "tanh", "relu"] * 2
    np.testing.assert_array_equal(
        zoo.columns["l2reg"], np.float32([1e-3, np.nan, 1e-3, 1e-3, np.nan, 1e-3])
    )
    roles = dict(zoo.roles)
    assert roles["learning_rate"] == roles["activation"] == "hyper" and roles["step"] == "step"
    assert roles["test_accuracy"] == "metric" and roles["run"] == "lineage"
    final = read_smallcnnzoo(tmp_path, step=86)
    assert len(final) == 3 and final.columns["run"].tolist() == [0, 1, 2]
    assert len(read_smallcnnzoo(tmp_path, rows=slice(1, 3))) == 2
    with pytest.raises(ForeignZooError, match="no rows left"):
        read_smallcnnzoo(tmp_path, step=50)


def test_small_cnn_zoo_images(tmp_path):
    (tmp_path / "cifar10").mkdir()
    made = foreign_files.smallcnnzoo(tmp_path / "cifar10")
    assert read_smallcnnzoo(made.path).function.input_shape == (32, 32, 1)
    assert read_smallcnnzoo(made.path, image_size=28).function.input_shape == (28, 28, 1)


def test_small_cnn_zoo_with_the_names_of_the_notebook(tmp_path):
    made = foreign_files.smallcnnzoo(tmp_path)
    before = read_foreign(made.path)
    (tmp_path / "weights.npy").rename(tmp_path / "all_weights.npy")
    text = gzip.decompress((tmp_path / "metrics.csv.gz").read_bytes())
    (tmp_path / "metrics.csv.gz").unlink()
    (tmp_path / "all_metrics.csv").write_bytes(text)
    assert repr(read_foreign(made.path)) == repr(before)


def test_small_cnn_zoo_headers(tmp_path):
    """The header once more in the middle of the table, and a column that is there twice."""
    foreign_files.smallcnnzoo(tmp_path, metrics=lambda lines: [*lines[:4], lines[0], *lines[4:]])
    assert len(read_smallcnnzoo(tmp_path)) == 6
    foreign_files.smallcnnzoo(tmp_path, metrics=lambda lines: [row + row[-4:-3] for row in lines])
    assert len(read_smallcnnzoo(tmp_path)) == 6

    def contradict(lines):
        return [lines[0] + ["test_loss"], *(row + [7.5] for row in lines[1:])]

    foreign_files.smallcnnzoo(tmp_path, metrics=contradict)
    with pytest.raises(ForeignZooError, match="two columns 'test_loss'"):
        read_smallcnnzoo(tmp_path)


def test_small_cnn_zoo_of_different_lengths(tmp_path):
    foreign_files.smallcnnzoo(tmp_path, metrics=lambda lines: lines[:-1])
    with pytest.raises(ForeignZooError, match="6 rows of weights and 5 of metrics"):
        read_smallcnnzoo(tmp_path)


LAYOUTS = {
    "code in a cell": ("(5,)", "__import__('os').system('x')", "shape"),
    "a gap": ("bias:0,0,5,5", "bias:0,1,6,5", "does not cover"),
    "beyond the end": ("10,50,40", "10,50,41", "of shape|does not cover"),
    "another size": ('"(4, 10)"', '"(4, 11)"', "of shape"),
    "negative sizes": ('"(4, 10)"', '"(-4, -10)"', "shape"),
    "no tuple": ('"(4, 10)"', '"{4: 10}"', "shape"),
    "no number": ("bias:0,0,5,5", "bias:0,x,5,5", "'x'"),
    "an unknown part": ("conv2d/bias:0", "conv2d/gamma:0", "no kernel or bias"),
    "a name twice": ("conv2d_1/bias:0", "conv2d/bias:0", "twice"),
    "a missing column": ("start_idx", "begin", "no columns"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_small_cnn_zoo_layouts(tmp_path, case):
    foreign_files.smallcnnzoo(tmp_path)
    old, new, message = LAYOUTS[case]
    text = (tmp_path / "layout.csv").read_text()
    if case == "beyond the end":
        lines = text.splitlines()
        cells = lines[-1].split(",", 4)
        lines[-1] = ",".join([cells[0], cells[1], str(int(cells[2]) + 1), *cells[3:]])
        changed = "\n".join(lines)
    else:
        changed = text.replace(old, new, 1)
    assert changed != text
    (tmp_path / "layout.csv").write_text(changed)
    with pytest.raises(ForeignZooError, match=message):
        read_smallcnnzoo(tmp_path)


def test_small_cnn_zoo_matrices_are_not_pickles(tmp_path):
    foreign_files.smallcnnzoo(tmp_path)
    np.save(tmp_path / "weights.npy", np.array([object()] * 6), allow_pickle=True)
    with pytest.raises(ForeignZooError, match="weights.npy cannot be read"):
        read_smallcnnzoo(tmp_path)


def test_the_split_of_nfn_with_its_stray_header(tmp_path):
    """Computed here as the five loaders do: every line, row 0 twice, then the final checkpoints."""
    rng = np.random.default_rng(0)
    steps = np.repeat([0, 20, 86], 40)
    shuffled = rng.permutation(120).tolist()
    file = tmp_path / "cifar10_split.csv"
    file.write_text("\n".join(map(str, [0, *shuffled])) + "\n")
    final = [row for row in [0, *shuffled] if steps[row] == 86]
    train_val = list(range(20))
    random.Random(0).shuffle(train_val)
    split = nfn_split(steps, file)
    assert split.test.tolist() == final[20:]
    assert split.train.tolist() == [final[i] for i in train_val[:16]]
    assert split.validation.tolist() == [final[i] for i in train_val[16:]]
    # where row 0 is a final checkpoint it is in the published split twice
    twice = nfn_split(np.full(120, 86), file)
    assert sum((part == 0).sum() for part in twice) == 2
    once = nfn_split(np.full(120, 86), file, published=False)
    assert sum((part == 0).sum() for part in once) == 1 and sum(map(len, once)) == 120
    for line in ("120", "-1", "x"):
        file.write_text(f"0\n5\n{line}\n")
        with pytest.raises(ForeignZooError, match="row numbers below 120"):
            nfn_split(steps, file)


# -- ModelZoos, the Wild Park, NWS, RNNs -----------------------------------------------------------


def test_raytune_metrics_are_those_of_the_epoch(tmp_path):
    """By `training_iteration`, not by the line: there is none for checkpoint 0."""
    zoo = read_foreign(foreign_files.raytune_zoo(tmp_path).path)
    assert zoo.columns["step"].tolist() == [0, 2, 10] * 2
    expected = np.float32([np.nan, 0.1, 0.5, np.nan, 1.1, 1.5])
    np.testing.assert_allclose(zoo.columns["test_acc"], expected)
    assert zoo.label("activation") == ["tanh"] * 3 + ["gelu_exact"] * 3
    np.testing.assert_allclose(zoo.columns["optim.lr"], np.float32([1e-3] * 3 + [2e-3] * 3))
    roles = dict(zoo.roles)
    assert roles["optim.lr"] == "hyper" and roles["test_acc"] == "metric"
    assert read_foreign(tmp_path, epochs="last").columns["step"].tolist() == [10, 10]
    assert read_foreign(tmp_path, epochs=(0, 2)).columns["step"].tolist() == [0, 2, 0, 2]
    with pytest.raises(ForeignZooError, match="no checkpoints of epochs=7"):
        read_foreign(tmp_path, epochs=7)


def test_raytune_mixed_architectures_and_unknown_networks(tmp_path):
    def widen(i, state):
        if i >= 3:
            state = {
                "conv1.weight": np.ones((4, 3, 3, 3), "f4"),
                "bn1.running_mean": np.ones(4, "f4"),
            }
        return state

    found = read_foreign(foreign_files.raytune_zoo(tmp_path, widen).path)
    small, other = found.values()
    assert small.function is not None and other.function is None
    assert set(other.params) == {"conv1.weight", "bn1.running_mean"} and len(other) == 3


def test_raytune_unknown_activations(tmp_path):
    made = foreign_files.raytune_zoo(tmp_path, words=("tanh", "swishish"))
    with pytest.raises(ForeignZooError, match="swishish"):
        read_foreign(made.path)


def test_wild_park_splits_and_scores(tmp_path):
    made = foreign_files.cnn_wild_park(tmp_path)
    found = read_foreign(made.path)
    assert sorted(len(p) for p in found.values()) == [2, 2]
    assert all("residual -1--1-0" in key for key in found)
    assert len(read_foreign(made.path, split="train")) == 1
    file = tmp_path / "cnn_park_splits.json"
    table = json.loads(file.read_text())
    table["train"]["score"][0] += 0.1
    file.write_text(json.dumps(table))
    with pytest.raises(ForeignZooError, match="run_1"):
        read_foreign(made.path)
    file.unlink()
    assert sorted(len(p) for p in read_foreign(made.path).values()) == [2, 2]


def test_nws_architectures_and_errors(tmp_path):
    made = foreign_files.nws_bin(tmp_path)
    found = read_foreign(made.path)
    assert {key: len(p) for key, p in found.items()} == {"nws 3-4-2-2-8": 2, "nws 5-3-2-4-8": 1}
    first = found["nws 3-4-2-2-8"]
    np.testing.assert_array_equal(first.columns["test_error"], [24 * 5 + 3, 24 * 5 + 4])
    text = made.path.read_text()
    made.path.write_text(text.replace("nets/0001", "../nets/0001"))
    with pytest.raises(ForeignZooError, match="leads out"):
        read_foreign(made.path)
    cells = text.splitlines()[1].split(",")
    made.path.write_text(text.replace(cells[-1], "7"))
    with pytest.raises(ForeignZooError, match="the table\nsays|the table says|should have"):
        read_foreign(made.path)


def test_rnn_columns(tmp_path):
    zoo = read_foreign(foreign_files.rnn_npy(tmp_path).path)
    np.testing.assert_allclose(zoo.columns["score"], np.float32([0, 0.5, 0.01, 1]))
    assert zoo.columns["task"].tolist() == [[0, -3], [0, -3], [0, 2], [0, 2]]
    assert zoo.columns["run"].tolist() == [0, 0, 1, 1]
    with pytest.raises(ForeignZooError, match="has .* weights; the vectors are"):
        read_rnn_npy(tmp_path, hidden=4)
    np.save(tmp_path / "tasks.npy", np.zeros((3, 2)))
    with pytest.raises(ForeignZooError, match="different lengths"):
        read_rnn_npy(tmp_path)


def test_rnns_on_digits(tmp_path):
    made = foreign_files.rnn_npy(tmp_path, digits=True)
    zoo = read_foreign(made.path, **made.options)
    assert zoo.columns["accuracy"].tolist() == [0, 4, 8, 12]
    assert dict(zoo.roles)["weight_decay"] == "hyper"


# -- hubs, tables and pickles ----------------------------------------------------------------------


def test_model_j(tmp_path):
    pytest.importorskip("safetensors")
    made = foreign_files.model_j(tmp_path)
    zoo = read_foreign(made.path, layers=["head.weight"])
    assert set(zoo.params) == {"head.weight"}
    assert dict(zoo.labels)["targets"] == ("ant", "cat", "dog")
    wanted = [[False, True, True], [True, True, False], [False, False, True]]
    assert zoo.columns["targets"].tolist() == wanted
    with pytest.raises(ForeignZooError, match="no arrays.*'tail'"):
        read_foreign(made.path, layers="tail")
    (tmp_path / "models--user--net-1" / "refs" / "main").write_text("../../../etc")
    with pytest.raises(ForeignZooError, match="leads out"):
        read_foreign(made.path)


def test_code_in_metadata_never_runs(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    made = foreign_files.model_j(tmp_path)
    file = next((tmp_path / "models--user--net-1").rglob("model.safetensors"))
    code = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    numpy.save_file({"head.weight": np.ones((3, 4), "f4")}, file, {"dataset_chosen_targets": code})
    with pytest.raises(ForeignZooError, match="no list of words"):
        read_foreign(made.path, layers="head.weight")
    assert not (tmp_path / "ran").exists()


HEADERS = {
    "length beyond the file": b"\xff" * 8,
    "no JSON": (5).to_bytes(8, "little") + b"{]abc",
    "no object": (3).to_bytes(8, "little") + b"[1]",
    "offsets beyond the file": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    "negative sizes": b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}',
    "an unknown dtype": b'{"a": {"dtype": "Q9", "shape": [], "data_offsets": [0, 4]}}',
    "another size": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}abcd',
    "no entry": b'{"a": 3}',
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_safetensors(tmp_path, case):
    header = HEADERS[case]
    if header[:1] == b"{":
        size = header.rindex(b"}") + 1
        header = size.to_bytes(8, "little") + header
    (tmp_path / "subset").mkdir()
    (tmp_path / "subset" / "x.safetensors").write_bytes(header)
    with pytest.raises(ForeignZooError, match="x.safetensors"):
        read_foreign(tmp_path, "lora")


def test_loras(tmp_path):
    pytest.importorskip("safetensors")
    zoo = read_foreign(foreign_files.lora(tmp_path).path)
    assert zoo.columns["imagenet_class_id"].tolist() == [100, 102, 101]
    assert zoo.label("subset") == ["subset_0", "subset_0", "subset_1"]
    assert zoo.params["A"].shape == (3, 2, 6) and zoo.params["B"].shape == (3, 5, 2)


def test_weights2weights(tmp_path):
    made = foreign_files.weights2weights(tmp_path)
    zoo = read_foreign(made.path)
    space = read_components(made.path)
    assert (space.std < 0).sum() == 1
    coordinates = read_foreign(made.path, rows="coordinates").params["coordinates"]
    # the part of the weights within the components is found again, negative deviations and all
    standard = (zoo.params["weights"] - space.mean) / space.std
    inside_space = standard @ space.directions @ space.directions.T * space.std + space.mean
    np.testing.assert_allclose(space.weights(coordinates), inside_space, atol=1e-5)
    with pytest.raises(ValueError, match="rows: 'columns'"):
        read_foreign(made.path, rows="columns")


def test_sane_tokens(tmp_path):
    zoo = read_foreign(foreign_files.sane_tokens(tmp_path).path)
    np.testing.assert_allclose(zoo.columns["test_acc"], [2.5, 10.5, 0.5])
    assert zoo.label("split") == ["train", "train", "test"]
    assert zoo.params["tokens"].shape == (3, 7, 5) and zoo.columns["positions"].shape == (3, 7, 3)
    assert dict(zoo.roles)["training_iteration"] == "step"


@pytest.mark.parametrize("name", ["functa_npz", "modelzoo_pt"])
def test_pickles_are_opted_in(tmp_path, name):
    made = foreign_files.MAKERS[name](tmp_path)
    with pytest.raises(ForeignZooError, match="plain=True.*trusted=True"):
        read_foreign(made.path)


def test_functa_code_does_not_run_in_plain_reading(tmp_path):
    import pickle

    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "x_modulations_8.npz"
    path.write_bytes(pickle.dumps({"train": Attack()}))
    with pytest.raises(UnknownGlobal):
        read_foreign(path, "functa_npz", plain=True)
    assert not (tmp_path / "ran").exists()


def test_functa_as_dill_writes_it(tmp_path):
    dill = pytest.importorskip("dill")
    made = foreign_files.functa_npz(tmp_path)
    before = read_foreign(made.path, plain=True)
    with open(made.path, "rb") as file:
        data = dill.load(file)
    with open(made.path, "wb") as file:
        dill.dump(data, file)
    for options in ({"plain": True}, {"trusted": True}):
        after = read_foreign(made.path, **options)
        assert np.array_equal(after.params["modulation"], before.params["modulation"])
        assert after.label("split") == ["train"] * 3 + ["test"] * 2


def test_modelzoo_columns(tmp_path):
    made = foreign_files.modelzoo_pt(tmp_path)
    zoo = read_foreign(made.path, plain=True)
    assert zoo.label("split") == ["train", "train", "val", "test"]
    assert zoo.columns["step"].tolist() == [50] * 4 and zoo.columns["run"].tolist() == [0, 1, 2, 3]
    assert len(read_foreign(made.path, plain=True, split="train")) == 2


def test_transformer_epochs(tmp_path):
    made = foreign_files.transformer_zoo(tmp_path)
    assert read_foreign(made.path, epoch=50).columns["test_accuracy"].tolist() == [
        pytest.approx(0.01)
    ]
    with pytest.raises(ForeignZooError, match="ef3_best_9000.pt, which is not there"):
        read_foreign(made.path, epoch="best")
    with pytest.raises(ForeignZooError, match="not to be split into 3 heads"):
        read_foreign(made.path, heads=3)
    with pytest.raises(ForeignZooError, match="no metadata/svhn.csv"):
        read_foreign(made.path, task="svhn")


# -- images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path, dtype, packed):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path = tmp_path / ("x.gz" if packed else "x")
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data) if packed else data)
    read = read_idx(path)
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no idx file"),
        (b"\1\0\x08\1", "no idx file"),
        (b"\0\0\x07\1", "no idx file"),
        (b"\0\0\x08\3\0\0", "within its header"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], r"5 bytes; its header says \(2, 3\)"),
        (idx_bytes(np.zeros(3, np.uint8)) + b"x", "4 bytes; its header says"),
        (b"\0\0\x08\2" + b"\xff" * 8, "its header says"),
    ],
)
def test_bad_idx(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ForeignZooError, match=message):
        read_idx(tmp_path / "x")


def test_idx_bombs(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(10**6, np.uint8))))
    with pytest.raises(ForeignZooError, match="more than 1000 bytes"):
        read_idx(tmp_path / "x.gz", max_bytes=1000)


def test_cifar(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    for label_bytes in (1, 2):
        records = [
            bytes([9 - i] * (label_bytes - 1) + [i]) + image.transpose(2, 0, 1).tobytes()
            for i, image in enumerate(images)
        ]
        (tmp_path / "x.bin").write_bytes(b"".join(records))
        read = read_cifar(tmp_path / "x.bin", label_bytes=label_bytes)
        np.testing.assert_array_equal(read.images, images)
        assert read.labels.tolist() == [0, 1, 2]
    with pytest.raises(ForeignZooError, match="no multiple of records of 3073"):
        read_cifar(tmp_path / "x.bin")
    with pytest.raises(ValueError, match="label_bytes: 3"):
        read_cifar(tmp_path / "x.bin", label_bytes=3)


@needs_data
def test_real_images():
    images = read_idx(DATA / "mnist" / "train-images-idx3-ubyte.gz")
    assert images.shape == (60000, 28, 28)
    assert images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert images.std() / 255 == pytest.approx(0.3081, abs=1e-4)
    cifar = read_cifar(DATA / "cifar10_first4000" / "data_batch_1_first4000.bin.gz")
    counts = [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
    assert np.bincount(cifar.labels).tolist() == counts and cifar.images.shape == (4000, 32, 32, 3)
