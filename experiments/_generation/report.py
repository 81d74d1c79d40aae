"""The table and the figure of `experiments/generation.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax._compat import require

COLUMNS = {
    "accuracy": "quality/accuracy mean",
    "confidence": "quality/confidence mean",
    "raw": "weights/ratio",
    "quotient": "quotient/ratio",
    "function": "predictions/ratio",
    "outputs": "outputs/ratio",
    "Z_U": "quotient/Z_U",
    "N&P(.5)": "new and good/ratio 0.5, accuracy of the best 90%",
    "N&P(.75)": "new and good/ratio 0.75, accuracy of the best 90%",
    "N&P(1)": "new and good/ratio 1, accuracy of the best 90%",
    "1-NNA": "diversity of quotient/1-NNA",
    "COV": "diversity of quotient/coverage",
    "MMD": "diversity of quotient/MMD",
    "im. 1-NNA": "images/1-NNA",
    "im. COV": "images/coverage",
    "im. MMD": "images/MMD",
    "im. copy": "images/copy ratio",
    "rarest": "images/rarest class",
    "as asked": "images/as asked",
}
"""What the table shows, where it was measured."""


def table(rows: Mapping[str, Any]) -> str:
    """The rows of one study, as text."""
    shown = {
        head: name
        for head, name in COLUMNS.items()
        if any(name in row["scores"] for row in rows.values())
    }
    wide = max(map(len, rows))
    lines = [
        f"{'':{wide}} {'parameters':>10} {'seconds':>7} " + " ".join(f"{h:>10}" for h in shown)
    ]
    for name, row in rows.items():
        cells = []
        for score in shown.values():
            found = row["scores"].get(score)
            cells.append(f"{'-' if found is None else format(found['mean'], '.3f'):>10}")
        seconds = row.get("seconds")
        lines.append(
            f"{name:{wide}} {row.get('parameters') or '-':>10} "
            f"{'-' if seconds is None else format(seconds, '.0f'):>7} {' '.join(cells)}"
        )
    return "\n".join(lines)


def save_pictures(folder: Path, row: str, drawings: np.ndarray) -> None:
    """Keep what the first networks of a row draw, `(n, pixels)` from 0 to 1."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{file_name(row)}.npy", drawings.astype(np.float32))


def pictures(file: Path, folder: Path, rows: Iterable[str]) -> None:
    """What was kept in a folder, a line of images for each row; nothing where there is nothing."""
    found = {row: folder / f"{file_name(row)}.npy" for row in rows}
    drawn = {row: np.load(kept) for row, kept in found.items() if kept.exists()}
    if not drawn:
        return
    require("matplotlib", extra="experiments")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    most = max(map(len, drawn.values()))
    fig, axes = plt.subplots(
        len(drawn), 1, figsize=(0.5 * most + 3, 0.56 * len(drawn)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for ax, (row, images) in zip(axes.flat, drawn.items(), strict=True):
        side = round(images.shape[1] ** 0.5)
        line = images.reshape(len(images), side, side).transpose(1, 0, 2).reshape(side, -1)
        ax.imshow(line, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_ylabel(row, rotation=0, ha="right", va="center", fontsize=8)
        ax.set(xticks=[], yticks=[])
    file.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(file, dpi=110)
    plt.close(fig)


def file_name(name: str) -> str:
    """Of what is kept of a study or a row."""
    return name.replace(", ", "_").replace(" ", "_")


def figure(file: Path, studies: Mapping[str, Mapping[str, Any]]) -> None:
    """Quality against novelty, a panel for each study: new and good is above and to the right."""
    require("matplotlib", extra="experiments")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    across = min(3, len(studies))
    down = -(-len(studies) // across)
    fig, axes = plt.subplots(
        down, across, figsize=(5.5 * across, 4.5 * down), layout="constrained", squeeze=False
    )
    for ax in axes.flat[len(studies) :]:
        ax.axis("off")
    for ax, (study, rows) in zip(axes.flat, studies.items(), strict=False):
        drawn = any("images/1-NNA" in row["scores"] for row in rows.values())
        x, y = (
            ("images/copy ratio", "images/1-NNA")
            if drawn
            else ("quotient/ratio", "quality/accuracy mean")
        )
        for number, (name, row) in enumerate(rows.items()):
            if x not in row["scores"] or y not in row["scores"]:
                continue
            learned = row.get("parameters") is not None
            marker = "*" if name == "held-out networks" else "os^Dv"[number % 5] if learned else "x"
            ax.scatter(
                row["scores"][x]["mean"], row["scores"][y]["mean"], marker=marker,
                color=f"C{number % 10}", label=name, s=70 if marker == "*" else 30,
            )  # fmt: skip
        ax.axvline(1.0, color="0.8", linewidth=1, zorder=0)
        ax.set(title=study, xlabel=x, ylabel=y + (" (0.5 is best)" if drawn else ""))
        ax.legend(fontsize=5, ncols=2)
    file.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(file, dpi=110)
    plt.close(fig)
