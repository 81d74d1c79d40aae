"""What a zoo is built from: every option of `python -m experiments.build_zoo`, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Sizes of every zoo: seconds on one core, minutes on two cores, and what the paper has.
SIZES = ("tiny", "small", "full")


@dataclass(frozen=True)
class Choice:
    """One of these values, each as likely."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Uniform:
    """Between two numbers."""

    low: float
    high: float


@dataclass(frozen=True)
class LogUniform:
    """Between two positive numbers, uniform in the logarithm."""

    low: float
    high: float


@dataclass(frozen=True)
class Grid:
    """Each of these values, with each combination of the other grids of the zoo."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Where:
    """Drawn as the word in another column says; `otherwise` for words that are not listed."""

    column: str
    cases: Mapping[str, Any]
    otherwise: Any


@dataclass(frozen=True)
class Base:
    """A network that is trained first, and then stays as it is, under adapters."""

    architecture: str
    """A name of `zoo.ARCHITECTURES`."""
    settings: Mapping[str, Any]
    """Its settings."""
    options: Mapping[str, Any]
    """Options of the task that it is trained on."""
    task: str = "images"
    """A name of `experiments._zoo.tasks.TASKS`."""
    epochs: float = 10
    """Length of its training."""
    batch_size: int = 64
    """Samples a step."""
    learning_rate: float = 3e-3
    """Of Adam, falling to zero by a cosine."""
    adapters: Mapping[str, Any] = field(default_factory=dict)
    """Options of `zoo.lora_function`: rank, alpha, targets."""


@dataclass(frozen=True)
class Descend:
    """Networks that begin as trained ones: pruned copies, or copies trained on other data."""

    method: str
    """"magnitude": the smallest weights are set to zero and stay there; "variational": a variational
    dropout rate is learnt for each weight, and weights of a high rate are set to zero;
    "finetuned": nothing is set to zero."""
    hyper: Mapping[str, Any]
    """What is drawn for each copy; other hyperparameters are the parent's."""
    copies: int
    """Of each parent."""
    epochs: float
    """Of training after the copy was made."""


@dataclass(frozen=True)
class ZooConfig:
    """Every option of a zoo."""

    name: str
    """Of the zoo; the name of the config's file."""
    paper: str
    """What is recreated."""
    architecture: str
    """A name of `zoo.ARCHITECTURES`."""
    settings: Mapping[str, Any]
    """Its settings."""
    task: str
    """A name of `experiments._zoo.tasks.TASKS`."""
    options: Mapping[str, Any]
    """Options of the task."""
    loss: str
    """A name of `zoo.METRICS` that becomes small."""
    metrics: tuple[str, ...]
    """Names of `zoo.METRICS` that are recorded of each network."""
    quality: str
    """The column that says how good a network is."""
    hyper: Mapping[str, Any]
    """Columns: a constant, or how a value is drawn for each network."""
    models: int
    """Training runs."""
    epochs: float | None = None
    """Length of a training, where it is in passes over the data, or ..."""
    steps: int | None = None
    """... in steps."""
    batch_size: int | None = None
    """Samples a step; None: all."""
    snapshots: tuple[float, ...] = ()
    """When weights are kept beside the last ones, in epochs, or in steps where `steps` is given."""
    stop_psnr: float | None = None
    """Decibels at which a network's training ends."""
    stop_after: int = 0
    """Steps before which it does not."""
    chunk: int = 256
    """Networks trained at once, and stored as a file."""
    measured: int = 5000
    """Training samples that training metrics are measured on, at most."""
    base: Base | None = None
    """Under adapters."""
    pretrain: Mapping[str, Any] | None = None
    """Options of the task that parents are trained on, where it is another one."""
    descend: tuple[Descend, ...] = ()
    """Copies of the trained networks that go on."""
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """A zoo of several parts: what each changes in this config. Each is stored on its own."""
    seed: int = 0
    """Of everything that is drawn."""


def sized(
    full: ZooConfig, size: str, *, small: Mapping[str, Any], tiny: Mapping[str, Any]
) -> ZooConfig:
    """The config at a size; `small` and `tiny` are what they change.

    Raises:
        ValueError: there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    changes = {"full": {}, "small": small, "tiny": tiny}[size]
    return dataclasses.replace(full, **changes)


def part_configs(config: ZooConfig) -> dict[str, ZooConfig]:
    """The parts of a zoo, each a config without parts; "" for a zoo of one piece."""
    whole = dataclasses.replace(config, parts={})
    if not config.parts:
        return {"": whole}
    return {name: dataclasses.replace(whole, **change) for name, change in config.parts.items()}
