"""INRs of others: splits, the traps of their layouts, the real file, and writing our own."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data import data_folder
from tests.zoo import foreign_files
from wsljax.interop.torch_file import read_torch, write_torch
from wsljax.zoo.architectures.siren import grid
from wsljax.zoo.foreign import (
    ForeignZooError,
    read_dws_inr,
    read_fmnist_inr,
    read_foreign,
    read_idx,
    read_nfn_siren,
    write_dws,
    write_nfn,
)
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population

DATA = data_folder()
needs_data = pytest.mark.skipif(DATA is None, reason="the real data files are not here")


# -- DWSNets ---------------------------------------------------------------------------------------


def test_dws_columns(tmp_path):
    made = foreign_files.dws_inr(tmp_path)
    inrs = read_dws_inr(made.path)
    assert inrs.columns["label"].tolist() == [6, 0, 0, 5]
    assert inrs.columns["index"].tolist() == [12, 2, 10, 1]
    assert inrs.label("part") == ["testing", "training", "training", "training"]
    assert inrs.label("split") == ["test", "train", "train", "val"]
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        part = read_dws_inr(made.path, split=split)
        assert len(part) == count and set(part.label("split")) == {split}


def test_dws_folders_are_read_with_or_without_what_is_above(tmp_path):
    made = foreign_files.dws_inr(tmp_path)
    (tmp_path / "mnist_splits.json").rename(tmp_path / "elsewhere.json")
    inner = read_foreign(tmp_path / "mnist-inrs")
    assert len(inner) == 4 and "split" not in inner.columns
    given = read_foreign(tmp_path, splits=tmp_path / "elsewhere.json")
    assert given.label("split") == ["test", "train", "train", "val"]
    one = read_foreign(next(p for p in (made.path / "mnist-inrs").iterdir() if "_6_12" in p.name))
    assert one.columns["index"].tolist() == [12]
    with pytest.raises(ForeignZooError, match="no mnist_splits.json"):
        read_dws_inr(tmp_path, split="train")
    with pytest.raises(ValueError, match="split: 'valid'"):
        read_dws_inr(tmp_path, split="valid")


SPLITS = {"path": ["mnist-inrs/mnist_png_testing_6_12/checkpoints/model_final.pth"], "label": ["6"]}
BAD_SPLITS = {
    "leads out": ({"test": {**SPLITS, "path": ["../../etc/passwd"]}}, "leads out"),
    "absolute": ({"test": {**SPLITS, "path": ["/etc/passwd"]}}, "leads out"),
    "another label": ({"test": {**SPLITS, "label": ["7"]}}, "says label 7"),
    "label that is no number": ({"test": {**SPLITS, "label": ["cat"]}}, "label 'cat'"),
    "twice": ({"test": SPLITS, "train": SPLITS}, "twice"),
    "other lengths": ({"test": {**SPLITS, "label": []}}, "one length"),
    "other part": ({"tests": SPLITS}, "parts"),
    "no folder of an INR": (
        {"test": {**SPLITS, "path": ["mnist-inrs/x.pth"]}},
        "no folder of an INR",
    ),
    "no dictionary": ([1], "no splits file"),
    "path that is no text": ({"test": {**SPLITS, "path": [3]}}, "a path 3"),
}


@pytest.mark.parametrize("case", BAD_SPLITS)
def test_bad_splits_files(tmp_path, case):
    foreign_files.dws_inr(tmp_path)
    value, message = BAD_SPLITS[case]
    (tmp_path / "mnist_splits.json").write_text(json.dumps(value))
    with pytest.raises(ForeignZooError, match=message):
        read_dws_inr(tmp_path)


BAD_STATES = {
    "no state dict": ([np.ones(3)], "no state dict"),
    "a number": ({"seq.0.weight": 3}, "no array"),
    "a layer of another kind": ({"seq.0.weight": np.ones((2, 2, 3, 3), "f4")}, "no dense layer"),
    "widths that do not fit": (
        {"seq.0.weight": np.ones((3, 2), "f4"), "seq.1.weight": np.ones((1, 4), "f4")},
        "4 inputs, not 3",
    ),
    "a bias that does not fit": (
        {"seq.0.weight": np.ones((3, 2), "f4"), "seq.0.bias": np.ones(2, "f4")},
        "bias of shape",
    ),
    "no number": ({"weight": np.ones((3, 2), "f4")}, "one number in each"),
    "nothing": ({}, "no state dict"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_state_dicts(tmp_path, case):
    foreign_files.dws_inr(tmp_path)
    value, message = BAD_STATES[case]
    file = tmp_path / "mnist-inrs/mnist_png_training_0_2/checkpoints/model_final.pth"
    write_torch(value, file)
    with pytest.raises(ForeignZooError, match=message) as error:
        read_dws_inr(tmp_path)
    assert str(file) in str(error.value)


def test_several_checkpoints_are_not_guessed_between(tmp_path):
    foreign_files.dws_inr(tmp_path)
    folder = tmp_path / "mnist-inrs/mnist_png_training_0_2/checkpoints"
    shutil.copy(folder / "model_final.pth", folder / "model_best.pth")
    with pytest.raises(ForeignZooError, match="model_best.pth, model_final.pth"):
        read_dws_inr(tmp_path)


@needs_data
def test_the_real_mnist_inr_shows_its_image():
    inrs = read_foreign(DATA / "mnist_inr_orbit")
    assert len(inrs) == 1 and inrs.columns["label"].tolist() == [6]
    assert inrs.columns["index"].tolist() == [3665] and inrs.label("part") == ["testing"]
    images = read_idx(DATA / "mnist" / "t10k-images-idx3-ubyte.gz") / 255
    drawn = np.asarray(inrs.apply(grid(28, 28, order="xy")))[0].reshape(28, 28)
    psnr = -10 * np.log10(((images - drawn) ** 2).mean((1, 2)))
    assert psnr.argmax() == 3665 and psnr[3665] == pytest.approx(24.3, abs=0.05)
    assert read_idx(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz")[3665] == 6


@needs_data
def test_the_real_orbit_has_one_function():
    inrs = read_foreign(DATA / "mnist_inr_orbit")
    with np.load(DATA / "mnist_inr_orbit" / "mnist_inr_orbit_6_3665.npz") as orbit:
        assert all(
            np.array_equal(orbit[f"seq.{i}.weight"][0].T, inrs[0][f"dense_{i}"]["kernel"])
            for i in range(3)
        )


@needs_data
@pytest.mark.parametrize(
    "file, first", [("mnist", (2, 32, 1)), ("fmnist", (2, 32, 1)), ("zoo_cifar_nfn", (3, 3))]
)
def test_the_real_statistics(file, first):
    read = read_torch(DATA / "mnist_inr_orbit" / f"{file}_statistics.pth")
    assert set(read) == {"weights", "biases"} and set(read["weights"]) == {"mean", "std"}
    assert read["weights"]["mean"][0].shape == first
    assert all((array > 0).all() for array in read["weights"]["std"])


# -- Fashion-MNIST ---------------------------------------------------------------------------------


def test_fmnist_columns_and_paths_of_another_machine(tmp_path):
    made = foreign_files.fmnist_inr(tmp_path)
    inrs = read_fmnist_inr(made.path)
    assert inrs.columns["label"].tolist() == [3, 4, 5]
    assert inrs.columns["index"].tolist() == [2, 10, 0]
    assert inrs.label("split") == ["train", "val", "test"]
    assert inrs.label("part") == ["train", "train", "test"]
    assert len(read_fmnist_inr(tmp_path, split="val")) == 1


@pytest.mark.parametrize("label", [None, 2.5, [1, 2], "three"])
def test_fmnist_labels_are_integers(tmp_path, label):
    made = foreign_files.fmnist_inr(tmp_path)
    file = made.path / "train" / "model_2.pth"
    state = dict(made.states[0])
    write_torch(state if label is None else {**state, "label": label}, file)
    with pytest.raises(ForeignZooError, match="label"):
        read_fmnist_inr(made.path)


# -- NFN -------------------------------------------------------------------------------------------


def test_nfn_leaves_augmented_folders_out(tmp_path):
    made = foreign_files.nfn_siren(tmp_path)
    inrs = read_nfn_siren(made.path)
    assert inrs.columns["index"].tolist() == [3, 20, 45_000, 50_000]
    assert inrs.columns["label"].tolist() == [3, 0, 0, 0]
    assert inrs.label("split") == ["train", "train", "val", "test"]
    assert set(inrs.columns["augmentation"].tolist()) == {-1}
    second = read_nfn_siren(made.path, augmented=1)
    plain = inrs.params["dense_0"]["kernel"]
    np.testing.assert_allclose(second.params["dense_0"]["kernel"], plain + 2, rtol=1e-6)
    everything = read_nfn_siren(made.path, augmented=True)
    assert len(everything) == 12
    assert everything.columns["augmentation"].tolist() == [-1] * 4 + [0] * 4 + [1] * 4
    with pytest.raises(ForeignZooError, match="augmented=7"):
        read_nfn_siren(made.path, augmented=7)


def test_nfn_prefixes_are_not_mixed(tmp_path):
    made = foreign_files.nfn_siren(tmp_path)
    shutil.copytree(tmp_path / "randinit_smaller_0s", tmp_path / "other_0s")
    with pytest.raises(ForeignZooError, match="are of the same image|say which by `prefix=`"):
        read_nfn_siren(made.path)
    assert len(read_nfn_siren(made.path, prefix="other")) == 3


def test_nfn_one_image_under_two_labels(tmp_path):
    made = foreign_files.nfn_siren(tmp_path)
    shutil.copytree(tmp_path / "randinit_smaller_3s", tmp_path / "randinit_smaller_4s")
    with pytest.raises(ForeignZooError, match="are of the same image"):
        read_nfn_siren(made.path)


# -- the Implicit-Zoo ------------------------------------------------------------------------------


def test_implicit_zoo_scores_belong_to_the_last_seed(tmp_path):
    inrs = read_foreign(foreign_files.implicit_zoo(tmp_path).path)
    assert inrs.columns["index"].tolist() == [0, 0, 2] and inrs.columns["seed"].tolist() == [
        0,
        7,
        2,
    ]
    np.testing.assert_array_equal(inrs.columns["psnr"], np.float32([np.nan, 31.5, 30.25]))


def test_implicit_zoo_files_that_contradict_their_names(tmp_path):
    made = foreign_files.implicit_zoo(tmp_path)
    write_torch(
        {"image_idx": 5, "params": made.states[0]}, tmp_path / "ckpts/04/000000_0000000.ckpt"
    )
    with pytest.raises(ForeignZooError, match="of the image 5"):
        read_foreign(made.path)


# -- our own in their layouts ----------------------------------------------------------------------


def inrs(frequency=30.0, first=None, offset=0.5, **columns) -> Population:
    settings = {"widths": (2, 8, 8, 1), "frequency": frequency, "offset": offset}
    function = Function("siren", settings | ({} if first is None else {"first_frequency": first}))
    keys = jax.random.split(jax.random.key(0), 5)
    params = jax.vmap(lambda key: function.init({}, key=key))(keys)
    columns = {"label": [3, 1, 4, 1, 5], "index": [0, 10, 2, 7, 1], **columns}
    return Population(params, columns, function=function)


X = grid(9, 7)


@pytest.mark.parametrize("settings", [{}, {"frequency": 20.0, "offset": 0.0}, {"first": 45.0}])
def test_dws_round_trip_keeps_the_functions(tmp_path, settings):
    given = inrs(**settings, split=[0, 0, 1, 2, 0])
    given = given.with_columns({}, {"split": ("train", "val", "test")})
    write_dws(given, tmp_path)
    back = read_dws_inr(tmp_path)
    assert back.function == Function(
        "siren", {"widths": (2, 8, 8, 1), "frequency": 30.0, "offset": 0.5}
    )
    rows = [
        next(i for i in range(5) if given.columns["index"][i] == k) for k in back.columns["index"]
    ]
    given = given.take(rows)
    assert back.columns["label"].tolist() == given.columns["label"].tolist()
    assert back.label("split") == given.label("split")
    assert back.label("part") == [
        "testing" if s == "test" else "training" for s in given.label("split")
    ]
    np.testing.assert_allclose(back.apply(X), given.apply(X), atol=2e-5)
    if not settings:
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, back.params, given.params)))


def test_nfn_round_trip_keeps_the_functions(tmp_path):
    given = inrs(frequency=20.0, augmentation=[-1, -1, 0, -1, 0])
    write_nfn(given, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "randinit_smaller_1s", "randinit_smaller_3s",
        "randinit_smaller_aug0_4s", "randinit_smaller_aug0_5s",
    ]  # fmt: skip
    plain, copies = read_nfn_siren(tmp_path), read_nfn_siren(tmp_path, augmented=0)
    np.testing.assert_allclose(plain.apply(X), given.take([0, 3, 1]).apply(X), atol=2e-5)
    np.testing.assert_allclose(copies.apply(X), given.take([4, 2]).apply(X), atol=2e-5)


def test_what_we_read_we_write_again_byte_for_byte(tmp_path):
    made = foreign_files.dws_inr(tmp_path / "a" if (tmp_path / "a").mkdir() is None else None)
    write_dws(read_dws_inr(made.path), tmp_path / "b")
    for file in sorted(p for p in made.path.rglob("*") if p.is_file()):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(made.path)).read_bytes()


@needs_data
def test_the_real_inr_written_again_has_the_same_tensors(tmp_path):
    write_dws(read_foreign(DATA / "mnist_inr_orbit"), tmp_path)
    name = "mnist-inrs/mnist_png_testing_6_3665/checkpoints/model_final.pth"
    ours, theirs = read_torch(tmp_path / name), read_torch(DATA / "mnist_inr_orbit" / name)
    assert list(ours) == list(theirs) and all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_torch_reads_what_we_write(tmp_path):
    """As the loaders of DWSNets and of neural graphs do: weights transposed, in the file's order."""
    torch = pytest.importorskip("torch")
    given = inrs()
    write_dws(given, tmp_path)
    splits = json.loads((tmp_path / "mnist_splits.json").read_text())["train"]
    assert len(splits["path"]) == 5 and splits["label"] == ["3", "1", "4", "1", "5"]
    for row, path in enumerate(splits["path"]):
        state = torch.load(tmp_path / path, map_location="cpu", weights_only=True)
        weights = [v.permute(1, 0) for w, v in state.items() if "weight" in w]
        biases = [v for w, v in state.items() if "bias" in w]
        x = torch.tensor(X)
        for w, b in zip(weights[:-1], biases[:-1]):
            x = torch.sin(30 * (x @ w + b))
        out = (x @ weights[-1] + biases[-1] + 0.5).numpy()
        np.testing.assert_allclose(out, given.apply(jnp.asarray(X))[row], atol=2e-5)


@pytest.mark.parametrize("write", [write_dws, write_nfn])
def test_what_cannot_be_written(tmp_path, write):
    with pytest.raises(ValueError, match="would be written as"):
        write(inrs(index=[0, 0, 1, 2, 3], label=[1, 1, 1, 1, 1]), tmp_path)
    with pytest.raises(ValueError, match="no column 'label'"):
        write(Population(inrs().params, {"index": range(5)}, function=inrs().function), tmp_path)
    with pytest.raises(ValueError, match="integers"):
        write(inrs(label=np.ones(5)), tmp_path)
    with pytest.raises(ValueError, match="SIRENs.*says nothing"):
        write(Population(inrs().params, inrs().columns), tmp_path)
    mlp = Function("mlp", {"widths": (2, 8, 8, 1)})
    with pytest.raises(ValueError, match="SIRENs.*'mlp'"):
        write(inrs().with_function(mlp), tmp_path)
    with pytest.raises(ValueError, match="linear outputs, not 'sigmoid'"):
        settings = {"widths": (2, 8, 8, 1), "output": "sigmoid"}
        write(inrs().with_function(Function("siren", settings)), tmp_path)
    assert not list(tmp_path.rglob("*.pth"))


def test_nfn_has_one_digit_for_labels(tmp_path):
    with pytest.raises(ValueError, match="one digit"):
        write_nfn(inrs(label=[1, 2, 3, 4, 10]), tmp_path)
