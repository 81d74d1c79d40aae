"""What recreated zoos learn from: draws, words, shapes, scenes, files, masks."""

import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sklearn")

from configs.zoo._config import Choice, Grid, LogUniform, Uniform, Where  # noqa: E402
from experiments._zoo import data, scenes, sequences, tasks  # noqa: E402
from experiments._zoo.descend import dropout_penalty, magnitude_masks  # noqa: E402
from experiments._zoo.hyper import draw_hyper  # noqa: E402


@pytest.fixture(autouse=True)
def float32():
    with jax.enable_x64(False):
        yield


def test_masks_and_the_penalty_of_dropout():
    weights = {"a": jnp.arange(1.0, 11.0).reshape(2, 5), "b": jnp.zeros(3)}
    for share, kept in ((0.0, 10), (0.3, 7), (1.0, 0)):
        masks = magnitude_masks(weights, jnp.float32(share))
        assert int(masks["a"].sum()) == kept and int(masks["b"].sum()) == 3
    # of Molchanov et al. 2017: no penalty where the noise outweighs the weight, log growth before
    assert abs(float(dropout_penalty(jnp.float32(8.0)))) < 1e-2
    slope = dropout_penalty(jnp.float32(-9.0)) - dropout_penalty(jnp.float32(-8.0))
    assert abs(float(slope) - 0.5) < 1e-2


def test_words_of_languages():
    task = sequences.languages(None, models=3, seed=0, count=3, offsets=2, longest=3, test=1)
    x, y = task.own[1]
    for row, (words, targets) in enumerate(zip(x, y)):
        offsets = task.columns["offsets"][row]
        for n, word, target in zip((1, 3), words, targets):
            letters = target[target > 0]
            assert np.bincount(letters, minlength=5)[1:].tolist() == (offsets + n).tolist()
            assert np.all(np.diff(letters) >= 0) and word[0] == 0
            np.testing.assert_array_equal(word[1 : len(letters) + 1], letters)
    inputs, known = task.test
    mine = known[0][0]
    assert mine[0] == -1 and np.all(mine[inputs[0] == 2] >= 2) and np.all(known[0][1] == -1)


def test_shapes_and_scenes_are_what_they_say():
    task = scenes.shapes(None, models=4, seed=0, count=4, points=24, field="sdf")
    distance = task.own[1][..., 0].reshape(4, 24, 24, 24)
    step = 2 / 23
    for number, kind in enumerate(("sphere", "box", "torus")):
        assert -0.5 <= distance[number].min() < 0 < distance[number].max() <= 0.5, kind
        slope = np.sqrt(sum(np.square(g) for g in np.gradient(distance[number], step)))
        free = np.abs(distance[number]) < 0.3
        assert abs(np.median(slope[free]) - 1) < 0.02, kind  # a distance has a slope of one
    rays = scenes._camera(np.array([0.0, 0.0, 1.5]), 9)
    box = {"kind": "box", "middle": np.zeros(3), "size": np.full(3, 0.3), "colour": np.ones(3)}
    seen = scenes.trace([box], rays).reshape(9, 9, 3)
    hit = np.any(seen != 1, axis=-1)
    assert hit[4, 4] and not hit[0, 0] and np.array_equal(hit, hit[::-1]) and hit.sum() == 25


def test_affine_turns_by_quarters_and_resize_keeps_corners():
    x = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3, 1)
    turned = tasks.affine(x, np.pi / 2, 0.0, np.ones(2))[0, :, :, 0]
    assert any(np.allclose(turned, np.rot90(x[0, :, :, 0], k), atol=1e-5) for k in (1, 3))
    larger = data.resize(x, 5)[0, :, :, 0]
    assert larger[::4, ::4].tolist() == x[0, ::2, ::2, 0].tolist() and larger[2, 2] == 4


def test_chance_is_the_best_answer_that_does_not_look():
    targets = np.array([0, 0, 0, 1], np.int32)
    task = tasks.Task("", (np.zeros((4, 1)), targets), None, (np.zeros((4, 1)), targets))
    assert task.chance("test_accuracy") == 0.75
    assert task.chance("cross_entropy") == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    signal = np.array([[[0.0], [1.0]]], np.float32)
    family = tasks.Task("", np.zeros((2, 1)), ("image", signal), (np.zeros((2, 1)), signal))
    assert family.chance("psnr") == pytest.approx(10 * np.log10(4))


def test_draws():
    hyper = {
        "kind": Choice(("a", "b")), "flat": Uniform(2.0, 3.0), "log": LogUniform(1e-4, 1.0),
        "by": Where("kind", {"a": 5.0}, Uniform(0.0, 1.0)), "same": 7,
    }  # fmt: skip
    drawn = draw_hyper(hyper, 4000, seed=1, start=10)
    assert abs(np.mean(np.log10(drawn["log"])) + 2) < 0.1 and 2 <= drawn["flat"].min()
    assert np.all(drawn["by"][drawn["kind"] == "a"] == 5) and drawn["by"].max() == 5
    assert np.all(drawn["by"][drawn["kind"] == "b"] <= 1) and set(drawn["same"]) == {7}
    assert drawn["seed"][0] == 10
    more = draw_hyper({**hyper, "new": Uniform(0, 1)}, 4000, seed=1, start=10)
    assert all(np.array_equal(more[name], drawn[name]) for name in drawn)
    grid = draw_hyper({"a": Grid((1, 2, 3)), "b": Grid((1, 2))}, 4, seed=0)
    assert len(set(zip(grid["a"], grid["b"]))) == 4
    with pytest.raises(ValueError, match="is to come before"):
        draw_hyper({"x": Where("later", {}, 0.0), "later": 1}, 2, seed=0)


def _write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def test_files_of_images_are_used_where_they_are(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        _write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        _write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    found = data.images("mnist", tmp_path, train=30)
    assert found.source == "mnist" and found.train_x.shape == (30, 28, 28, 1)
    assert found.test_y.tolist() == [*range(10)] * 2 and 0.9 < found.train_x.max() <= 1
    batch = rng.integers(0, 256, (10, 3073)).astype(np.uint8)
    batch[:, 0] = np.arange(10)
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "data_batch_1.bin").write_bytes(batch.tobytes())
    colours = data.images("cifar10", tmp_path)
    assert colours.train_y.tolist() == [*range(8)] and colours.test_y.tolist() == [8, 9]
    with pytest.raises(FileNotFoundError, match="fashion_mnist.*leave out --data"):
        data.images("fashion_mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder.*WSLJAX_DATA"):
        data.data_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there are digits, mnist"):
        data.images("imagenet", None)
