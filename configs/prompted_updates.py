"""Networks that are asked for: from a checkpoint and a loss, another checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs._metanetworks import SIZES


@dataclass(frozen=True)
class Row:
    """One way to answer."""

    family: str
    """"diffusion", or without any training "start" (nothing is changed) or "retrieval" (the training
    checkpoint whose loss is nearest to what is asked)."""
    method: str | None = None
    """Of the denoiser: an equivariant one, or "flat"; None: the transformer of G.pt."""
    width: int = 128
    layers: int = 3
    moved: bool = True
    """Whether start and target are moved by permutations in training, unless the denoiser is equivariant."""
    aligned: bool = False
    """Whether runs are aligned first: each moved, as a whole, so that its last checkpoint lies next to the
    others'."""


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.prompted_updates`."""

    dataset: str = "digits"
    """"digits", or with a data folder "mnist" or "fashion_mnist"."""
    widths: tuple[int, ...] = (64, 10, 10)
    """Of the networks."""
    runs: int = 10_240
    """Training runs, ..."""
    held_out_runs: int = 512
    """... and others, from whose checkpoints the way begins."""
    network_steps: int = 320
    """Length of a run."""
    snapshots: tuple[int, ...] = (0, 5, 10, 20, 40, 80, 160)
    """Steps after which a run is stored, beside the last."""
    pairs: int = 200_000
    """Pairs of checkpoints of one run to learn from."""
    steps: int = 6000
    """Of the fit."""
    batch: int = 128
    learning_rate: float = 1e-3
    """Of AdamW at its peak."""
    average: float = 0.998
    sampler_steps: tuple[int, ...] = (50, 1)
    """Of the samplers that are judged: many draw one network of those that are likely, one step says their mean."""
    levels: int = 9
    """Losses that are asked for: quantiles of those of the training checkpoints, evenly spaced."""
    starts: int = 256
    """Held-out networks that each of them is asked of, untrained ones."""
    seeds: int = 3
    seed: int = 0
    rows: Mapping[str, Row] = field(default_factory=dict)


DATASETS = {"digits": 64, "mnist": 784, "fashion_mnist": 784}
"""Numbers of an image."""


def get_config(size: str = "cpu", dataset: str | None = None) -> Config:
    """The study at a size: "smoke", "cpu" or "full"; with a data set that is not the one of that size."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if dataset is None:
        return _sized(size)
    if dataset not in DATASETS:
        raise ValueError(f"dataset {dataset!r}: there are {', '.join(DATASETS)}.")
    config = replace(_sized(size), dataset=dataset, widths=(DATASETS[dataset], 10, 10))
    if size == "cpu" and dataset != "digits":  # ten times the weights
        config = replace(config, pairs=40_000, steps=3000)
    return config


def _sized(size: str) -> Config:
    untrained = {"the start": Row("start"), "nearest training loss": Row("retrieval")}
    if size == "smoke":
        few = untrained | {
            "transformer": Row("diffusion", width=16, layers=1),
            "flat, aligned runs": Row("diffusion", "flat", 8, 1, moved=False, aligned=True),
        }
        return Config(
            runs=24, held_out_runs=8, network_steps=40, snapshots=(0, 10), pairs=60, steps=10,
            batch=8, sampler_steps=(2, 1), levels=3, starts=6, seeds=1, rows=few,
        )  # fmt: skip
    full = size == "full"
    width = 512 if full else 128
    rows = untrained | {
        "transformer": Row("diffusion", width=width, layers=6 if full else 3),
        "transformer, as they are": Row("diffusion", width=width, layers=6 if full else 3, moved=False),
        "equivariant": Row("diffusion", "universal", width=64 if full else 16, layers=3),
        "flat, aligned runs": Row(
            "diffusion", "flat", width=1024 if full else 384, layers=3, moved=False, aligned=True
        ),
    }  # fmt: skip
    if not full:
        return Config(rows=rows)
    return Config(
        dataset="mnist", widths=(784, 10, 10), network_steps=2000, pairs=500_000, steps=100_000,
        batch=256, snapshots=(0, 10, 20, 50, 100, 200, 400, 800, 1400), rows=rows,
    )  # fmt: skip
