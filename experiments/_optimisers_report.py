"""Table and figure of `experiments/symmetry_aware_optimisers.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wsljax._compat import require

HEADER = (
    "| network | start | method | rate | training loss | test accuracy | ms / step of all seeds |\n"
    "|---|---|---|---|---|---|---|"
)


def table(rows: list[dict], header: bool = True) -> str:
    """Markdown; mean and deviation over seeds at the last step; a rate at the edge of its grid has a star."""
    lines = [HEADER] if header else []
    for r in rows:
        loss, accuracy = (np.asarray(r[k])[:, -1] for k in ("loss", "accuracy"))
        lines.append(
            f"| {r['problem']} | {r['start']} | {r['method']} | {r['rate']:g}{'*' * r['at_the_edge']} | "
            f"{loss.mean():.4f} +- {loss.std():.4f} | {accuracy.mean():.3f} +- {accuracy.std():.3f} | "
            f"{r['ms_per_step']:.2f} |"
        )
    return "\n".join(lines)


def figure(path: Path, rows: list[dict], pairs: list[dict], options) -> None:
    """Loss against steps and time for both starts; with batch norm; distances."""
    require("matplotlib", extra="experiments")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 3, figsize=(16, 8.5), layout="constrained")
    kinds = [
        ("ReLU", "balanced"), ("ReLU", "unbalanced"), ("batch norm", "He"),
    ]  # fmt: skip
    for k, (problem, start) in enumerate(kinds):
        mine = [r for r in rows if r["problem"] == problem and r["start"] == start]
        for ax, timed in ((axes[0, k], False), (axes[1, k], True)):
            if timed and k == 2:
                continue
            for i, r in enumerate(mine):
                loss = np.asarray(r["loss"])
                steps = options.every * (1 + np.arange(loss.shape[1]))
                x = steps * r["ms_per_step"] / 1000 if timed else steps
                style = {"color": f"C{i}", "ls": "-" if i < 10 else "--"}
                ax.plot(x, loss.mean(0), label=r["method"], **style)
                ax.fill_between(x, loss.min(0), loss.max(0), color=f"C{i}", alpha=0.12, lw=0)
            ax.set(yscale="log", xlabel="seconds" if timed else "steps", ylabel="training loss")
            ax.set_title(f"{problem}, {start} start")
            if timed:
                ax.set_xscale("log")
        axes[0, k].legend(fontsize=6, framealpha=0.6, loc="lower left")
    ax = axes[1, 2]
    labels = sorted({(d["networks"], d["pair"]) for d in pairs})
    for i, which in enumerate(("raw", "canonical", "aligned")):
        heights = [
            np.mean([d[which] for d in pairs if (d["networks"], d["pair"]) == lab])
            for lab in labels
        ]
        ax.bar(np.arange(len(labels)) + 0.27 * (i - 1), heights, 0.25, label=which)
    ax.set_xticks(np.arange(len(labels)), [f"{a}\n{b}" for a, b in labels], fontsize=8)
    ax.set(yscale="log", title="distances between trained networks", ylabel="Euclidean distance")
    ax.legend(fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)
