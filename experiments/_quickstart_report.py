"""The quickstart's table and figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def table(rows: Mapping[str, Mapping], invariance: Mapping[str, float]) -> str:
    """R2 and Kendall tau of each predictor, with intervals, as text."""
    lines = [f"{'predictor':44} {'R2 [95% interval]':26} {'Kendall tau [95% interval]':26}"]
    lines += [
        f"{name:44} {_cell(row['r2']):26} {_cell(row['tau']):26}" for name, row in rows.items()
    ]
    lines += [
        "",
        "change of the predictions when every test network's units are permuted at random,",
    ]
    lines += ["relative to the spread of the predictions:"]
    lines += [f"  {name:42} {value:.1e}" for name, value in invariance.items()]
    return "\n".join(lines)


def _cell(interval) -> str:
    value, low, high = interval
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def figure(path: Path, truth, predictions: Mapping[str, np.ndarray], moved, rows) -> None:
    """Predicted against true accuracy, predictions before and after permuting, and R2 of all."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    ours, flat = list(predictions)[:2]
    left.plot([0, 1], [0, 1], color="0.7", lw=1)
    left.scatter(truth, predictions[ours], s=8, color="tab:blue")
    left.set(xlabel="test accuracy", ylabel="predicted from the weights", title=ours)
    middle.plot([0, 1], [0, 1], color="0.7", lw=1)
    for name, colour in ((flat, "tab:orange"), (ours, "tab:blue")):
        middle.scatter(predictions[name], moved[name], s=8, color=colour, label=name)
    middle.set(xlabel="prediction", ylabel="after permuting the units", title="the same functions")
    middle.legend(loc="upper left", fontsize=8)
    names = list(rows)[::-1]
    values = np.array([rows[n]["r2"] for n in names])
    right.barh(names, values[:, 0], color=["tab:blue" if n == ours else "0.7" for n in names])
    right.errorbar(
        values[:, 0], range(len(names)), fmt="none", color="k", capsize=3,
        xerr=np.abs(values[:, 1:] - values[:, :1]).T,
    )  # fmt: skip
    right.set(title="R2 on held-out networks", xlim=(min(0.0, values.min()), 1))
    fig.savefig(path, dpi=120)
    plt.close(fig)
