"""The smoke size of the study: every row is trained, kept, and not trained again."""

import json

import pytest

main = pytest.importorskip("experiments.inr_classification").main

PROBED = "+ sign-equivariant layers"
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


def test_unknown_rows_are_named(tmp_path):
    with pytest.raises(SystemExit, match="'nobody'"):
        main(["--size", "smoke", "--folder", str(tmp_path), "--rows", "nobody"])
