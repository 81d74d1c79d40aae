"""The smoke size of the study: architectures share batches, and both tables stand on their splits."""

import dataclasses
import json

import jax
import numpy as np
import pytest

study = pytest.importorskip("experiments.mixed_generalisation")

from configs.mixed_generalisation import get_config  # noqa: E402
from experiments._metanetworks import graphs  # noqa: E402
from wsljax import representation, symmetry, zoo  # noqa: E402


@pytest.mark.slow
def test_one_graph_metanetwork_reads_all_architectures(tmp_path):
    arguments = ["--size", "smoke", "--folder", str(tmp_path), "--quiet"]
    result = study.main(arguments)
    assert set(result["rows"]) == {"architectures"}
    for name, rows in result["rows"].items():
        about = result["about"][name]
        assert about["architectures"] == 3 and sum(about["split"]) == about["networks"]
        assert len(set(about["weights"])) == 3
        assert {"graph metanetwork", "hyperparameters + ridge"} <= set(rows)
        assert sum("statistics" in row for row in rows) == 3
        assert rows["graph metanetwork"]["parameters"] > 0
    kept = {n: (tmp_path / n / "rows.jsonl").read_text() for n in result["rows"]}
    again = study.main(arguments)
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])
    assert {n: (tmp_path / n / "rows.jsonl").read_text() for n in kept} == kept


def _narrow_and_deep():
    found = []
    for widths in ((3, 5), (3, 4, 6)):
        function = zoo.Function("mlp", {"widths": (2, *widths, 1)})
        params = jax.vmap(lambda k, f=function: f.init({}, key=k))(
            jax.random.split(jax.random.key(len(widths)), 6)
        )
        spec = symmetry.infer(lambda p, x, f=function: f.apply(p, x, {}),
                              jax.tree.map(lambda x: x[0], params), np.ones((4, 2), np.float32))  # fmt: skip
        columns = {"accuracy": np.linspace(0.1, 0.9, 6, dtype=np.float32), "run": np.arange(6)}
        found.append(zoo.Population(params, columns, spec, function=function))
    return found


def test_splits_hold_runs_or_architectures_out():
    populations = _narrow_and_deep()
    populations.append(populations[0])
    config = get_config("smoke")
    seen, unseen = (study._split(populations, config, hold_out=held) for held in (False, True))
    for split in (seen, unseen):
        assert np.array_equal(np.sort(np.concatenate(split)), np.arange(18))
    of = [set((part // 6).tolist()) for part in unseen]
    assert [len(part) for part in of] == [1, 1, 1]
    assert all({0, 1, 2} == set((part // 6).tolist()) for part in seen)


def test_other_methods_are_refused():
    networks = representation.HeterogeneousPopulation(_narrow_and_deep())
    config = get_config("smoke")
    entry = dataclasses.replace(next(iter(config.rows.values())), method="nfn")
    with pytest.raises(ValueError, match="'nfn' does not read networks of several architectures"):
        graphs.learn_graphs(
            entry, networks, zoo.split(12, key=jax.random.key(0)), "accuracy",
            study.regression((0.0, 1.0)), config.training, seed=0,
        )  # fmt: skip
