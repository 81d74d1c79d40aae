"""Recreated zoos: every config at its tiny size, what the full ones are, kills, damaged calls."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sklearn")

from configs.zoo._config import (  # noqa: E402
    Descend,
    Grid,
    part_configs,
)
from experiments import build_zoo  # noqa: E402
from experiments._zoo import data  # noqa: E402
from experiments._zoo.build import Builder  # noqa: E402
from experiments._zoo.hyper import draw_hyper  # noqa: E402
from wsljax import zoo  # noqa: E402
from wsljax.zoo import store  # noqa: E402

NAMES = sorted(path.stem for path in build_zoo.CONFIGS.glob("[!_]*.py"))
#: Zoos of a task of which another zoo is built by default, and long ones.
ALIKE = {
    "digit_mlps", "digit_sirens", "fashion_cnn", "implicit_images", "iris", "mixed_cnns", "mnist_cnn", "nfn_siren",
    "nws", "shapes_occupancy", "transformer_classification", "varied_gru_digits",
    "lora_identities", "sparse_twins", "varied_lstm_languages",
    "varied_vit_digits", "vit",
}  # fmt: skip
BUILT = [pytest.param(n, marks=[pytest.mark.slow] * (n in ALIKE)) for n in NAMES]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    """float32, and the data that come along whatever the machine has."""
    monkeypatch.delenv(data.VARIABLE, raising=False)
    with jax.enable_x64(False):
        yield


def config_of(name, size="tiny", **changes):
    path = build_zoo.CONFIGS / f"{name}.py"
    return dataclasses.replace(build_zoo.load_config(path, size), **changes)


# --------------------------------------------------------------------------------- all the zoos
@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Tiny zoos, each built once: `built(name) -> (folder, reports)`."""
    found = {}

    def build(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            found[name] = folder, build_zoo.build(config_of(name), folder, quiet=True)
        return found[name]

    return build


@pytest.mark.parametrize("name", BUILT)
def test_a_tiny_zoo_is_built_opened_and_better_than_guessing(name, built):
    folder, reports = built(name)
    assert json.loads((folder / "built.json").read_text())["parts"] == reports
    for part, report in reports.items():
        stored = store.open(folder / part / "networks")  # runs networks again
        assert stored.complete and len(stored) == report["networks"] > 0
        quality = report["quality"]
        for group, metrics in report["metrics"].items():
            assert all(found["finite"] for found in metrics.values()), (group, metrics)
            worse = group == "trained" and name == "vit"  # trained on something else
            assert worse or metrics[quality]["mean"] > report["chance"][quality], group
        roles = dict(stored.roles)
        assert {roles[n] for n in ("run", "parent")} == {"lineage"} and roles["step"] == "step"
        parent = stored.columns["parent"]
        assert np.all(parent < np.arange(len(stored))) and np.all(parent >= -1)
        _permutations_change_nothing(stored)


def _permutations_change_nothing(stored):
    """The spec that was stored is a symmetry of the stored networks, and no trivial one."""
    spec, population = stored.spec, stored.take(np.arange(len(stored))[-2:])
    assert spec.units and spec.log_order() > 0
    params = jax.tree.map(jnp.asarray, population.params)
    moved = jax.tree.map(jnp.asarray, [spec.act(spec.sample(jax.random.key(3)), p)
                                       for p in zoo.Population(params, {})])  # fmt: skip
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *moved)
    changed = [jnp.any(a != b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(stacked))]
    assert any(changed)
    x = jnp.asarray(stored.evaluation.inputs[:16])
    before, after = population.apply(x), population.with_params(stacked).apply(x)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)


#: Weights of one network of the full size, as the sources have them.
WEIGHTS = {
    "tetris_ffn": 100, "mnist_cnn": 2464, "fashion_cnn": 2464, "sparse_twins": 2464,
    "small_cnn_unterthiner": 4970, "dws_siren": 1185, "mnist_sirens": 1185, "nfn_siren": 1185,
    "implicit_images": 2 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3, "breast_cancer": 802, "iris": 131,
    "lenet_pairs": 61_026, "lstm_languages": 13_349, "digit_mlps": 1210, "digit_sirens": 1185,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_size_makes_sense_without_training(name):
    for size in ("tiny", "small", "full"):
        for part, config in part_configs(config_of(name, size)).items():
            hyper = draw_hyper(config.hyper, min(config.models, 300), seed=0)
            assert len(hyper["seed"]) == min(config.models, 300)
            assert (config.steps is None) != (config.epochs is None), part
            if config.base is None:
                function = zoo.Function(config.architecture, config.settings)
                init = functools.partial(function.init, {"init_scale": 1.0, "initialiser": 0})
                shapes = jax.eval_shape(lambda k, init=init: init(key=k), jax.random.key(0))
                count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
                assert size != "full" or WEIGHTS.get(name, count) == count
                for column in function.reads:
                    assert set(hyper[column]) <= set(config.settings[column])


def test_what_the_full_grids_are():
    parts = part_configs(config_of("mnist_cnn", "full"))
    fixed = draw_hyper(parts["hyp_fix"].hyper, 1000, seed=0)
    fresh = draw_hyper(parts["hyp_rand"].hyper, 1000, seed=0)
    assert set(fixed["seed"]) == set(range(10)) and len(set(fresh["seed"])) == 1000
    assert set(fixed["activation"]) == {"tanh", "sigmoid", "relu", "gelu"}
    wide = draw_hyper(config_of("small_cnn_unterthiner", "full").hyper, 3000, seed=1)
    normal = np.isin(wide["initialiser"], ("normal", "truncated_normal"))
    assert np.all(wide["init_scale"][~normal] == 1) and len(set(wide["init_scale"][normal])) > 1000
    assert 5e-4 <= wide["learning_rate"].min() and wide["learning_rate"].max() <= 5e-2
    assert set(wide["data_fraction"]) == {0.1, 0.25, 0.5, 1.0}


# ------------------------------------------------------------------------- kills and resumption
KILLED = """
import dataclasses
from configs.zoo.iris import get_config as iris
def get_config(size):
    return dataclasses.replace(
        iris(size), name="killed", models=24, chunk=3, steps=300, snapshots=(0, 100)
    )
"""


def _same(first, second):
    first, second = (store.open(folder / "networks").population() for folder in (first, second))
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert set(first.columns) == set(second.columns)
    for name, column in first.columns.items():
        np.testing.assert_array_equal(column, second.columns[name], err_msg=name)


def test_a_zoo_that_is_built_is_opened_while_somebody_writes(tmp_path, built):
    folder, reports = built("breast_cancer")
    part = next(iter(reports))
    with store.Writer(folder / part / "networks", append=True):
        assert build_zoo.build(config_of("breast_cancer"), folder, quiet=True) == reports


def test_a_killed_build_goes_on_with_identical_results(tmp_path):
    file = tmp_path / "killed.py"
    file.write_text(KILLED)
    whole, killed = tmp_path / "whole", tmp_path / "cut"
    build = [str(file), "tiny"]
    build_zoo.build(build_zoo.load_config(*build), whole, quiet=True)
    command = [
        sys.executable,
        "-m",
        "experiments.build_zoo",
        "--config",
        build[0],
        "--size",
        "tiny",
    ]
    command += ["--folder", str(killed), "--quiet"]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest",
           "JAX_NUM_CPU_DEVICES": "4"}  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE) as process:
        try:
            progress, deadline = killed / "progress.json", time.monotonic() + 120
            while not progress.exists() and process.poll() is None:
                assert time.monotonic() < deadline, "nothing was built in two minutes"
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    pieces = len(json.loads(progress.read_text()))
    assert 1 <= pieces < 8
    assert not (killed / "built.json").exists()
    build_zoo.build(build_zoo.load_config(*build), killed, quiet=True)
    _same(whole, killed)


def test_a_build_cut_anywhere_goes_on(tmp_path, monkeypatch):
    """Among the copies, and between storing a piece and counting it."""
    config = config_of("iris", models=2, chunk=1, descend=(
        Descend("finetuned", {"learning_rate": Grid((1e-3, 1e-2))}, copies=2, epochs=2),
    ))  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    build_zoo.build(config, whole, quiet=True)
    calls, completed = [], Builder._completed

    def dies(self, population):
        calls.append(population)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return completed(self, population)

    with monkeypatch.context() as patch:
        patch.setattr(Builder, "_completed", dies)
        with pytest.raises(KeyboardInterrupt):
            build_zoo.build(config, cut, quiet=True)
    progress = cut / "progress.json"
    counted = json.loads(progress.read_text())
    assert len(counted) == 3  # both networks, and one of the four copies
    progress.write_text(json.dumps(counted[:-1]))
    build_zoo.build(config, cut, quiet=True)
    _same(whole, cut)
    before = (whole / "built.json").read_text()
    build_zoo.build(config, whole, quiet=True)  # nothing is left to do
    assert (whole / "built.json").read_text() == before


# ------------------------------------------------------------------------------- what is in them
@pytest.mark.parametrize("name", ["sparse_twins"])
def test_twins_have_the_sparsity_that_was_asked_for(name, built):
    config, (folder, _) = config_of(name), built(name)
    stored = store.open(folder / "networks").population()
    method = np.array(stored.label("method"))
    kernels = [leaf for leaf in jax.tree.leaves(stored.params) if leaf.ndim > 2]
    zeros = np.mean(np.concatenate([k.reshape(len(k), -1) == 0 for k in kernels], 1), 1)
    pruned = method == "magnitude"
    np.testing.assert_allclose(zeros[pruned], stored.columns["sparsity"][pruned], atol=0.01)
    assert np.all(zeros[method == "trained"] == 0)
    parents = stored.columns["parent"][method != "trained"]
    assert np.all(method[parents] == "trained")
    assert sorted(set(parents)) == list(range(config.models))
    assert len(set(stored.columns["run"])) == len(stored)


# ------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "configs/zoo/nothing.py"], "there is no config.*breast_cancer.*vit"),
        (["--config", "configs/zoo/iris.py", "--size", "huge"], "'huge': there are tiny, small"),
        (["--config", "configs/zoo/iris.py", "--models", "0"], "--models is 0"),
        (["--config", "configs/zoo/iris.py", "--parts", "xavier,other"], "'other'.*xavier"),
        (["--config", "experiments/build_zoo.py"], "no `get_config"),
        (["--config", "configs/zoo/dws_siren.py", "--data", "/nowhere"], "is no folder"),
    ],
)
def test_bad_calls_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=message):
        build_zoo.main([*arguments, "--folder", str(tmp_path / "zoo"), "--quiet"])
    assert not list((tmp_path).glob("zoo/*"))


def test_a_folder_of_another_zoo_is_left_alone(tmp_path):
    config = config_of("iris", models=2, steps=2)
    build_zoo.build(config, tmp_path, quiet=True)
    with pytest.raises(SystemExit, match="other options .seed; see"):
        build_zoo.build(dataclasses.replace(config, seed=1), tmp_path, quiet=True)


def test_the_command_line_prints_a_table(tmp_path, capsys):
    arguments = ["--config", str(build_zoo.CONFIGS / "iris.py"), "--size", "tiny", "--models", "3"]
    reports = build_zoo.main([*arguments, "--folder", str(tmp_path / "a"), "--seed", "5"])
    text = capsys.readouterr().out
    assert "test_accuracy" in text and "runs/s" in text and reports[""]["runs"] == 3
    with pytest.raises(ValueError, match="options of the task 'table'"):
        build_zoo.build(config_of("iris", options={"colour": 1}), tmp_path / "b", quiet=True)
    with pytest.raises(ValueError, match="task 'nothing': there are"):
        build_zoo.build(config_of("iris", task="nothing"), tmp_path / "c", quiet=True)
