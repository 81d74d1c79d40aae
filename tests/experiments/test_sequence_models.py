"""The smoke size of the study: gates are found, methods and baselines stand on one split."""

import json

import numpy as np
import pytest

main = pytest.importorskip("experiments.sequence_models").main

from experiments._metanetworks import success  # noqa: E402
from experiments._metanetworks.learn import logit  # noqa: E402


def test_success_of_lstms_from_their_weights(tmp_path, capsys):
    arguments = ["--size", "smoke", "--folder", str(tmp_path)]
    result = main([*arguments, "--quiet"])
    assert set(result["rows"]) == {"lstm_languages"}
    about, rows = result["about"]["lstm_languages"], result["rows"]["lstm_languages"]
    recurrent = about["axes"]["cell_0/recurrent"]  # four gates of the units that it reads
    unit = recurrent.split()[0]
    assert recurrent == f"{unit} {'+'.join([unit] * 4)}"
    assert about["axes"]["dense/kernel"] == f"{unit} _"
    assert sum(about["split"]) == about["networks"] <= 12
    assert {"universal (UNF)", "pointwise (Deep Set)", "hyperparameters + ridge"} <= set(rows)
    for row in rows.values():
        for score in ("r2", "tau"):
            low, high = row["intervals"][score]
            assert not low > high  # two networks have no tau if they tie
    kept = (tmp_path / "lstm_languages" / "rows.jsonl").read_text()
    again = main(arguments)
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])
    assert (tmp_path / "lstm_languages" / "rows.jsonl").read_text() == kept
    assert "universal (UNF)" in capsys.readouterr().out


def test_unknown_populations_are_named(tmp_path):
    with pytest.raises(SystemExit):
        main(["--size", "smoke", "--folder", str(tmp_path), "--populations", "rnn"])


def test_guesses_undo_standardised_logits():
    truth = np.array([0.0, 0.2, 0.9, 1.0], np.float32)
    mean, deviation = success.scale_of(truth)
    answers = (np.asarray(logit(truth)) - mean)[:, None] / deviation
    np.testing.assert_allclose(success.guesses(answers, (mean, deviation)), truth, atol=1e-5)
    found = success.intervals(truth, truth, 0)
    assert set(found) == {"r2", "tau"} and found["r2"] == [1, 1]
    with pytest.raises(ValueError, match="same target 0.5"):
        success.scale_of(np.full(3, 0.5, np.float32))


def test_plain_rows_are_fitted_again_for_another_table(tmp_path):
    calls = []

    def compute():
        calls.append(None)
        value = [float(len(calls)), 0.0, 2.0]
        return [{"features": "f", "predictor": "p", "r2": value, "kendall": value}]

    file = tmp_path / "new" / "baselines.json"
    first = [success.plain_rows(file, {"split": (1, 2)}, compute) for _ in range(2)]
    assert first[0] == first[1] and len(calls) == 1
    assert first[0]["f + p"]["scores"]["tau"]["mean"] == 1
    assert first[0]["f + p"]["intervals"]["r2"] == [0, 2]
    assert success.plain_rows(file, {"split": (2, 1)}, compute) != first[0]
