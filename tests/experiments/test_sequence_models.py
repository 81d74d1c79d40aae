"""The smoke size of the study: gates are found, methods and baselines stand on one split."""

import json

import pytest

main = pytest.importorskip("experiments.sequence_models").main


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
            assert low <= high or low != low  # two networks have no tau if they tie
    kept = (tmp_path / "lstm_languages" / "rows.jsonl").read_text()
    again = main(arguments)
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])
    assert (tmp_path / "lstm_languages" / "rows.jsonl").read_text() == kept
    assert "universal (UNF)" in capsys.readouterr().out


def test_unknown_populations_are_named(tmp_path):
    with pytest.raises(SystemExit):
        main(["--size", "smoke", "--folder", str(tmp_path), "--populations", "rnn"])
