"""Editing drawings: what images are to become, and the smoke size of the study."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from configs._metanetworks import Entry
from experiments._metanetworks.editing import EDITS, draw, redrawer
from wsljax import symmetry, zoo

pytest.importorskip("matplotlib")
main = pytest.importorskip("experiments.inr_editing").main


def test_edits_of_a_dot_and_of_an_edge():
    images = np.zeros((2, 5, 5, 1), np.float32)
    images[0, 2, 2] = 0.5
    images[1, :, :2] = 1.0
    dot, edge = EDITS["dilate"](images)[..., 0]
    assert dot.sum() == pytest.approx(4.5) and dot[1:4, 1:4].min() == 0.5
    assert (edge[:, :3] == 1).all() and (edge[:, 3:] == 0).all()
    dot, edge = EDITS["erode"](images)[..., 0]
    assert dot.sum() == 0
    assert (edge[:, :1] == 1).all() and (edge[:, 1:] == 0).all()  # nothing is behind the frame
    assert (EDITS["gradient"](images) == EDITS["dilate"](images) - EDITS["erode"](images)).all()


@pytest.mark.slow
def test_what_is_drawn_does_not_depend_on_order_and_signs():
    function = zoo.Function("siren", {"widths": (2, 5, 4, 1)})
    points = zoo.grid(3, 3)
    params = jax.vmap(lambda key: function.init({}, key=key))(
        jax.random.split(jax.random.key(0), 3)
    )
    one = jax.tree.map(lambda x: x[0], params)
    spec = symmetry.infer(function.apply, one, points, kinds=("permutation", "sign"))
    moved = spec.act(spec.sample(jax.random.key(1)), one)
    entry = Entry("scale_gmn", channels=4, layers=1, probes=2)
    net = redrawer(function, points)(entry, spec, params, 0, key=jax.random.key(2))
    run = eqx.filter_jit(net)
    before = run(one)
    np.testing.assert_allclose(before, run(moved), atol=2e-5)
    assert np.abs(before - draw(function, one, points)).max() > 1e-3  # it changes something
    plain = dataclasses.replace(entry, method="universal", probes=0)
    other = eqx.filter_jit(
        redrawer(function, points)(plain, spec, params, 0, key=jax.random.key(2))
    )
    assert np.abs(other(one) - other(moved)).max() > 1e-3  # which knows nothing of signs


def test_rows_stand_beside_what_needs_no_training(tmp_path):
    arguments = ["--size", "smoke", "--folder", str(tmp_path), "--quiet"]
    result = main(arguments)
    rows = result["rows"]
    assert set(rows) == {f"dilate: {name}" for name in (
        "weights unchanged", "mean edited image", "pointwise (Deep Set)", "universal (UNF)",
    )}  # fmt: skip
    assert all(0 < row["scores"]["mse"]["mean"] < 1 for row in rows.values())
    assert result["about"]["range"] == [0.0, 1.0]
    assert (tmp_path / "dilate.png").read_bytes()[:4] == b"\x89PNG"
    lines = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "dilate.png").unlink()
    assert main(arguments)["rows"] == rows
    assert (tmp_path / "rows.jsonl").read_text() == lines
    assert (tmp_path / "dilate.png").exists()  # drawn from what was kept


def test_unknown_edits_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--size", "smoke", "--folder", str(tmp_path), "--edits", "melt"])
    assert "melt" in capsys.readouterr().err
