"""How well does a small recurrent network or transformer do? From its weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from configs._metanetworks import SIZES, Entry, Training

#: What is asked of each population: a config of `configs/zoo`, and a column of its networks.
POPULATIONS = {
    "lstm_languages": ("varied_lstm_languages", "accuracy"),
    "gru_digits": ("varied_gru_digits", "test_accuracy"),
    "vit_digits": ("varied_vit_digits", "test_accuracy"),
}


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.sequence_models`."""

    populations: tuple[str, ...] = tuple(POPULATIONS)
    """Names of `POPULATIONS`; each has a table of its own."""
    zoo_size: str = "full"
    """Size of the zoos."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options of all zoos that are others."""
    training: Training = Training()
    """The same for all rows."""
    rows: Mapping[str, Entry] = field(default_factory=dict)
    """The table, beside weight statistics and hyperparameters with plain predictors."""
    predictors: tuple[str, ...] = ("ridge", "trees", "mlp")
    """What is fitted to statistics and hyperparameters."""
    seed: int = 0
    """Of the zoos and the splits."""


def _rows(channels: int) -> dict[str, Entry]:
    pooled = {"statistics": ("mean", "square")}
    return {
        "pointwise (Deep Set)": Entry(
            "pointwise", channels=2 * channels, pooling=pooled, noise=0.1
        ),
        "universal (UNF)": Entry("universal", channels=channels, pooling=pooled, noise=0.1),
        "NFT": Entry("nft", channels=channels, pooling=pooled, noise=0.1),
        "neural graph": Entry("neural_graph", channels=channels, noise=0.1),
    }


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        return Config(rows=_rows(64), training=Training(steps=50_000, batch=64, every=2000))
    if size == "cpu":
        rows = {n: e for n, e in _rows(16).items() if n != "NFT"}  # seven times as long as UNF
        training = Training(steps=1500, every=250, weight_decay=0.1)
        return Config(zoo_size="small", rows=rows, training=training)
    few = {n: replace(e, channels=4, layers=1) for n, e in list(_rows(4).items())[:2]}
    return Config(
        populations=("lstm_languages",), zoo_size="tiny", changes={"models": 12}, rows=few,
        training=Training(steps=20, batch=8, every=10, seeds=1), predictors=("ridge",),
    )  # fmt: skip
