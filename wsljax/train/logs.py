"""Run logs: one JSON object a line, readable while the run goes on.

A `Log` is any callable `log(step, metrics)`; the library never prints. `JsonlWriter` is the one
that is built in, others (TensorBoard, wandb, a progress bar) are a lambda away.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

Log = Callable[[int, Mapping[str, Any]], None]


class JsonlWriter:
    """Append `{"step": step, **extra, **metrics}` to a file, one line a call.

    Each line is flushed when it is written, so a killed run loses at most the line being written;
    `read_jsonl` leaves an unfinished last line out. Only process 0 writes. Numbers that JSON
    cannot hold (NaN, infinities) are written as null.

    Args:
        path: the file; its folder is made. An existing file is appended to.
        **extra: written into every line, e.g. `stage="zoo"`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> log = JsonlWriter(path, stage="fit")
        >>> log(10, {"loss": 0.5})
        >>> read_jsonl(path)
        [{'step': 10, 'stage': 'fit', 'loss': 0.5}]
    """

    def __init__(self, path: str | Path, **extra: Any):
        self.path = Path(path)
        self.extra = extra
        if jax.process_index() == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _end_open_line(self.path)

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        if jax.process_index() != 0:
            return
        row = {"step": int(step), **self.extra, **metrics}
        line = json.dumps({name: to_json(value) for name, value in row.items()}, allow_nan=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """All complete rows of a JSON-lines file, in order.

    A last line that a killed writer left unfinished is dropped, with a warning in the log.

    Raises:
        ValueError: a line that is not the last is not JSON; names file and line.
    """
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                logging.getLogger("wsljax").warning("%s: unfinished last line dropped", path)
                continue
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
    return rows


def combine_logs(*logs: Log | None) -> Log:
    """One log that calls each of `logs` in turn; `None` entries are skipped."""
    present = [log for log in logs if log is not None]

    def log(step: int, metrics: Mapping[str, Any]) -> None:
        for one in present:
            one(step, metrics)

    return log


def to_json(value: Any) -> Any:
    """Numbers, arrays, mappings and sequences as `json` takes them; non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value


def _end_open_line(path: Path) -> None:
    """Cut an unfinished last line, so that what is appended starts on a line of its own."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        path.write_bytes(content[: content.rfind(b"\n") + 1])
