"""Options that all studies of metanetworks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: `smoke`: seconds, in CI; `cpu`: minutes to hours on two cores; `full`: the papers' scale, for a GPU.
SIZES = ("smoke", "cpu", "full")


@dataclass(frozen=True)
class Entry:
    """One row of a table: a method, its options, and how it is trained."""

    method: str
    """A name of `representation.methods()`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the method."""
    channels: int = 16
    """Channels of its features."""
    layers: int = 3
    """Its layers."""
    augment: tuple[str, ...] = ()
    """Kinds of symmetry of which each network gets a random element in training."""
    pooling: Mapping[str, Any] = field(default_factory=dict)
    """Options of its pool."""
    noise: float = 0.0
    """Relative noise on the weights in training."""
    views: int = 1
    """Networks of each training sample, fitted from as many starts, where a study has them."""
    probes: int = 0
    """Learned inputs at which the networks are run: activations and results are read beside weights."""
    start: str = "own"
    """Where networks were fitted from: "own", a random start of each, or "learnt", one for all of them,
    from which a few steps are enough; it is read beside the weights."""
    learning_rate: float | None = None
    """At its peak; None: that of `Training`."""


@dataclass(frozen=True)
class Training:
    """How long and how fast; the same for all rows of a table."""

    steps: int = 3000
    """Optimiser steps."""
    batch: int = 32
    """Networks a step."""
    learning_rate: float = 2e-3
    """Of AdamW at its peak, warmed up over a tenth of the steps and falling to zero by a cosine."""
    weight_decay: float = 1e-2
    """Decoupled."""
    every: int = 500
    """Steps between two evaluations on the validation networks, of which the best one counts."""
    seeds: int = 3
    """Trainings of each row; 0: none, the table has what has been trained."""

    def told(self) -> dict[str, Any]:
        """What is the same for all trainings of a table, however many there are."""
        return {name: value for name, value in asdict(self).items() if name != "seeds"}


@dataclass(frozen=True)
class LearntStart:
    """How one start of all fits is learnt, for entries with `start="learnt"`."""

    steps: int = 2000
    """Steps of Adam, each on a batch of fits."""
    batch: int = 16
    """Signals a step."""
    rate: float = 1e-3
    """Of the start, falling to zero by a cosine; thirty times that for the logarithms of the rates of
    fits, three times for what reads classes."""
    fit_steps: int = 4
    """Gradient steps of a fit."""
    fit_rate: float = 1e-2
    """Rate of each weight in a fit, where its learning starts."""
    guidance: float = 0.01
    """Weight of the classes in the loss."""
    gain: float = 100.0
    """What changes of weights are multiplied by before classes are read."""
    width: int = 256
    """Of what reads them."""


@dataclass(frozen=True)
class Drawings:
    """Images, and the networks that draw them."""

    dataset: str = "mnist"
    """"mnist" or "fashion_mnist"; without files the digits of scikit-learn stand in."""
    images: int = 8000
    """How many, at most; each has one network of its own random start."""
    test: int = 0
    """How many of the images are of the data's own test part, which is then the test part here; 0: the
    test part is cut from the others."""
    views: int = 1
    """Networks of each image in all, for entries that want several to train on."""
    zoo: str = "dws_siren"
    """A config of `configs/zoo` of the task "signals"."""
    zoo_size: str = "full"
    """Its size."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options of the zoo that are others."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Of the images, for training, validation and test (of which `test` may decide)."""
    learnt: LearntStart = LearntStart()
    """For entries that want fits of a learnt start."""
