"""Gaps of completeness are told apart by what they are; the table resumes."""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments import certificates
from experiments._certificates_gaps import gap
from tests.symmetry import generator_nets as nets
from wsljax import symmetry


def kinds_of_gap(fn, params, *inputs, without=()):
    spec = symmetry.infer(fn, params, *inputs)
    kept = tuple(g for g in spec.generators if g.kind not in without)
    return gap(fn, params, dataclasses.replace(spec, generators=kept), inputs)


def relu(p, x):
    return jax.nn.relu(x @ p["a"] + p["bias"]) @ p["b"]


def test_dead_units_are_gone_at_other_parameters():
    p = nets.normal(0, a=(3, 4), bias=(4,), b=(4, 2))
    found = kinds_of_gap(relu, p, nets.inputs(8, 3))
    assert found["explained"] == found["nullity"] == 4 and not found["kinds"]
    dead = p | {"bias": p["bias"].at[0].set(-1.0), "a": p["a"].at[:, 0].set(0.0)}
    found = kinds_of_gap(relu, dead, nets.inputs(8, 3))
    assert found["nullity"] == 3 + 6  # all of the dead unit, and a scaling of each other one
    assert found["kinds"] == {"these parameters": 5}


def test_what_a_wide_factor_writes_where_nobody_reads_depends_on_the_parameters():
    base = nets.normal(1, w=(5, 2))["w"]

    def fn(p, x):
        h = jnp.tanh(x @ p["a"])
        return h @ base + h @ p["down"] @ p["up"]

    p = nets.normal(2, a=(4, 5), down=(5, 3), up=(3, 2))
    found = kinds_of_gap(fn, p, nets.inputs(8, 4))
    # 5 x 1 directions of `down` that `up` does not read, of which GL(3) has 3
    assert found["kinds"] == {"parameters": 2} and found["step"] < 1e-9
    assert found["where"] == ["down 100%"]
    assert "depend on the parameters" in certificates.reason(found)


def test_a_stopped_gradient_is_null_in_the_derivative_alone():
    def fn(p, x):
        return jnp.tanh(x @ p["a"]) @ jax.lax.stop_gradient(p["b"])

    found = kinds_of_gap(fn, nets.normal(3, a=(3, 4), b=(4, 2)), nets.inputs(8, 3))
    assert found["kinds"] == {"steps": 8} and found["step"] > 1e-3


def test_generators_that_are_left_out_are_missing():
    def fn(p, x):
        return jnp.tanh(x @ (p["w"] + p["down"] @ p["up"])) @ p["out"]

    p, x = nets.normal(4, w=(3, 4), down=(3, 2), up=(2, 4), out=(4, 2)), nets.inputs(8, 3)
    whole = kinds_of_gap(fn, p, x)
    assert (whole["explained"], whole["nullity"]) == (14, 14)
    found = kinds_of_gap(fn, p, x, without=("shift",))
    assert found["explained"] == 4 and found["kinds"] == {"missing": 10}


class Counting:
    """A worker that says of each case that it was looked at."""

    asked: list[str] = []

    def ask(self, name, limit):
        self.asked.append(name)
        return {"name": name, "explained": 1, "nullity": 2, "kinds": {"inputs": 1}, "reason": "x"}

    def end(self):
        pass


def test_cases_that_stand_there_are_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(certificates, "Worker", Counting)
    monkeypatch.setattr(Counting, "asked", [])
    options = argparse.Namespace(
        only=["raw/glu_*", "nnx/lora"], out=tmp_path / "c.json", limit=1.0, keep=False
    )
    certificates.run(options, certificates.read(options.out))
    first = list(Counting.asked)
    assert "nnx/lora" in first and "raw/glu_split" in first
    assert not any(certificates.architectures()[n].free for n in first)
    certificates.run(options, certificates.read(options.out))
    assert Counting.asked == first
    lines = certificates.read(options.out)
    sizes = [x["parameters"] for x in lines.values()]
    assert sizes == sorted(sizes) and set(lines) == set(first)
    assert f"0 of {len(first)} cases are explained whole" in certificates.table(lines)
    monkeypatch.setattr(certificates, "version", lambda: "another")
    certificates.run(options, lines)
    assert Counting.asked == [*first, *first]


@pytest.mark.slow
def test_the_program_end_to_end(tmp_path):
    line = certificates.Worker().ask("raw/mlp_itself", 300.0)
    assert line["explained"] == line["nullity"] and line["reason"] == ""
