"""Options that all studies of metanetworks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """Trainings of each row."""
