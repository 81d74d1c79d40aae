"""Learned optimisers beside tuned ones, on small classifiers of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs._metanetworks import SIZES


@dataclass(frozen=True)
class Tuned:
    """An optimiser with a learning rate, chosen from a grid on other seeds."""

    optimiser: str
    """"adam" or "momentum" (SGD, 0.9)."""
    by: str = "mean"
    """What the rate is chosen by: the "mean" training loss of a run, as learned optimisers are trained by,
    or the training loss at its "end"."""
    cosine: bool = False
    """The rate falls to zero by a cosine over the run."""
    rates: tuple[float, ...] = ()
    """The grid; by default that of the study."""


@dataclass(frozen=True)
class Learned:
    """An optimiser that is meta-trained."""

    method: str | None = "universal"
    """What tells weights about each other; None: nothing does."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `OptimiserNetwork`."""
    unrolled: int | None = None
    """Meta-steps by gradients through pieces of runs; by default those of the study."""
    evolution: int | None = None
    """Meta-steps by persistent evolution strategies after these; likewise."""
    meta_rate: float | None = None
    """Learning rate of its meta-training; by default that of the study."""
    rate_only: bool = False
    """No network: Adam, of which the rate alone is meta-trained."""


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.learned_optimisers`."""

    networks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Names of networks, the width of those optimisers are trained on, and another width for the test."""
    rows: Mapping[str, Tuned | Learned] = field(default_factory=dict)
    """The table, for each network."""
    dataset: str = "digits"
    """"digits", or with a data folder "mnist" or "fashion_mnist"."""
    side: int = 8
    """Images are resized to so many pixels a side."""
    train: int = 1200
    """Images to train on."""
    test: int = 500
    """Images to test on."""
    batch: int = 32
    """Images of a step."""
    horizon: int = 200
    """Steps of a run in meta-training; the test runs are followed for twice as long."""
    every: int = 10
    """Steps between two measurements of a test run."""
    truncation: int = 20
    """Steps of a piece of a run."""
    particles: int = 8
    """Runs side by side for gradients through pieces; as many pairs for evolution strategies."""
    unrolled: int = 500
    """Meta-steps by gradients through pieces."""
    evolution: int = 500
    """Meta-steps by evolution strategies."""
    deviation: float = 0.01
    """Of the noise of evolution strategies."""
    meta_rate: float = 3e-3
    """Learning rate of the meta-training, by Adam; a third of it for evolution strategies."""
    ceiling: float = 5.0
    """Training losses count as no more than this in meta-training."""
    start_rate: float = 3e-3
    """The learning rate that a learned optimiser begins with."""
    adam_rates: tuple[float, ...] = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
    """Grid for Adam."""
    momentum_rates: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    """Grid for SGD with momentum."""
    tuning: int = 4
    """Runs by which a rate is chosen."""
    runs: int = 8
    """Test runs, with other weights and batches than all others."""
    seeds: int = 3
    """Meta-trainings of each learned optimiser."""
    seed: int = 0
    """Of the test runs and of the tuning."""


def _rows() -> dict[str, Tuned | Learned]:
    return {
        "Adam, rate for the mean": Tuned("adam"),
        "Adam, rate for the end": Tuned("adam", by="end"),
        "Adam, cosine": Tuned("adam", by="end", cosine=True),
        "SGD + momentum, rate for the mean": Tuned("momentum"),
        "SGD + momentum, rate for the end": Tuned("momentum", by="end"),
        "SGD + momentum, cosine": Tuned("momentum", by="end", cosine=True),
        "Adam, meta-trained rate": Learned(rate_only=True, meta_rate=0.03),  # of one logarithm
        "weights alone": Learned(None),
        "Deep Set": Learned("pointwise"),
        "universal (UNF)": Learned("universal"),
    }


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        more = {
            "universal (UNF), evolution alone": Learned("universal", unrolled=0, evolution=100_000),
            "NFN": Learned("nfn"),
            "neural graph": Learned("neural_graph"),
        }
        return Config(
            networks={"mlp": (32, 128), "cnn": (32, 64), "rnn": (64, 128)},
            rows=_rows() | more, dataset="fashion_mnist", side=28, train=50_000, test=10_000,
            batch=128, horizon=2000, truncation=50, particles=32, unrolled=10_000,
            evolution=50_000, every=50, runs=16, seeds=5,
        )  # fmt: skip
    if size == "cpu":
        networks = {"mlp": (16, 48), "cnn": (16, 32), "rnn": (16, 48)}
        return Config(networks=networks, rows=_rows(), unrolled=300, evolution=200)
    rows = {
        "Adam, rate for the mean": Tuned("adam", rates=(1e-3, 1e-2)),
        "Adam, meta-trained rate": Learned(rate_only=True, unrolled=4, evolution=0),
        "universal (UNF)": Learned("universal", {"channels": 4, "told": 2, "width": 8}, unrolled=0),
    }
    return Config(
        networks={"mlp": (4, 6)}, rows=rows, side=4, train=200, test=50, batch=8, horizon=20,
        every=10, truncation=5, particles=2, evolution=4, tuning=1, runs=2, seeds=1,
    )  # fmt: skip
