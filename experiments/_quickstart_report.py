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


def generated_table(rows: Mapping[str, Mapping]) -> str:
    """Accuracy, novelty and share of new and good networks of each set, with intervals, as text."""
    words = list(next(iter(rows.values())))
    lines = [f"{'networks':44} " + " ".join(f"{word:24}" for word in words)]
    lines += [
        f"{name:44} " + " ".join(f"{_cell(row[word]):24}" for word in words)
        for name, row in rows.items()
    ]
    lines += [
        "",
        "novelty: distance to the nearest training network up to symmetry, training networks to each other",
        "being 1; new and good: novelty of 1 at least, and accuracy of the best 90% of training networks.",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(interval) -> str:
    value, low, high = interval
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def figure(
    path: Path, truth, predictions: Mapping[str, np.ndarray], moved, rows, found, generated
) -> None:
    """Predicted against true accuracy, predictions before and after permuting, R2 of all; new networks.

    Below, what was generated: accuracy against novelty of each network, and the share of new and good.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(14, 8.4), layout="constrained")
    grid = fig.add_gridspec(2, 6)
    left, middle, right = (fig.add_subplot(grid[0, i : i + 2]) for i in (0, 2, 4))
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
    _new_networks(fig.add_subplot(grid[1, :4]), fig.add_subplot(grid[1, 4:]), found, generated)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _new_networks(left, right, found, generated: Mapping[str, Mapping]) -> None:
    """Every network by novelty and accuracy, and the shares of new and good ones."""
    colours = {name: f"C{i}" for i, name in enumerate(generated)}
    for name, colour in colours.items():
        columns = found[name].columns
        left.scatter(
            columns["quotient_ratio"], columns["accuracy"], s=9, color=colour, alpha=0.7, label=name
        )
    left.axvline(1, color="0.7", lw=1, zorder=0)
    left.set(
        xlabel="distance to the nearest training network, up to symmetry", ylabel="test accuracy",
        title="new digit classifiers",
    )  # fmt: skip
    left.legend(loc="lower left", fontsize=8)
    names = list(generated)[::-1]
    values = np.array([generated[n]["new and good"] for n in names])
    right.barh(range(len(names)), values[:, 0], color=[colours[n] for n in names])
    right.errorbar(
        values[:, 0], range(len(names)), fmt="none", color="k", capsize=3,
        xerr=np.abs(values[:, 1:] - values[:, :1]).T,
    )  # fmt: skip
    right.set(title="share that is new and good", xlim=(0, 1), yticks=[])
