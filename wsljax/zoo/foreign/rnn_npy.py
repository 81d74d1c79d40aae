"""The LSTM zoos of Herrmann et al. 2024: matrices of weights, tasks and scores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from wsljax.zoo.foreign.recurrent import lstm_params
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.stacking import population_of
from wsljax.zoo.foreign.tables import read_json
from wsljax.zoo.function import Function
from wsljax.zoo.population import Population


def _matches(path: Path) -> bool:
    return (path / "parameters.npy").is_file() and (path / "tasks.npy").is_file()


@foreign_format("rnn_npy", _matches)
def read_rnn_npy(
    path: str | os.PathLike,
    hidden: int | None = None,
    layers: int | None = None,
    inputs: int | None = None,
    outputs: int | None = None,
) -> Population:
    """LSTMs on formal languages or sequential digits: parameters.npy, tasks.npy and scores.

    Source: Herrmann et al., "Learning Useful Representations of Recurrent Neural Network Weight
    Matrices", 2024. Formal languages have `num_step_correct.npy` (run, step, 1000 times the score)
    and one-hot tokens as inputs and outputs; digits have `num_step.npy` and `accuracy_losses.npy`
    (accuracy, training loss, validation loss, weight decay), tiles of 4 x 4 standardised pixels as
    inputs and ten outputs. Sequences and logits are left on disk.

    Args:
        path: the folder.
        hidden, layers: of the networks; by default those of `args.json`, else 32 and 2.
        inputs, outputs: by default those of the two data sets; their number of weights is checked.

    Returns:
        Networks of the architecture "torch_lstm" with columns `task` `(models, …)`, `step`, `run` and
        the scores.

    Raises:
        ForeignZooError: matrices of different lengths, or vectors of another length.
    """
    path = Path(path)
    vectors, tasks = _load(path / "parameters.npy", 2), _load(path / "tasks.npy", 2)
    given = read_json(path / "args.json") if (path / "args.json").is_file() else {}
    hidden = hidden or given.get("rnn_hidden_size", 32)
    layers = layers or given.get("rnn_num_layers", 2)
    table: dict[str, np.ndarray] = {"task": tasks}
    if (path / "num_step_correct.npy").is_file():
        scores = _load(path / "num_step_correct.npy", 2, 3)
        table["score"] = (scores[:, 2] / 1000).astype(np.float32)
        tokens = tasks.shape[1] + 2  # and those that begin and end
        inputs = inputs or (tokens if given.get("one_hot_input", 1) else 1)
        outputs = outputs or tokens
    else:
        scores = _load(path / "num_step.npy", 2, 2)
        columns = _load(path / "accuracy_losses.npy", 2, 4).astype(np.float32).T
        table |= dict(zip(("accuracy", "train_loss", "validation_loss", "weight_decay"), columns))
        inputs, outputs = inputs or given.get("tile_size", 4) ** 2, outputs or 10
    table["run"], table["step"] = (scores[:, i].astype(np.int32) for i in (0, 1))
    lengths = {name: len(column) for name, column in table.items()} | {"parameters": len(vectors)}
    if len(set(lengths.values())) > 1:
        raise ForeignZooError(f"{path} has matrices of different lengths: {lengths}.")
    settings = {"inputs": inputs, "hidden": hidden, "layers": layers, "outputs": outputs}
    try:
        params = lstm_params(np.asarray(vectors), **settings)
    except ValueError as error:
        raise ForeignZooError(f"{path / 'parameters.npy'}: {error}") from error
    roles = dict.fromkeys(("score", "accuracy", "train_loss", "validation_loss"), "metric")
    roles |= {"weight_decay": "hyper", "task": "hyper", "run": "lineage", "step": "step"}
    return population_of(params, table, function=Function("torch_lstm", settings), roles=roles)


def _load(file: Path, rank: int, width: int | None = None) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ForeignZooError(f"{file} cannot be read: {error}") from error
    wide = width is not None and array.shape[-1:] != (width,)
    if array.ndim != rank or wide or array.dtype.kind not in "fiu":
        raise ForeignZooError(f"{file} is {array.dtype}{array.shape}, not a matrix as described.")
    return array
