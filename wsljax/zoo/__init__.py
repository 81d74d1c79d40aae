"""Zoos: populations of networks as data.

`train` fits a whole population in one vmapped, scanned computation, each network with its own
hyperparameters; a `Population` holds the stacked weights, the function they compute, their spec and
columns of metadata; `verify` runs networks again and compares them with what was recorded.
"""

from wsljax.zoo.activations import ACTIVATIONS, activate
from wsljax.zoo.chunks import chunk_size, map_chunks, pad_models
from wsljax.zoo.evaluation import evaluate
from wsljax.zoo.function import (
    ARCHITECTURES,
    Architecture,
    ExportedFunction,
    Function,
    export_function,
    register_architecture,
)
from wsljax.zoo.grid import function_grid, train_grid
from wsljax.zoo.hyper import complete_hyper
from wsljax.zoo.metrics import METRICS
from wsljax.zoo.optimisers import OPTIMISERS, OptimiserState, Rule, optimiser_rules
from wsljax.zoo.population import ROLES, Population, concatenate
from wsljax.zoo.schedules import SCHEDULES
from wsljax.zoo.split import Split, split
from wsljax.zoo.supervised import supervised
from wsljax.zoo.training import total_work, train, train_chunks
from wsljax.zoo.verify import Evaluation, FunctionMismatch, verify

from wsljax.zoo.architectures.lora import lora_function  # isort: skip  (registers them all)
from wsljax.zoo.architectures.siren import grid  # isort: skip

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "Architecture",
    "Evaluation",
    "ExportedFunction",
    "Function",
    "FunctionMismatch",
    "METRICS",
    "OPTIMISERS",
    "OptimiserState",
    "Population",
    "ROLES",
    "Rule",
    "SCHEDULES",
    "Split",
    "activate",
    "chunk_size",
    "complete_hyper",
    "concatenate",
    "evaluate",
    "function_grid",
    "train_grid",
    "export_function",
    "grid",
    "lora_function",
    "map_chunks",
    "optimiser_rules",
    "pad_models",
    "register_architecture",
    "split",
    "supervised",
    "total_work",
    "train",
    "train_chunks",
    "verify",
]
