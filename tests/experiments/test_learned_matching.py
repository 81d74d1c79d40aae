"""The smoke size of the study: every way to align is there, and weight matching does what it must."""

import jax
import pytest

pytest.importorskip("sklearn")

from configs.learned_matching import get_config  # noqa: E402
from experiments.learned_matching import main  # noqa: E402


@pytest.fixture(autouse=True)
def float32():
    with jax.enable_x64(False):
        yield


@pytest.mark.slow
def test_pairs_that_were_not_learned_from_are_aligned(tmp_path):
    rows = main(["--size", "smoke", "--folder", str(tmp_path), "--quiet"])["rows"]
    assert list(rows) == list(get_config("smoke").rows)
    score = lambda row, name: rows[row]["scores"][name]["mean"]  # noqa: E731
    assert score("not aligned", "distance") == 1
    for name in ("weight matching", "learned, then weight matching"):
        assert score(name, "distance") < 0.97 and score(name, "copies_found") == 1
    assert score("learned, then weight matching", "distance") <= score(
        "learned, as drawn", "distance"
    )
    again = main(["--size", "smoke", "--folder", str(tmp_path), "--quiet"])["rows"]
    assert again == rows  # kept, not run again


def test_an_unknown_size_is_named():
    with pytest.raises(ValueError, match="smoke, cpu, full"):
        get_config("huge")
