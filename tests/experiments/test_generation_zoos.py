"""The zoos that generators learn from: split by run, and as good as their sources say (at tiny size)."""

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn")

from experiments._generation.zoos import NAMES, open_zoo  # noqa: E402
from wsljax.generation.evaluation import evaluate  # noqa: E402


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.delenv("WSLJAX_DATA", raising=False)
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize("name", [
    "iris", "sirens_shared", *(pytest.param(n, marks=pytest.mark.slow)
                               for n in NAMES if n not in ("iris", "sirens_shared")),
])  # fmt: skip
def test_a_zoo_is_split_by_run_and_can_be_judged(name, tmp_path):
    found = open_zoo(name, folder=tmp_path, size="tiny", quiet=True)
    runs = [np.asarray(part.columns["run"]) for part in (found.training, found.held_out)]
    assert len(runs[0]) > 2 and len(runs[1]) > 2 and not np.intersect1d(*runs).size
    assert all(len(np.unique(r)) == len(r) for r in runs)  # the last snapshot of each
    options = found.audit_options()
    if found.images is not None:
        drawn = np.asarray(found.training.apply(found.points))[..., 0]
        error = np.mean((drawn - found.images[0]) ** 2)
        assert error < 0.2 * np.var(found.images[0])  # each draws its own digit
        options["scores"] = {"size": lambda p: p["dense_0"]["bias"].sum()}
    report = evaluate(
        found.held_out, found.training, found.held_out, key=jax.random.key(0), diversity=4,
        candidates=1, resamples=10, **options,
    )  # fmt: skip
    assert not any(flag.startswith(("single_run", "shared_runs")) for flag in report.flags)
    if found.images is not None:
        assert report["outputs/ratio"] > 0.3 and report["diversity of outputs/1-NNA"] <= 0.5
    if found.data is not None:
        np.testing.assert_allclose(
            report.columns["accuracy"], found.held_out.columns["test_accuracy"], atol=1e-5
        )
        assert report["quality/accuracy mean"] > 0.5


def test_sizes_and_names(tmp_path):
    with pytest.raises(ValueError, match="there are iris"):
        open_zoo("mnist", folder=tmp_path)
    few = open_zoo("iris", folder=tmp_path, size="tiny", training=3, held_out=2, quiet=True)
    assert len(few.training) == 3 and len(few.held_out) == 2
    with pytest.raises(ValueError, match="there are 8"):
        open_zoo("iris", folder=tmp_path, size="tiny", training=9, quiet=True)
