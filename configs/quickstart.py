"""The main job: predict the accuracy of small digit classifiers from their weights alone.

Committed result and the command that made it: `experiments/results/quickstart.json`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.quickstart`."""

    folder: str = "runs/quickstart"
    """Run folder: config, metrics, checkpoints, results, figure. An interrupted run resumes here."""
    networks: int = 4096
    """Networks to train on the digits."""
    widths: tuple[int, ...] = (16, 16)
    """Hidden widths of each network."""
    max_steps: int = 600
    """Longest training of a network; lengths are log-uniform from one step up to this."""
    network_batch: int = 64
    """Images in a training step of a network."""
    channels: int = 16
    """Feature channels of the equivariant metanetwork."""
    layers: int = 3
    """Equivariant layers of the metanetwork."""
    steps: int = 1000
    """Training steps of the metanetwork, and of the flat baseline."""
    batch: int = 64
    """Networks in a training step of the metanetwork."""
    learning_rate: float = 3e-3
    """Peak learning rate of the metanetwork, warmed up and decayed by a cosine."""
    weight_decay: float = 0.3
    """Decoupled weight decay of the metanetwork."""
    dropout: float = 0.2
    """Dropout on the pooled features."""
    noise: float = 0.1
    """Relative noise on the weights that the metanetwork trains on."""
    every: int = 200
    """Metanetwork steps between two evaluations on the validation networks."""
    good: float = 0.3
    """Share of the ReLU networks, those of the smallest training loss, that new networks are to be like."""
    drawn: int = 128
    """New networks."""
    resamples: int = 1000
    """Bootstrap resamples of each interval."""
    seed: int = 0
    """Seed of everything."""
    quiet: bool = False
    """No progress bars."""


def get_config() -> Config:
    """The size that the README shows: under five minutes on two cores."""
    return Config()
