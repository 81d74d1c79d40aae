"""What was built, as JSON and as a table."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import numpy as np

from experiments._zoo.build import Builder, read_progress
from experiments._zoo.descend import METHODS, last_of_runs

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def describe(builder: Builder, stored: Any) -> dict[str, Any]:
    """What a part of a zoo is, JSON throughout.

    Quantiles, means and deviations are of the last network of each run; of a zoo with copies, of each
    method by itself.
    """
    config, columns = builder.config, stored.columns
    progress = read_progress(builder.folder)
    seconds, runs = (sum(piece[name] for piece in progress) for name in ("seconds", "runs"))
    metrics = [name for name, role in stored.roles if role == "metric"]
    metrics = [name for name in metrics if columns[name].dtype.kind == "f"]
    chance = [n for n in metrics if n not in ("loss", "zeros")]
    last = last_of_runs(columns["run"], columns["step"])
    groups = {"": last}
    if "method" in columns:
        codes = np.unique(columns["method"][last])
        groups = {METHODS[code]: last[columns["method"][last] == code] for code in codes}
    first = stored[0]
    return {
        "config": json.loads(json.dumps(dataclasses.asdict(config), default=str)),
        "data": builder.task.source,
        "architecture": stored.function.architecture,
        "weights": int(sum(np.size(leaf) for leaf in jax.tree.leaves(first))),
        "units": {units.name: units.size for units in stored.spec.units},
        "networks": len(stored),
        "runs": int(runs),
        "diverged": int(np.sum(columns["diverged"])),
        "stopped": int(np.sum(columns["stopped"])),
        "quality": config.quality,
        "chance": {name: _number(builder.task.chance(name)) for name in chance},
        "metrics": {
            group: {name: _summary(columns[name][rows]) for name in metrics}
            for group, rows in groups.items()
        },
        "seconds": round(seconds, 2),
        "runs_per_second": _number(runs / max(seconds, 1e-9)),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def table(report: dict[str, Any], title: str) -> str:
    """The report for people."""
    shape = ", ".join(f"{name} {size}" for name, size in report["units"].items())
    lines = [
        f"{title}: {report['networks']} networks of {report['runs']} runs, {report['weights']} weights "
        f"each, on {report['data']}",
        f"  units: {shape}",
        f"  {report['seconds']:.1f} s, {report['runs_per_second']:.3g} runs/s on {report['device']}; "
        f"diverged {report['diverged']}, stopped early {report['stopped']}",
    ]
    head = "".join(f"{f'q{100 * q:.0f}':>10}" for q in QUANTILES)
    for group, metrics in report["metrics"].items():
        lines.append(f"  {group or 'last networks':<24}{head}{'chance':>10}")
        for name, found in metrics.items():
            values = "".join(f"{_text(value):>10}" for value in found["quantiles"])
            lines.append(f"    {name:<22}{values}{_text(report['chance'].get(name)):>10}")
    return "\n".join(lines)


def _summary(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"quantiles": [None] * len(QUANTILES), "mean": None, "std": None, "finite": 0}
    return {
        "quantiles": [_number(value) for value in np.quantile(finite, QUANTILES)],
        "mean": _number(finite.mean()),
        "std": _number(finite.std()),
        "finite": len(finite),
    }


def _number(value: Any) -> float:
    return float(f"{float(value):.6g}")


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
