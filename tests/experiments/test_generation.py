"""The smoke size of the study: rows stand beside held-out networks, are kept, and not run again."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from configs.generation import get_config  # noqa: E402
from experiments._generation.judged import of_images  # noqa: E402
from experiments._generation.refitted import RefittedSpace  # noqa: E402
from experiments.generation import main  # noqa: E402


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.delenv("WSLJAX_DATA", raising=False)
    with jax.enable_x64(False):
        yield


def test_generators_stand_beside_held_out_networks(tmp_path):
    arguments = ["--size", "smoke", "--studies", "digits", "--folder", str(tmp_path), "--quiet"]
    result = main(arguments)
    rows = result["rows"]["digits"]["rows"]
    assert rows["held-out networks"]["scores"]["quality/accuracy mean"]["mean"] > 0.5
    asked = rows["diffusion, asked"]
    assert asked["parameters"] > 0 and len(asked["history"]) > 0
    assert asked["scores"]["weights/ratio"]["mean"] > 0
    assert {"quotient/Z_U", "diversity of quotient/1-NNA"} <= set(asked["scores"])
    assert (tmp_path / "generation.png").stat().st_size > 1000
    kept = (tmp_path / "digits.jsonl").read_text()
    again = main(arguments)
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])
    assert (tmp_path / "digits.jsonl").read_text() == kept


@pytest.mark.slow
def test_sine_networks_are_judged_by_what_they_draw(tmp_path):
    study = "sine networks, own starts"
    result = main(["--size", "smoke", "--studies", study, "--folder", str(tmp_path), "--quiet"])
    rows = {name: row["scores"] for name, row in result["rows"][study]["rows"].items()}
    for scores in rows.values():
        assert {"images/1-NNA", "images/copy ratio", "outputs/ratio"} <= set(scores)
    held_out, mixed = (
        rows[n]["images/MMD"]["mean"] for n in ("held-out networks", "aligned interpolation")
    )
    assert held_out < mixed  # networks of unseen digits draw digits


def test_an_unknown_row_or_study_is_named():
    with pytest.raises(SystemExit, match="nothing"):
        main(["--size", "smoke", "--rows", "nothing"])
    with pytest.raises(SystemExit, match="mnist"):
        main(["--size", "smoke", "--studies", "mnist"])
    with pytest.raises(ValueError, match="smoke, cpu, full"):
        get_config("huge")


def test_refitted_networks_of_one_function_are_one_network():
    inputs = jnp.linspace(-1, 1, 12)[:, None]
    function = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]  # noqa: E731
    draw = lambda seed: {  # noqa: E731
        "a": 2 * jax.random.normal(jax.random.key(seed), (1, 6)),
        "b": jax.random.normal(jax.random.key(seed + 9), (6, 1)),
    }
    one = draw(0)
    start = {"a": one["a"] + draw(4)["a"], "b": draw(4)["b"]}
    moved = {"a": one["a"][:, ::-1], "b": one["b"][::-1]}
    space = RefittedSpace(start, inputs, function, steps=400, rate=0.05)
    first, second = space.encode(one), space.encode(moved)
    np.testing.assert_allclose(first["a"], second["a"], atol=1e-3)
    error = lambda p: float(jnp.mean((function(p, inputs) - function(one, inputs)) ** 2))  # noqa: E731
    assert error(first) < 0.05 * error(start)


def test_copies_have_no_copy_ratio_and_unlike_images_are_told_apart():
    rng = np.random.default_rng(0)
    training, unseen = rng.standard_normal((2, 30, 16))
    assert of_images(training, training, unseen)["images/copy ratio"] < 1e-6
    far = of_images(unseen + 50, training, unseen)
    assert far["images/1-NNA"] == 1.0 and far["images/copy ratio"] > 5
    assert (
        abs(of_images(rng.standard_normal((30, 16)), training, unseen)["images/1-NNA"] - 0.5) < 0.3
    )


@pytest.mark.slow
def test_classes_are_asked_for_and_pictures_are_kept(tmp_path):
    study = "MNIST sine networks"
    result = main(["--size", "smoke", "--studies", study, "--folder", str(tmp_path), "--quiet"])
    rows = {name: row["scores"] for name, row in result["rows"][study]["rows"].items()}
    for scores in rows.values():
        assert 0 <= scores["images/as asked"]["mean"] <= 1
        assert 0 <= scores["images/rarest class"]["mean"] <= 1
    assert rows["held-out networks"]["images/as asked"]["mean"] > 0.4
    assert (tmp_path / "MNIST_sine_networks.png").stat().st_size > 1000
    kept = np.load(tmp_path / "MNIST_sine_networks" / "diffusion_by_class.npy")
    assert kept.shape == (10, 14 * 14)
