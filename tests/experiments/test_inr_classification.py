"""The smoke size of the study: every row is trained, kept, and not trained again."""

import json

import numpy as np
import pytest

from configs._metanetworks import Drawings, Entry
from experiments._metanetworks.image_fits import ImageFits
from experiments._zoo.choose import make_task

main = pytest.importorskip("experiments.inr_classification").main

PROBED = "universal, views, probes"
LEARNT = "universal, learnt start (other networks)"


def test_rows_are_trained_once(tmp_path, capsys):
    arguments = ["--size", "smoke", "--folder", str(tmp_path)]
    first = main([*arguments, "--quiet"])
    kept = {name: (tmp_path / name).read_text() for name in ("rows.jsonl",)}
    rows = first["rows"]
    assert set(rows) == {"universal (UNF)", PROBED, LEARNT, "always the commonest class"}
    for row in rows.values():
        assert 0 <= row["scores"]["accuracy"]["mean"] <= 1
    assert rows["universal (UNF)"]["parameters"] > 0
    assert rows[PROBED]["networks"] == 2 * rows["universal (UNF)"]["networks"]  # two views of each
    assert rows[LEARNT]["psnr"] != rows[PROBED]["psnr"] == rows["universal (UNF)"]["psnr"]
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    second = main(arguments)
    assert {name: (tmp_path / name).read_text() for name in kept} == kept
    assert second["rows"] == rows
    assert "universal (UNF)" in capsys.readouterr().out
    shown = main([*arguments, "--seeds", "0"])
    assert shown["rows"] == rows and shown["command"].endswith("--seeds 0")
    longer = main([*arguments, "--seeds", "0", "--steps", "9"])  # trainings of another table
    assert set(longer["rows"]) == {"always the commonest class"}
    assert {name: (tmp_path / name).read_text() for name in kept} == kept


def test_unknown_rows_are_named(tmp_path):
    with pytest.raises(SystemExit, match="'nobody'"):
        main(["--size", "smoke", "--folder", str(tmp_path), "--rows", "nobody"])


def test_images_of_the_test_part_come_last():
    options = {"dataset": "digits", "count": 8, "size": 4}
    every = make_task("signals", options, None, models=8, seed=0)
    task = make_task("signals", {**options, "test": 3}, None, models=16, seed=0)
    assert "held_out" not in every.columns
    assert task.columns["held_out"].tolist() == [0] * 5 + [1] * 3
    found, others = task.test[1], every.test[1]
    np.testing.assert_array_equal(found[:5], others[:5])
    assert (found[5:] != others[5:]).any()
    with pytest.raises(ValueError, match="test is 8 of 8"):
        make_task("signals", {**options, "test": 8}, None, models=8, seed=0)


def test_a_split_keeps_to_the_test_part(tmp_path):
    options = Drawings(images=10, test=4, views=2, zoo_size="tiny", changes={"steps": 2})
    fits = ImageFits(options, tmp_path, seed=0, quiet=True)
    assert [len(part) for part in fits.parts] == [5, 1, 4]
    assert fits.parts[2].tolist() == [6, 7, 8, 9]
    assert sorted(np.concatenate(fits.parts)) == list(range(10))
    chosen = fits.of(Entry("universal", views=2))
    assert sorted(chosen.images[0]) == sorted(np.tile(fits.parts[0], 2))
    assert len(chosen.params[0]["dense_0"]["bias"]) == 10
    with pytest.raises(ValueError, match="3 views of a start 'own': there are 2"):
        fits.of(Entry("universal", views=3))


def test_published_rows_want_their_code(tmp_path):
    with pytest.raises(SystemExit, match="--peers"):
        main(["--size", "smoke", "--folder", str(tmp_path), "--rows", "DWS (authors' code)"])
