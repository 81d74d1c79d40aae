"""The main job end to end, at a size for tests: results, figure, run folder, resuming, options."""

import dataclasses
import json
import subprocess
import sys

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from configs.quickstart import Config  # noqa: E402
from experiments import quickstart  # noqa: E402
from experiments._quickstart_generation import OURS  # noqa: E402
from wsljax import train  # noqa: E402

pytestmark = pytest.mark.xdist_group("quickstart")  # the fixture is made once

SMALL = Config(
    networks=96, widths=(6, 5), max_steps=40, channels=6, layers=2, steps=30, every=10, batch=16,
    resamples=50, drawn=6, good=1.0, quiet=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run, straight."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, quickstart.main(dataclasses.replace(SMALL, folder=str(folder)))


def test_results_table_and_files(whole):
    folder, results = whole
    assert (
        json.loads((folder / "results.json").read_text())["rows"].keys() == results["rows"].keys()
    )
    assert (folder / "quickstart.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((folder / "config.json").read_text())["networks"] == 96
    steps = [row["step"] for row in train.read_jsonl(folder / "metrics.jsonl")]
    assert steps == [10, 20, 30] * 2
    assert len(results["rows"]) == 4
    for row in results["rows"].values():
        for value, low, high in row.values():
            assert low <= high and value <= 1


def test_new_networks_stand_beside_held_out_ones_and_baselines(whole):
    _, results = whole
    rows = results["generated"]
    assert list(rows)[:2] == ["held-out networks", OURS]
    assert len(rows) == 7 and rows.keys() == results["flags"].keys()
    for row in rows.values():
        assert 0 <= row["test accuracy"][0] <= 1 and row["novelty"][0] > 0
    assert rows["training network + 0.1 sd"]["novelty"][0] < 0.5 < rows[OURS]["novelty"][0]


def test_equivariant_predictions_do_not_move(whole):
    _, results = whole
    change = results["change_under_permutation"]
    assert change[quickstart.OURS] < 1e-4
    assert change[quickstart.FLAT] > 1e-2


@pytest.mark.slow
def test_a_resumed_run_gives_identical_results(whole, tmp_path):
    """Killed while the metanetwork trains, and run again."""

    class Killed(Exception):
        pass

    def dies(step, metrics, **extra):
        if step >= 20:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "combine_logs", lambda *logs: dies)
        with pytest.raises(Killed):
            quickstart.main(dataclasses.replace(SMALL, folder=str(tmp_path)))
    again = quickstart.main(dataclasses.replace(SMALL, folder=str(tmp_path)))
    _, results = whole
    assert again["rows"] == results["rows"]
    assert again["change_under_permutation"] == results["change_under_permutation"]


def test_a_folder_of_another_run_is_left_alone(whole):
    folder, _ = whole
    with pytest.raises(SystemExit, match="other options"):
        quickstart.main(dataclasses.replace(SMALL, folder=str(folder), steps=31))


def test_help_lists_every_option():
    pytest.importorskip("tyro")
    command = [sys.executable, "-m", "experiments.quickstart", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for option in dataclasses.fields(Config):
        assert "--" + option.name.replace("_", "-") in text
