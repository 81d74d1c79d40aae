"""Figure of `experiments/learned_optimisers.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax._compat import require

PANELS = (("near", "train_loss", "training loss"), ("near", "test_loss", "test loss"),
          ("far", "train_loss", "training loss, other width"))  # fmt: skip


def figure(path: Path, rows: Mapping[str, Any], networks: tuple[str, ...], config: Any) -> None:
    """Losses against steps: a column for each network; the dotted line is where meta-training ends.

    Curves of learned optimisers are those of the first meta-training, each the mean of all test runs.
    """
    require("matplotlib", extra="experiments")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        len(PANELS), len(networks), figsize=(5 * len(networks), 10), layout="constrained", squeeze=False
    )  # fmt: skip
    for k, network in enumerate(networks):
        mine = {n.split(": ", 1)[1]: r for n, r in rows.items() if n.startswith(f"{network}: ")}
        for (place, measure, label), ax in zip(PANELS, axes[:, k]):
            for i, (name, row) in enumerate(mine.items()):
                curve = np.asarray(row["curves"][place][measure])
                steps = config.every * (1 + np.arange(len(curve)))
                learned = "before" in row
                ax.plot(steps, curve, color=f"C{i % 10}", ls="-" if learned else "--", lw=1.8 if learned else 1,
                        label=name)  # fmt: skip
            ax.axvline(config.horizon, color="grey", ls=":", lw=1)
            ax.set(yscale="log", xlabel="steps", ylabel=label)
            if place == "near" and measure == "train_loss":
                ax.set_title(network)
    axes[0, 0].legend(fontsize=7, framealpha=0.6)
    fig.savefig(path, dpi=110)
    plt.close(fig)
