"""A table of methods: trained over seeds, one line of JSON each, kept as they come."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

Row = TypeVar("Row")
"""A dataclass: what one row of a table is."""


def run_rows(
    rows: Mapping[str, Row],
    seeds: int,
    one: Callable[[Row, int], Mapping[str, Any]],
    file: Path,
    *,
    about: Mapping[str, Any],
    quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """Run what is missing of a table and return all of it.

    Args:
        rows: names and what they are.
        seeds: trainings of each; 0: nothing is trained, and the table has what there is.
        one: trains an entry with a seed; gives `scores` (a dict of numbers) and what else is to be kept.
        file: what has been run, one JSON object a training; those of the same entry are not run again.
        about: of the table: what must be the same for trainings to be of one table.
        quiet: nothing is printed.

    Returns:
        For every row its trainings, and mean and deviation of every score.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    out = {}
    for name, entry in rows.items():
        tag = _plain({"about": about, "entry": dataclasses.asdict(entry)})
        for seed in range(seeds):
            if not any(_same(d["tag"], tag, entry) and d["seed"] == seed for d in done):
                line = {"row": name, "seed": seed, "tag": tag, **one(entry, seed)}
                done.append(json.loads(json.dumps(line, default=float)))
                with file.open("a") as f:
                    f.write(json.dumps(done[-1]) + "\n")
                if not quiet:
                    print(f"{name} seed {seed}: {_short(line['scores'])}", flush=True)
        found = [
            d for d in done if _same(d["tag"], tag, entry) and (not seeds or d["seed"] < seeds)
        ]
        if found:
            out[name] = summary(found)
    return out


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every score, and what does not depend on the seed."""
    scores = {name: [float(run["scores"][name]) for run in runs] for name in runs[0]["scores"]}
    rest = {k: runs[0][k] for k in runs[0] if k not in ("scores", "tag", "seed", "row")}
    seconds = [run["seconds"] for run in runs if "seconds" in run]
    return rest | {
        "seeds": len(runs),
        "seconds": float(np.mean(seconds)) if seconds else None,
        "scores": {
            name: {"mean": float(np.mean(x)), "std": float(np.std(x, ddof=1)) if len(x) > 1 else None,
                   "runs": x}
            for name, x in scores.items()
        },
    }  # fmt: skip


def text(rows: Mapping[str, Mapping[str, Any]], scores: tuple[str, ...]) -> str:
    """The table to print."""
    lines = [f"{'':40} {'parameters':>11} {'seconds':>8} " + " ".join(f"{s:>17}" for s in scores)]
    for name, row in rows.items():
        cells = []
        for score in scores:
            found = row["scores"].get(score)
            if found is None:
                cells.append(f"{'-':>17}")
            else:
                spread = "" if found["std"] is None else f" +- {found['std']:.4f}"
                cells.append(f"{found['mean']:.4f}{spread}".rjust(17))
        size = row.get("parameters")
        took = row.get("seconds")
        lines.append(
            f"{name:40} {'-' if size is None else size:>11} "
            f"{'-' if took is None else format(took, '.0f'):>8} {' '.join(cells)}"
        )
    return "\n".join(lines)


def report(
    file: Path, *, command: str, about: Mapping[str, Any], rows: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Write the results of a study; returns what was written."""
    device = jax.devices()[0]
    result = {
        "command": command, **more, "about": about, "device": f"{device.platform} {device.device_kind}",
        "machine": platform.machine(), "jax": jax.__version__, "rows": rows,
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1, default=float) + "\n")
    return result


def options(row: Any) -> dict[str, Any]:
    """What of a row is not as it is by default: the same when rows get another option.

    Example:
        >>> from configs._metanetworks import Entry
        >>> options(Entry("universal", channels=4))
        {'method': 'universal', 'channels': 4}
    """
    return _but_defaults(_plain(dataclasses.asdict(row)), row)


def _same(kept: Mapping[str, Any], tag: Mapping[str, Any], row: Any) -> bool:
    """Whether what was kept is of this row, also if it was kept before rows had all of their options."""
    if kept["about"] != tag["about"]:
        return False
    return _but_defaults(kept["entry"], row) == _but_defaults(tag["entry"], row)


def _but_defaults(entry: Mapping[str, Any], row: Any) -> dict[str, Any]:
    defaults = {}
    for f in dataclasses.fields(row):
        if f.default is not dataclasses.MISSING:
            defaults[f.name] = _plain(f.default)
        elif f.default_factory is not dataclasses.MISSING:
            defaults[f.name] = _plain(f.default_factory())
    return {k: v for k, v in entry.items() if k not in defaults or v != defaults[k]}


def _plain(value: Any) -> Any:
    """As it is read back."""
    return json.loads(json.dumps(value, default=str))


def _short(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
