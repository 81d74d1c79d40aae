"""The smoke size of the study: every row is trained, kept, and not trained again."""

import json

import pytest

main = pytest.importorskip("experiments.inr_classification").main


def test_rows_are_trained_once(tmp_path, capsys):
    arguments = ["--size", "smoke", "--folder", str(tmp_path)]
    first = main([*arguments, "--quiet"])
    lines = (tmp_path / "rows.jsonl").read_text()
    rows = first["rows"]
    assert set(rows) > {"flat MLP", "universal (UNF)", "always the commonest class"}
    for row in rows.values():
        assert 0 <= row["scores"]["accuracy"]["mean"] <= 1
    assert rows["universal (UNF)"]["parameters"] > 0
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    second = main(arguments)
    assert (tmp_path / "rows.jsonl").read_text() == lines
    assert second["rows"] == rows
    assert "universal (UNF)" in capsys.readouterr().out


def test_unknown_rows_are_named(tmp_path):
    with pytest.raises(SystemExit, match="'nobody'"):
        main(["--size", "smoke", "--folder", str(tmp_path), "--rows", "nobody"])
