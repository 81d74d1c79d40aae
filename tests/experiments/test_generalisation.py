"""The smoke size of the study: methods and baselines on the same split, kept and not run again."""

import json

import pytest

main = pytest.importorskip("experiments.generalisation").main


def test_methods_stand_beside_the_baselines(tmp_path):
    arguments = [
        "--size",
        "smoke",
        "--folder",
        str(tmp_path),
        "--rows",
        "universal (UNF)",
        "--quiet",
    ]
    result = main(arguments)
    kept = {name: (tmp_path / name).read_text() for name in ("rows.jsonl", "baselines.json")}
    assert {"universal (UNF)", "hyperparameters + ridge", "42 statistics (google) + ridge"} <= set(
        result["rows"]
    )
    assert sum(result["about"]["split"]) == 12  # one network a run
    again = main(arguments)
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])
    assert {name: (tmp_path / name).read_text() for name in kept} == kept
