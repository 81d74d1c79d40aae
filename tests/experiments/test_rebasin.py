"""The smoke size of the study: lines and merges, measured once and not again; curves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

main = pytest.importorskip("experiments.rebasin").main

from configs.rebasin import Row, get_config  # noqa: E402
from experiments._rebasin.align import method_of  # noqa: E402
from experiments._rebasin.networks import make_network  # noqa: E402
from experiments._rebasin.published import beside  # noqa: E402
from experiments._rebasin.report import with_intervals  # noqa: E402


def test_lines_and_merges(tmp_path):
    arguments = ["--size", "smoke", "--folder", str(tmp_path / "a"), "--quiet"]
    result = main([*arguments, "--rows", "MLP 8", "--out", str(tmp_path / "b")])
    kept = (tmp_path / "a" / "rows.jsonl").read_text()
    scores = {n: s["mean"] for n, s in result["rows"]["MLP 8"]["scores"].items()}
    assert np.isfinite(list(scores.values())).all()
    for place in (
        "not aligned",
        "weight matching",
        "weight matching, REPAIR",
    ):
        assert scores[f"{place} / train_loss barrier"] >= 0
        curve = result["rows"]["MLP 8"]["curves"][place]
        assert curve["t"] == [0.0, 0.5, 1.0]
        assert scores[f"{place} / train_loss midpoint"] == pytest.approx(
            curve["train_loss"][1], abs=1e-4
        )
    # a line has the same ends aligned or not, repaired or not
    ends = {
        name: (c["train_loss"][0], c["train_loss"][-1])
        for name, c in result["rows"]["MLP 8"]["curves"].items()
    }
    assert np.ptp(np.array(list(ends.values())), 0).max() < 2e-3
    for name in ("not aligned", "each to the first", "MergeMany, REPAIR", "cycle-consistent"):
        assert 0 <= scores[f"3 merged, {name} / test_accuracy"] <= 1
    for name in ("results.json", "barriers.png", "lines.png"):
        assert (tmp_path / "b" / name).stat().st_size == (tmp_path / "a" / name).stat().st_size > 0
    again = main([*arguments, "--rows", "MLP 8"])
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])
    assert (tmp_path / "a" / "rows.jsonl").read_text() == kept


@pytest.mark.slow
def test_the_whole_smoke_size(tmp_path):
    result = main(["--size", "smoke", "--folder", str(tmp_path), "--quiet"])
    assert not result["missing"] and set(result["rows"]) == set(get_config("smoke").rows)
    found = result["rows"]["MLP 8, curves"]
    curves = {n: c["train_loss"] for n, c in found["curves"].items()}
    for place in ("Bezier, not aligned", "geodesic, weight matching"):
        assert curves[place][0] == pytest.approx(curves["weight matching"][0], abs=1e-4)
        assert curves[place][2] == pytest.approx(curves["weight matching"][2], abs=1e-4)
    assert found["scores"]["geodesic, weight matching / length"]["mean"] > 0


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_residual_networks_in_training_and_after(norm):
    network = make_network(Row("resnet", 2, {"norm": norm}, side=8))
    params = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    measured, trained = network.apply(params, x), network.in_training(params, x)
    assert measured.shape == (4, 10) and network.stored == (norm == "batch")
    assert bool(jnp.allclose(measured, trained)) == (norm == "layer")


def test_intervals_and_published_figures():
    score = lambda *runs: {  # noqa: E731
        "mean": float(np.mean(runs)), "std": float(np.std(runs, ddof=1)) if len(runs) > 1 else None,
        "runs": list(runs),
    }  # fmt: skip
    name, figure = "MLP 128, 7 layers, as in REPAIR", "ends / test_accuracy"
    rows = with_intervals({name: {"scores": {figure: score(0.9, 0.92, 0.94), "other": score(1.0)}}})
    # Student's t with two degrees of freedom: 4.3027 at 95%
    assert rows[name]["scores"][figure]["interval"] == pytest.approx(
        4.3027 * 0.02 / 3**0.5, rel=1e-4
    )
    assert rows[name]["scores"]["other"]["interval"] is None
    (found,) = beside(rows)
    assert found["ours"] == pytest.approx(0.92) and found["published"] == 0.9655


def test_every_method_of_every_size_is_known():
    for size in ("smoke", "cpu", "full"):
        for row in get_config(size).rows.values():
            make_network(row)
            assert all(method_of(name) for name in row.methods)


def test_unknown_words_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="--rows"):
        main(["--size", "smoke", "--folder", str(tmp_path), "--rows", "no such"])
    with pytest.raises(ValueError, match="there are mlp"):
        make_network(Row("lstm", 4))
    with pytest.raises(ValueError, match="options of 'mlp'"):
        make_network(Row("mlp", 4, {"norm": "batch"}))
    with pytest.raises(ValueError, match="there are not aligned"):
        method_of("by magic")
