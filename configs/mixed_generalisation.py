"""How good is a convolutional network of any architecture? From its weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs._metanetworks import SIZES, Entry, Training

#: What the test part has that training did not see.
UNSEEN = ("runs", "architectures")


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.mixed_generalisation`."""

    dataset: str = "mnist"
    """"mnist" or "fashion_mnist"; without files the digits of scikit-learn stand in."""
    zoo: str = "mixed_cnns"
    """A config of `configs/zoo` whose parts are architectures."""
    zoo_size: str = "full"
    """Its size."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options of the zoo that are others."""
    target: str = "test_accuracy"
    """What is predicted."""
    fractions: tuple[float, float, float] = (0.6, 0.15, 0.25)
    """Of the runs, or of the architectures: to train on, to choose by, to measure on."""
    unseen: tuple[str, ...] = UNSEEN
    """Some of `UNSEEN`; each has a table of its own."""
    positions: int = 8
    """Kernels of more positions than this are read in edges of 16 weights, others in edges of one."""
    training: Training = Training()
    """The same for all rows."""
    rows: Mapping[str, Entry] = field(default_factory=dict)
    """Graph metanetworks; beside them stand statistics and hyperparameters with plain predictors."""
    predictors: tuple[str, ...] = ("ridge", "trees", "mlp")
    """What is fitted to statistics and hyperparameters."""
    seed: int = 0
    """Of the zoo and the splits."""


def _rows(channels: int, layers: int) -> dict[str, Entry]:
    entry = {"channels": channels, "layers": layers, "noise": 0.1}
    return {
        "graph metanetwork": Entry("graph_metanetwork", **entry),
        "graph metanetwork, sums by the root": Entry(
            "graph_metanetwork", {"aggregate": "root"}, **entry
        ),
    }


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        return Config(rows=_rows(64, 4), training=Training(steps=50_000, batch=32, every=2000))
    if size == "cpu":
        training = Training(steps=1500, batch=16, every=250, weight_decay=0.1)
        return Config(zoo_size="small", rows=_rows(16, 3), training=training)
    return Config(
        zoo_size="tiny", unseen=("architectures",), fractions=(0.5, 0.25, 0.25),
        rows=dict(list(_rows(4, 1).items())[:1]),
        training=Training(steps=10, batch=4, every=5, seeds=1), predictors=("ridge",),
    )  # fmt: skip
