"""Training: mesh, loop, checkpoint, metrics, progress.

`fit` is a small functional loop over any Equinox module (or any pytree of arrays) and any optax
optimiser; everything else in this room is what a run needs around it.
"""

from wsljax.train.checkpoint import Checkpointer
from wsljax.train.data import Source
from wsljax.train.logs import JsonlWriter, Log, combine_logs, read_jsonl
from wsljax.train.loop import FitResult, fit
from wsljax.train.mesh import make_mesh, replicate, shard
from wsljax.train.metrics import Interval, bootstrap, kendall_tau, r2, spearman
from wsljax.train.progress import progress
from wsljax.train.step import TrainState, epoch_batches, init_state, make_step

__all__ = [
    "Checkpointer",
    "FitResult",
    "Interval",
    "JsonlWriter",
    "Log",
    "Source",
    "TrainState",
    "bootstrap",
    "combine_logs",
    "epoch_batches",
    "fit",
    "init_state",
    "kendall_tau",
    "make_mesh",
    "make_step",
    "progress",
    "r2",
    "read_jsonl",
    "replicate",
    "shard",
    "spearman",
]
