"""The data that the metrics of a stored zoo were measured on, in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.zoo.evaluation.verify import Evaluation
from wsljax.zoo.store.files import evaluation_name, inside, write_atomically
from wsljax.zoo.store.index import written_from
from wsljax.zoo.store.tensor_file import (
    DamagedFile,
    check_tensors,
    dtype_name,
    map_file,
    read_header,
    view,
    write_tensors,
)


def save_evaluation(folder: Path, generation: str, evaluation: Evaluation) -> dict[str, Any]:
    """Write inputs and targets; returns what the index keeps.

    Raises:
        ValueError: inputs or targets that cannot be stored.
    """
    arrays = {name: np.asarray(getattr(evaluation, name)) for name in ("inputs", "targets")}
    for name, array in arrays.items():
        if dtype_name(array.dtype) is None:
            raise ValueError(f"the {name} of the evaluation are {array.dtype}; give numbers.")
    name = evaluation_name(generation)
    written = write_atomically(folder / name, lambda file: write_tensors(file, arrays))
    return {
        "file": name,
        **written._asdict(),
        "columns": dict(evaluation.columns),
        "tolerance": evaluation.tolerance,
        "own_targets": evaluation.own_targets,
    }


def read_evaluation(folder: Path, kept: Mapping[str, Any]) -> Evaluation:
    """Read what `save_evaluation` wrote, all of it, checked.

    Raises:
        DamagedFile: it is not what was written.
    """
    path = inside(folder, kept["file"])
    try:
        header = read_header(path, written_from(kept))
        check_tensors(path, header)
        if set(header) != {"inputs", "targets"}:
            raise DamagedFile(f"it holds {sorted(header)}, not inputs and targets")
    except DamagedFile as e:
        raise DamagedFile(f"{path.name} is damaged: {e}. Take it from a copy of {folder}.") from e
    buffer = map_file(path)
    data = {name: np.array(view(buffer, tensor)) for name, tensor in header.items()}
    return Evaluation(
        data["inputs"],
        data["targets"],
        kept["columns"],
        tolerance=kept["tolerance"],
        own_targets=kept["own_targets"],
    )
