"""Zoos: populations of networks as data.

`train` fits a whole population in one vmapped, scanned computation, each network with its own
hyperparameters; a `Population` holds the stacked weights, their spec and columns of metadata.
"""

from wsljax.zoo.activations import ACTIVATIONS, activate
from wsljax.zoo.chunks import chunk_size, map_chunks, pad_models
from wsljax.zoo.evaluation import evaluate
from wsljax.zoo.hyper import complete_hyper
from wsljax.zoo.optimisers import OPTIMISERS, OptimiserState, Rule, optimiser_rules
from wsljax.zoo.population import Population
from wsljax.zoo.split import Split, split
from wsljax.zoo.training import total_work, train

__all__ = [
    "ACTIVATIONS",
    "OPTIMISERS",
    "OptimiserState",
    "Population",
    "Rule",
    "Split",
    "activate",
    "chunk_size",
    "complete_hyper",
    "evaluate",
    "map_chunks",
    "optimiser_rules",
    "pad_models",
    "split",
    "total_work",
    "train",
]
