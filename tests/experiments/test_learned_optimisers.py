"""The smoke size of the study: meta-trained and tuned optimisers, kept and not run again."""

import json

import numpy as np
import pytest

main = pytest.importorskip("experiments.learned_optimisers").main


def test_learned_ones_stand_beside_tuned_ones(tmp_path):
    arguments = ["--size", "smoke", "--folder", str(tmp_path), "--quiet"]
    result = main(arguments)
    kept = (tmp_path / "rows.jsonl").read_text()
    adam, learned = (
        result["rows"][f"mlp: {n}"] for n in ("Adam, rate for the mean", "universal (UNF)")
    )
    assert adam["chosen"]["near"]["rate"] in (1e-3, 1e-2)
    for row in (adam, learned):
        assert np.isfinite([score["mean"] for score in row["scores"].values()]).all()
        assert len(row["curves"]["near"]["train_loss"]) == 4  # twice the horizon
    assert learned["before"]["train_loss"] != learned["scores"]["train_loss"]["mean"]  # it learned
    assert len(learned["meta_loss"]) == 4
    assert result["rows"]["mlp: Adam, meta-trained rate"]["parameters"] == 1
    assert (tmp_path / "learned_optimisers.png").stat().st_size > 10_000
    again = main(arguments)
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])
    assert (tmp_path / "rows.jsonl").read_text() == kept


def test_unknown_rows_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="--rows"):
        main(["--size", "smoke", "--folder", str(tmp_path), "--rows", "no such"])
