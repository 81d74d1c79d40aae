"""Where batches come from: arrays, sources and iterators give the same run; so do two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax import train

WORKER = Path(__file__).with_name("two_processes.py")


@pytest.fixture
def samples():
    random = np.random.default_rng(0)
    x = random.standard_normal((50, 3)).astype(np.float32)
    return x, np.sin(x.sum(axis=1))


def loss(model, batch, *, key):
    x, y = batch
    missed = jax.vmap(model)(x) - y
    return jnp.mean(missed**2), {"mae": jnp.mean(jnp.abs(missed))}


def fit(data, **options):
    model = eqx.nn.MLP(3, "scalar", 8, depth=1, key=jax.random.key(1))
    settings = dict(steps=60, batch_size=8, optimiser=optax.adam(1e-2), every=25)
    return train.fit(loss, model, data, key=jax.random.key(2), **{**settings, **options})


def arrays(model):
    return jax.tree.leaves(eqx.filter(model, eqx.is_array))


def assert_same(a, b, rtol=0.0):
    for x, y in zip(arrays(a.model), arrays(b.model), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)
    for row, other in zip(a.history, b.history, strict=True):
        assert row == pytest.approx(other, rel=rtol)


class Batches:
    """An iterator that says where it stands, with no end."""

    def __init__(self, samples, stop=None):
        self.samples, self.place, self.stop = samples, 0, stop

    def __iter__(self):
        return self

    def __next__(self):
        if self.place == self.stop:
            raise StopIteration
        rows = np.random.default_rng(self.place).integers(0, 50, 8)
        self.place += 1
        return tuple(a[rows] for a in self.samples)

    def get_state(self):
        return {"place": self.place}

    def set_state(self, state):
        self.place = state["place"]


class BytesBatches(Batches):
    """One whose state is bytes."""

    def get_state(self):
        return str(self.place).encode()

    def set_state(self, state):
        self.place = int(state)


def test_a_source_is_the_same_as_arrays_and_is_read_only_where_needed(samples):
    asked = []

    def read(rows):
        asked.append(rows)
        return tuple(a[rows] for a in samples)

    assert_same(fit(train.Source(50, read)), fit(samples), 1e-6)
    assert len(asked) == 60 and all(len(rows) == 8 for rows in asked)


@pytest.mark.parametrize("kind", [Batches, BytesBatches, "source", "grain"])
def test_a_resumed_run_sees_the_batches_it_would_have_seen(samples, kind, tmp_path):
    def data():
        if kind == "source":
            return train.Source(50, lambda rows: tuple(a[rows] for a in samples))
        if kind == "grain":
            grain = pytest.importorskip("grain")
            rows = list(zip(*samples, strict=True))
            found = grain.MapDataset.source(rows).seed(3).shuffle().repeat().batch(8)
            return iter(found.to_iter_dataset())
        return kind(samples)

    whole = fit(data())
    with train.Checkpointer(tmp_path / "c") as store:
        fit(data(), steps=25, checkpointer=store)
    with train.Checkpointer(tmp_path / "c") as store:
        assert_same(fit(data(), checkpointer=store), whole)


def test_other_data_than_before_is_refused(samples, tmp_path):
    with train.Checkpointer(tmp_path / "c") as store:
        fit(samples, steps=25, checkpointer=store)
        with pytest.raises(ValueError, match="does not say where"):
            fit(Batches(samples), checkpointer=store)
    with train.Checkpointer(tmp_path / "d") as store:
        fit(Batches(samples), steps=25, checkpointer=store)
        with pytest.raises(ValueError, match="is of a run over an iterator"):
            fit(train.Source(50, lambda i: tuple(a[i] for a in samples)), checkpointer=store)


def test_errors_name_what_is_wrong(samples):
    with pytest.raises(ValueError, match="ended before the last step"):
        fit(Batches(samples, stop=30))
    with pytest.raises(ValueError, match=r"shape \(8, 3\); a batch has 16 samples"):
        fit(Batches(samples), batch_size=16)
    with pytest.raises(ValueError, match="cannot be split in 3 equal parts"):
        fit(samples, accumulate=3)
    with pytest.raises(ValueError, match="at least 1"):
        fit(samples, accumulate=0)


def test_accumulated_gradients_are_those_of_the_whole_batch(samples):
    assert_same(fit(samples, accumulate=4), fit(samples), 2e-4)


def test_bfloat16_computes_and_parameters_keep_their_dtype(samples):
    exact, low = fit(samples), fit(samples, compute_dtype=jnp.bfloat16)
    kept = [x.dtype for x in arrays(low.model)]
    assert kept == [x.dtype for x in arrays(exact.model)] and jnp.bfloat16 not in kept
    apart = [abs(a["loss"] - b["loss"]) for a, b in zip(exact.history, low.history, strict=True)]
    assert 0 < max(apart) < 0.05 * exact.history[0]["loss"]


def test_a_streamed_run_over_four_devices_is_that_of_one(samples):
    source = train.Source(50, lambda rows: tuple(a[rows] for a in samples))
    assert_same(fit(source, mesh=train.make_mesh()), fit(samples), 1e-5)


def test_a_profile_is_written(samples, tmp_path):
    fit(samples, steps=20, every=10, profile=tmp_path)
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_two_processes_train_as_one(samples, tmp_path):
    """Each reads its half of every batch; checkpoints are written and read by both."""
    np.savez(tmp_path / "samples.npz", x=samples[0], y=samples[1])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    root = Path(__file__).parents[2]
    command = [sys.executable, str(WORKER), str(port), str(tmp_path)]
    workers = [
        subprocess.Popen(
            [*command, str(n)], env=clean | {"PYTHONPATH": str(root)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for n in range(2)
    ]  # fmt: skip
    try:
        told = [worker.communicate(timeout=240)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(told)
    alone = fit(samples).history
    for n in range(2):
        found = json.loads((tmp_path / f"history_{n}.json").read_text())
        for row, other in zip(found["history"], alone, strict=True):
            assert row == pytest.approx(other, rel=1e-5)
        assert found["rows_read"] == 4  # half a batch
