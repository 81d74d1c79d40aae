"""The task that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments._zoo import scenes, sequences, tasks
from experiments._zoo.tasks import Task


def make_task(
    name: str, options: Mapping[str, Any], folder: Path | None, *, models: int, seed: int
) -> Task:
    """The task of a config.

    Args:
        name: one of `TASKS`.
        options: of the task.
        folder: of files of images, or None.
        models: networks that will be trained: families need not have more tasks.
        seed: of what is generated.

    Raises:
        ValueError: an unknown name, or options that the task does not have.
    """
    known = {**tasks.TASKS, **sequences.TASKS, **scenes.TASKS}
    if name not in known:
        raise ValueError(f"task {name!r}: there are {', '.join(sorted(known))}.")
    try:
        return known[name](folder, models=models, seed=seed, **options)
    except TypeError as e:
        raise ValueError(f"options of the task {name!r}: {e}") from None
