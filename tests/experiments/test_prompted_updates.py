"""The smoke size of the study: answers stand beside those that need no learning, and are kept."""

import json

import jax
import pytest

pytest.importorskip("sklearn")

from configs.prompted_updates import get_config  # noqa: E402
from experiments.prompted_updates import main  # noqa: E402


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.delenv("WSLJAX_DATA", raising=False)
    with jax.enable_x64(False):
        yield


@pytest.mark.slow
def test_answers_stand_beside_a_start_and_a_copy(tmp_path):
    arguments = ["--size", "smoke", "--folder", str(tmp_path), "--quiet"]
    rows = main(arguments)["rows"]
    score = lambda row, name: rows[row]["scores"][name]["mean"]  # noqa: E731
    assert abs(score("the start", "slope")) < 1e-6  # whatever is asked
    assert score("nearest training loss", "correlation") > 0.9
    assert score("nearest training loss", "lowest/ratio") < score(
        "the start", "lowest/ratio"
    )  # copies
    assert score("nearest training loss", "log error") < score("the start", "log error")
    for name in ("transformer", "flat, aligned runs"):
        assert rows[name]["parameters"] > 0 and set(rows[name]["curves"]) == {"2", "1"}
        assert len(rows[name]["curves"]["1"]["asked"]) == 3
        assert {"2 steps/slope", "1 steps/lowest/accuracy"} <= set(rows[name]["scores"])
    kept = (tmp_path / "rows.jsonl").read_text()
    assert json.dumps(main(arguments)["rows"]) == json.dumps(rows)
    assert (tmp_path / "rows.jsonl").read_text() == kept


def test_an_unknown_row_or_size_is_named():
    with pytest.raises(SystemExit, match="nothing"):
        main(["--size", "smoke", "--rows", "nothing"])
    with pytest.raises(ValueError, match="smoke, cpu, full"):
        get_config("huge")
    with pytest.raises(ValueError, match="there are digits, mnist"):
        get_config("cpu", "cifar10")
    assert get_config("cpu", "mnist").widths == (784, 10, 10)
