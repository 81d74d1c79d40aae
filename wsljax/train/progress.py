"""A progress bar for people: on a terminal, on process 0, and nowhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from wsljax._compat import require
from wsljax.train.logs import Log


@contextlib.contextmanager
def progress(total: int, label: str, *, enabled: bool | None = None) -> Iterator[Log]:
    """Show a bar with time left and the newest metrics; yields a `Log`.

    Args:
        total: the step at which the bar is full.
        label: what is being done.
        enabled: `None` shows the bar only if standard error is a terminal and this is process 0;
            `True` and `False` force it.

    Yields:
        `log(step, metrics)`, which does nothing when the bar is off.

    Raises:
        ImportError: the bar is wanted and rich is not installed; names the extra that brings it.

    Example:
        >>> with progress(100, "training", enabled=False) as log:
        ...     log(50, {"loss": 0.25})
    """
    if enabled is None:
        enabled = sys.stderr.isatty() and jax.process_index() == 0
    if not enabled:
        yield lambda step, metrics: None
        return
    require("rich", extra="experiments")
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, metrics="")

        def log(step: int, metrics: Mapping[str, Any]) -> None:
            bar.update(task, completed=step, metrics=format_metrics(metrics))

        yield log


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Scalars as `name value` pairs in four figures.

    >>> format_metrics({"loss": 0.123456, "models": 128})
    'loss 0.1235  models 128'
    """
    parts = []
    for name, value in metrics.items():
        if isinstance(value, str):
            parts.append(f"{name} {value}")
        elif np.ndim(value) == 0:
            parts.append(f"{name} {float(value):.4g}")
    return "  ".join(parts)
