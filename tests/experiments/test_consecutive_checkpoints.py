"""The smoke size of the study: p-diff stands beside a normal distribution, and the audit says what to make of it."""

import jax
import pytest

pytest.importorskip("sklearn")

from configs.consecutive_checkpoints import get_config  # noqa: E402
from experiments.consecutive_checkpoints import main  # noqa: E402


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.delenv("WSLJAX_DATA", raising=False)
    with jax.enable_x64(False):
        yield


@pytest.mark.slow
def test_p_diff_stands_beside_a_gaussian_and_a_flag(tmp_path):
    result = main(["--size", "smoke", "--out", str(tmp_path), "--quiet"])
    rows = result["rows"]
    assert {"held-out networks", "p-diff", "raw entry Gaussian"} <= set(rows)
    for row in rows.values():
        assert any(flag.startswith("single_run") for flag in row["flags"])
        assert 0 <= row["values"]["quality/accuracy mean"][0] <= 1
    copies = rows["checkpoints, the training set"]["values"]["weights/ratio"][0]
    assert copies == 0 < rows["raw entry Gaussian"]["values"]["weights/ratio"][0]
    assert result["about"]["generated"] == 4 * 2 * 4  # scale and bias of two layers of 8 channels
    assert (tmp_path / "results.json").exists()


def test_an_unknown_size_is_named():
    with pytest.raises(ValueError, match="smoke, cpu, full"):
        get_config("huge")
