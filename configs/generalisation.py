"""How good is a small convolutional network? From its weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from configs._metanetworks import SIZES, Entry, Training


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.generalisation`."""

    zoo: str = "small_cnn_unterthiner"
    """A config of `configs/zoo`: networks with hyperparameters drawn at random."""
    zoo_size: str = "full"
    """Its size."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options of the zoo that are others."""
    target: str = "test_accuracy"
    """What is predicted."""
    last_only: bool = True
    """Only the last checkpoint of each run."""
    training: Training = Training()
    """The same for all rows."""
    rows: Mapping[str, Entry] = field(default_factory=dict)
    """The table, beside weight statistics and hyperparameters with trees, ridge and an MLP."""
    predictors: tuple[str, ...] = ("ridge", "trees", "mlp")
    """What is fitted to statistics and hyperparameters."""
    seed: int = 0
    """Of the zoo and the split."""


def _rows(channels: int) -> dict[str, Entry]:
    pooled = {"statistics": ("mean", "square")}
    return {
        "flat MLP": Entry("flat", channels=4 * channels, noise=0.1),
        "pointwise (Deep Set)": Entry(
            "pointwise", channels=2 * channels, pooling=pooled, noise=0.1
        ),
        "set encoder (SNE)": Entry("set_encoder", channels=channels, noise=0.1),
        "universal (UNF)": Entry("universal", channels=channels, pooling=pooled, noise=0.1),
        "NFN": Entry("nfn", channels=channels, pooling=pooled, noise=0.1),
        "NFT": Entry("nft", channels=channels, pooling=pooled, noise=0.1),
        "neural graph": Entry("neural_graph", channels=channels, noise=0.1),
        "graph metanetwork": Entry("graph_metanetwork", channels=channels, noise=0.1),
        "ScaleGMN": Entry("scale_gmn", channels=channels, noise=0.1),
    }


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        return Config(rows=_rows(64), training=Training(steps=50_000, batch=64, every=2000))
    if size == "cpu":
        changes = {
            "models": 4000, "epochs": 3, "batch_size": 32, "snapshots": (), "measured": 500,
            "options": {"train": 2000, "test": 2000},
        }  # fmt: skip
        return Config(
            changes=changes, rows=_rows(16), training=Training(steps=2000, weight_decay=0.3)
        )
    few = {n: replace(e, channels=4, layers=1) for n, e in list(_rows(4).items())[1:4:2]}
    return Config(
        zoo_size="tiny", changes={"models": 12, "epochs": 8, "snapshots": ()}, rows=few,
        training=Training(steps=20, batch=8, every=10, seeds=1), predictors=("ridge",),
    )  # fmt: skip
