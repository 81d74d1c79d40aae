"""p-diff's own recipe: the last normalisation layers, from consecutive checkpoints of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs._metanetworks import SIZES


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.consecutive_checkpoints`."""

    dataset: str = "digits"
    """"digits", or with a data folder "mnist" or "fashion_mnist"."""
    width: int = 8
    """Channels of the first of three stages of the residual network."""
    train: int | None = 1297
    """Images to train on; None: all."""
    test: int = 500
    batch: int = 64
    steps: int = 600
    """Training of the whole network, ..."""
    learning_rate: float = 3e-3
    """... by Adam, falling to zero by a cosine; ..."""
    checkpoints: int = 300
    """... and then steps of the chosen layers alone, each of which is stored, ..."""
    rate_after: float = 1e-3
    """... at this rate."""
    held_out: int = 100
    """Further steps; what comes after, not another run."""
    layers: tuple[str, ...] = ("stage_2/block_0/conv_1", "stage_2/block_0/shortcut")
    """The chosen layers, of which scale and bias are trained on, and generated."""
    p_diff: Mapping[str, Any] = field(default_factory=dict)
    """Options of `generation.families.p_diff`."""
    fit_steps: int = 3000
    fit_batch: int = 64
    fit_rate: float = 1e-3
    drawn: int = 200
    """Networks of each generator."""
    resamples: int = 1000
    seed: int = 0


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        return Config(
            dataset="fashion_mnist", width=16, train=None, test=10_000, batch=128, steps=9400,
            p_diff={"channels": (64, 128, 256), "autoencoder": {"size": 64, "steps": 10_000}},
            fit_steps=20_000,
        )  # fmt: skip
    if size == "cpu":
        inner = {
            "channels": (16, 32),
            "autoencoder": {"size": 16, "channels": (16, 32), "steps": 800},
            "steps": 50,
        }
        return Config(p_diff=inner, fit_steps=1500)
    inner = {"channels": (4,), "autoencoder": {"size": 2, "channels": (4,), "steps": 2}, "steps": 2}
    return Config(
        width=2, train=200, test=100, batch=32, steps=30, checkpoints=20, held_out=8, p_diff=inner,
        fit_steps=4, fit_batch=8, drawn=10, resamples=10,
    )  # fmt: skip
