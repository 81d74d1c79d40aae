"""Rows of a table: what is trained, what is kept, what is shown."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

from configs._metanetworks import Entry, Training

run_rows = pytest.importorskip("experiments._metanetworks.table").run_rows

ROWS = {"small": Entry("universal", channels=2), "large": Entry("universal", channels=3)}


class Trainer:
    """Counts what it is asked to train; the score is the channels and a tenth of the seed."""

    def __init__(self):
        self.asked = []

    def __call__(self, entry, seed):
        self.asked.append((entry.channels, seed))
        return {"scores": {"r2": entry.channels + seed / 10}, "seconds": 1.0}


def test_only_what_is_missing_is_trained(tmp_path):
    file, about = tmp_path / "rows.jsonl", {"training": Training(steps=5, seeds=1).told()}
    first, then = Trainer(), Trainer()
    run_rows(ROWS, 1, first, file, about=about, quiet=True)
    found = run_rows(ROWS, 3, then, file, about=about, quiet=True)
    assert first.asked == [(2, 0), (3, 0)]
    assert then.asked == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert found["large"]["scores"]["r2"]["runs"] == [3.0, 3.1, 3.2]
    assert len(file.read_text().splitlines()) == 6
    few = run_rows(ROWS, 2, then, file, about=about, quiet=True)
    assert few["small"]["seeds"] == 2 and len(then.asked) == 4


def test_rows_kept_before_an_option_was_there_are_theirs(tmp_path):
    file, one = tmp_path / "rows.jsonl", Trainer()
    rows = {"small": Entry("universal", {"pool": "mean"}, channels=2)}
    run_rows(rows, 1, one, file, about={}, quiet=True)
    line = json.loads(file.read_text())
    for later in ("learning_rate", "augment", "pooling"):
        del line["tag"]["entry"][later]
    file.write_text(json.dumps(line) + "\n")
    assert run_rows(rows, 1, one, file, about={}, quiet=True)["small"]["seeds"] == 1
    assert one.asked == [(2, 0)]
    for other in ({"learning_rate": 1e-3}, {"augment": ("sign",)}, {"options": {}}):
        changed = {"small": dataclasses.replace(rows["small"], **other)}
        run_rows(changed, 1, one, file, about={}, quiet=True)
    assert one.asked == [(2, 0)] * 4


def test_without_seeds_what_there_is_is_shown(tmp_path):
    file, about, one = tmp_path / "rows.jsonl", {"networks": 4}, Trainer()
    run_rows({"small": ROWS["small"]}, 2, one, file, about=about, quiet=True)
    shown = run_rows(ROWS, 0, one, file, about=about, quiet=True)
    assert list(shown) == ["small"] and shown["small"]["seeds"] == 2
    assert len(one.asked) == 2
    assert run_rows(ROWS, 0, one, file, about={"networks": 5}, quiet=True) == {}


def test_how_many_are_trained_is_not_part_of_the_table():
    assert Training(seeds=1).told() == Training(seeds=3).told() != Training(steps=1).told()
    assert json.dumps(Training().told())


def test_a_row_has_the_learning_rate_of_the_table_or_its_own():
    learn = pytest.importorskip("experiments._metanetworks.learn")

    def first_step(*own):
        made = learn.optimiser(Training(steps=1, learning_rate=2e-3, weight_decay=0.0), *own)
        params, grads = {"w": jnp.zeros(3)}, {"w": jnp.ones(3)}
        state = made.init(params)
        _, state = made.update(grads, state, params)
        return float(made.update(grads, state, params)[0]["w"][0])

    assert first_step() == first_step(None) == pytest.approx(-2e-3, rel=1e-3)
    assert first_step(5e-3) == pytest.approx(-5e-3, rel=1e-3)
