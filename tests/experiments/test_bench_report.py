"""The ruler that all benches measure with."""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import _report

KEYS = ["case", "metric", "ours", "reference", "reference_name", "ratio", "device", "jax"]


def options(**given):
    return argparse.Namespace(**{"out": None, "append": False, "repeats": 3, **given})


def test_a_line_has_the_agreed_keys_and_is_what_the_file_holds(tmp_path, capsys):
    out = tmp_path / "new" / "bench.jsonl"
    report = _report.Report(options(out=out))
    report.add("mlp", "steady_s", 0.5, 1.0, "floor")
    report.add("mlp", "peak_bytes", np.float32(3))
    printed = capsys.readouterr().out.splitlines()
    assert printed == out.read_text().splitlines()
    with_reference, alone = map(json.loads, printed)
    assert list(with_reference) == list(alone) == KEYS
    assert with_reference["ratio"] == 2.0
    assert with_reference["jax"] == jax.__version__
    assert alone["reference"] is alone["ratio"] is alone["reference_name"] is None


def test_a_new_run_replaces_the_file_unless_told_to_append(tmp_path):
    out = tmp_path / "bench.jsonl"
    for append, lines in [(False, 1), (True, 2), (False, 1)]:
        _report.Report(options(out=out, append=append)).add("a", "m", 1.0)
        assert len(out.read_text().splitlines()) == lines


def test_a_figure_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError):
        _report.Report(options()).add("a", "m", float("nan"))
    with pytest.raises(ValueError, match="both its figure and its name"):
        _report.Report(options()).add("a", "m", 1.0, 2.0)


def test_more_work_takes_longer_and_the_wait_is_for_the_result():
    x = jnp.ones((600, 600), jnp.float32)

    def work(turns):
        def fn(x):
            return jax.lax.fori_loop(0, turns, lambda _, y: jnp.tanh(y @ x / 600), x)

        return fn

    times = _report.compare({"little": (work(1), (x,)), "much": (work(40), (x,))}, repeats=3)
    assert times["much"].steady > 5 * times["little"].steady
    assert all(t.trace > 0 and t.compile > 0 for t in times.values())


def test_compilation_is_not_part_of_the_steady_time():
    def fn(x):
        for turn in range(60):
            x = jnp.tanh(
                x @ x + turn
            )  # products keep the steps apart, whatever the compiler's options
        return x

    times = _report.measure(fn, jnp.ones((4, 4)), repeats=3)
    assert times.compile > 10 * times.steady


def test_median_seconds_times_the_call():
    assert 0.02 <= _report.median_seconds(lambda: time.sleep(0.02), repeats=3) < 0.2


def test_no_warm_run_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        _report.measure(jnp.sin, 1.0, repeats=0)
