"""Zoos: populations of networks as data.

`train` fits a whole population in one vmapped, scanned computation, each network with its own
hyperparameters; a `Population` holds the stacked weights, the function they compute, their spec and
columns of metadata; `verify` runs networks again and compares them with what was recorded.
"""

from wsljax.zoo.architecture import ARCHITECTURES, Architecture, register_architecture
from wsljax.zoo.architectures.activations import ACTIVATIONS, activate
from wsljax.zoo.chunks import chunk_size, map_chunks, pad_models
from wsljax.zoo.evaluation.evaluate import evaluate
from wsljax.zoo.evaluation.metrics import METRICS
from wsljax.zoo.evaluation.verify import Evaluation, FunctionMismatch, verify
from wsljax.zoo.exported import ExportedFunction, export_function
from wsljax.zoo.function import Function
from wsljax.zoo.population import ROLES, Population, concatenate
from wsljax.zoo.preprocessing.normalise import Normaliser, finite_members
from wsljax.zoo.preprocessing.split import Split, last_checkpoints, split, split_populations
from wsljax.zoo.preprocessing.tokens import (
    Tokeniser,
    channel_tokens,
    flat_tokens,
    masked_mean,
    masked_mse,
    neuron_tokens,
)
from wsljax.zoo.store import DamagedFile, StoredZoo, Writer, ZooSource, open, save
from wsljax.zoo.training.grid import function_grid, train_grid
from wsljax.zoo.training.hyper import complete_hyper
from wsljax.zoo.training.optimisers import OPTIMISERS, OptimiserState, Rule, optimiser_rules
from wsljax.zoo.training.schedules import SCHEDULES
from wsljax.zoo.training.supervised import noisy_labels, supervised
from wsljax.zoo.training.train import total_work, train, train_chunks

from wsljax.zoo.foreign import (  # isort: skip  (registers architectures)
    FOREIGN,
    ForeignZooError,
    LabelledImages,
    nfn_split,
    read_cifar,
    read_foreign,
    read_idx,
    write_dws,
    write_nfn,
)

from wsljax.zoo.architectures.lora import lora_function  # isort: skip  (registers them all)
from wsljax.zoo.architectures.siren import grid  # isort: skip

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "Architecture",
    "DamagedFile",
    "Evaluation",
    "ExportedFunction",
    "FOREIGN",
    "ForeignZooError",
    "Function",
    "FunctionMismatch",
    "LabelledImages",
    "METRICS",
    "Normaliser",
    "OPTIMISERS",
    "OptimiserState",
    "Population",
    "ROLES",
    "Rule",
    "SCHEDULES",
    "Split",
    "StoredZoo",
    "Tokeniser",
    "Writer",
    "ZooSource",
    "activate",
    "channel_tokens",
    "chunk_size",
    "complete_hyper",
    "concatenate",
    "evaluate",
    "export_function",
    "finite_members",
    "flat_tokens",
    "function_grid",
    "grid",
    "last_checkpoints",
    "lora_function",
    "map_chunks",
    "masked_mean",
    "masked_mse",
    "neuron_tokens",
    "nfn_split",
    "noisy_labels",
    "open",
    "optimiser_rules",
    "pad_models",
    "read_cifar",
    "read_foreign",
    "read_idx",
    "register_architecture",
    "save",
    "split",
    "split_populations",
    "supervised",
    "total_work",
    "train",
    "train_chunks",
    "train_grid",
    "verify",
    "write_dws",
    "write_nfn",
]
