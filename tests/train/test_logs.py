"""JSON lines: what is written is read, also after a killed writer; the bar shows on demand only."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import train
from wsljax.train.logs import to_json


def test_rows_come_back(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    log = train.JsonlWriter(path, stage="fit")
    log(1, {"loss": jnp.float32(0.5), "models": np.int32(3), "name": "a"})
    log(2, {"loss": float("nan"), "per_class": np.array([1.0, np.inf])})
    assert train.read_jsonl(path) == [
        {"step": 1, "stage": "fit", "loss": 0.5, "models": 3, "name": "a"},
        {"step": 2, "stage": "fit", "loss": None, "per_class": [1.0, None]},
    ]
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def test_an_unfinished_line_is_dropped_and_replaced(tmp_path):
    path = tmp_path / "metrics.jsonl"
    train.JsonlWriter(path)(1, {"loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert [row["step"] for row in train.read_jsonl(path)] == [1]
    train.JsonlWriter(path)(3, {"loss": 3.0})
    assert [row["step"] for row in train.read_jsonl(path)] == [1, 3]


def test_damage_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2 is not JSON"):
        train.read_jsonl(path)


def test_logs_combine():
    seen = []
    log = train.combine_logs(lambda step, row: seen.append((step, dict(row))), None, None)
    log(4, {"loss": 1.0})
    assert seen == [(4, {"loss": 1.0})]


def test_to_json_takes_nested_values():
    assert to_json({"a": (np.float32(1.5), [np.nan]), 3: None}) == {"a": [1.5, [None]], "3": None}


def test_the_bar_is_silent_unless_asked_for(capsys):
    with train.progress(10, "quiet") as log:
        log(5, {"loss": 0.5})
    assert capsys.readouterr().err == ""


def test_the_bar_shows_step_and_metrics(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with train.progress(10, "training the zoo", enabled=True) as log:
        log(10, {"loss": 0.123456, "chunk": "2/3", "curve": np.zeros(3)})
    shown = capsys.readouterr().err
    assert "training the zoo" in shown and "10/10" in shown
    assert "loss 0.1235  chunk 2/3" in shown and "curve" not in shown
