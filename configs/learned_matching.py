"""Alignment that is learned on one population, and used on pairs of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from configs._metanetworks import SIZES


@dataclass(frozen=True)
class Row:
    """One way to align two networks."""

    family: str
    """"none", "matching" (of weights) or "learned"."""
    planted: float = 1.0
    """Weight of pairs of which one is a moved, noisy copy of the other."""
    between: float = 0.0
    """Weight of the training loss between any two networks, the second softly aligned."""
    steps: int | None = None
    """Of learning; None: as the config has it, 0: as drawn."""
    after: bool = False
    """Whether weight matching goes on from what was said."""


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.learned_matching`."""

    widths: tuple[int, ...] = (64, 32, 32, 10)
    """Of the classifiers of digits."""
    networks: int = 1024
    """That are learned from, ..."""
    pairs: int = 128
    """... and pairs of others, that are aligned."""
    network_steps: int = 300
    learning_rate: float = 3e-3
    """Of the networks, by Adam."""
    method: str = "universal"
    """Of the metanetwork that reads them."""
    channels: int = 16
    layers: int = 2
    steps: int = 1500
    """Of learning to match."""
    batch: int = 16
    matcher_rate: float = 2e-3
    noise: float = 1.0
    """Of moved copies, at most, relative to the deviation of each leaf over the networks."""
    images: int = 256
    """Training images behind the loss between networks."""
    points: int = 11
    """Networks along a line, both ends included."""
    seeds: int = 3
    """Of learning; networks and pairs stay."""
    seed: int = 0
    rows: Mapping[str, Row] = field(default_factory=dict)


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    rows = {
        "not aligned": Row("none"),
        "weight matching": Row("matching"),
        "learned, as drawn": Row("learned", steps=0),
        "learned, planted pairs": Row("learned"),
        "learned, planted pairs and loss between": Row("learned", between=1.0),
        "learned, then weight matching": Row("learned", between=1.0, after=True),
    }
    if size == "smoke":
        return Config(
            widths=(64, 6, 10), networks=12, pairs=4, network_steps=20, channels=4, layers=1, steps=3,
            batch=4, images=32, points=3, seeds=1, rows=rows,
        )  # fmt: skip
    if size == "full":
        return Config(
            widths=(64, 128, 128, 10), networks=8192, pairs=1024, network_steps=1000, channels=64,
            layers=4, steps=100_000, batch=64, points=25, rows=rows,
        )  # fmt: skip
    return Config(rows=rows)
