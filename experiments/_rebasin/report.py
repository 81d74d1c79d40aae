"""Tables and figures of `experiments/rebasin.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from configs.rebasin import Row
from experiments._rebasin.align import METHODS
from wsljax._compat import require

LEVEL = 0.95


def with_intervals(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Half the width of the 95% interval of every mean over seeds, by Student's t; None for one seed."""
    for row in rows.values():
        for score in row["scores"].values():
            count, deviation = len(score["runs"]), score["std"]
            score["interval"] = None
            if deviation is not None:
                reach = float(student.ppf((1 + LEVEL) / 2, count - 1))
                score["interval"] = reach * deviation / count**0.5
    return dict(rows)


def tables(rows: Mapping[str, Any]) -> str:
    """Barriers and merges, to print."""
    lines = [f"{'line':76} {'train loss':>19} {'test loss':>19} {'test accuracy':>19}"]
    for name, row in rows.items():
        for place, found in _places(row["scores"], "barrier").items():
            cells = [_cell(found.get(m)) for m in ("train_loss", "test_loss", "test_accuracy")]
            lines.append(f"{name + ': ' + place:76} " + " ".join(cells))
    lines.append(f"{'network':76} {'train loss':>19} {'test loss':>19} {'test accuracy':>19}")
    for name, row in rows.items():
        found = _places(row["scores"], "midpoint") | _places(row["scores"], "")
        for place, values in found.items():
            cells = [_cell(values.get(m)) for m in ("train_loss", "test_loss", "test_accuracy")]
            if any(c.strip() != "-" for c in cells):
                lines.append(f"{name + ': ' + place:76} " + " ".join(cells))
    return "\n".join(lines)


def figures(folder: Path, rows: Mapping[str, Any], settings: Mapping[str, Row]) -> None:
    """`barriers.png`, barriers by width; `lines.png`, all that was measured along lines and curves."""
    require("matplotlib", extra="experiments")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    families: dict[tuple, list[str]] = {}
    for name in rows:
        row = settings[name]
        families.setdefault((row.network, str(row.options), row.dataset), []).append(name)
    panels = (("train_loss", "training loss barrier"), ("test_accuracy", "test accuracy barrier"))
    fig, axes = plt.subplots(
        len(panels), len(families), figsize=(4 * len(families), 7), layout="constrained", squeeze=False
    )  # fmt: skip
    for k, names in enumerate(families.values()):
        for (measure, label), ax in zip(panels, axes[:, k]):
            _by_width(ax, {settings[n].width: rows[n]["scores"] for n in names}, measure)
            ax.set(xlabel="width", ylabel=label)
        axes[0, k].set_title(_family(settings[names[0]]))
        axes[-1, k].legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    fig.savefig(folder / "barriers.png", dpi=110)
    plt.close(fig)

    last = [max(names, key=lambda n: settings[n].width) for names in families.values()]
    last += [n for n in rows if settings[n].curves and n not in last]
    fig, axes = plt.subplots(
        len(panels), len(last), figsize=(4 * len(last), 7), layout="constrained", squeeze=False
    )  # fmt: skip
    for k, name in enumerate(last):
        for (measure, label), ax in zip(panels, axes[:, k]):
            for place, curve in rows[name]["curves"].items():
                ax.plot(curve["t"], curve[measure], lw=1.2, label=place, **_look(place))
            ax.set(xlabel="t", ylabel=label.removesuffix(" barrier"))
        axes[0, k].set_title(name, fontsize=9)
        axes[-1, k].legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    fig.savefig(folder / "lines.png", dpi=110)
    plt.close(fig)


def _by_width(ax: Any, scores: Mapping[int, Mapping[str, Any]], measure: str) -> None:
    places = {p for found in scores.values() for p in _places(found, "barrier")}
    for place in sorted(places):
        have = sorted(w for w, found in scores.items() if f"{place} / {measure} barrier" in found)
        found = [scores[w][f"{place} / {measure} barrier"] for w in have]
        spread = [f["interval"] or 0.0 for f in found]
        means = [f["mean"] for f in found]
        marks = {"marker": "o", "ms": 3, "lw": 1.2, "capsize": 2, **_look(place)}
        ax.errorbar(have, means, spread, label=place, **marks)
    if len(scores) > 1:
        ax.set_xscale("log", base=2)


def _look(place: str) -> dict[str, Any]:
    """One colour for each method; dashed once repaired, dotted after a reset alone."""
    base, repaired = place, "-"
    for word, style in ((", reset, REPAIR", "--"), (", REPAIR", "--"), (", reset", ":")):
        if place.endswith(word):
            base, repaired = place.removesuffix(word), style
            break
    names = (*METHODS, "Bezier, not aligned", "Bezier, weight matching", "geodesic, not aligned",
             "geodesic, weight matching")  # fmt: skip
    colours = matplotlib_colours()
    return {"color": colours[names.index(base) % len(colours)], "ls": repaired}


def matplotlib_colours() -> list[Any]:
    """Twenty colours that can be told apart."""
    import matplotlib

    return list(matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]


def _family(row: Row) -> str:
    options = ", ".join(f"{k} {v}" for k, v in row.options.items())
    return f"{row.network} ({options})" if options else row.network


def _places(scores: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """`place / measure kind` as `{place: {measure: score}}`."""
    out: dict[str, dict[str, Any]] = {}
    for name, score in scores.items():
        place, measure = name.rsplit(" / ", 1)
        word, _, rest = measure.partition(" ")
        if rest == kind:
            out.setdefault(f"{place}, middle" if kind == "midpoint" else place, {})[word] = score
    return out


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return f"{'-':>19}"
    spread = "" if score["interval"] is None else f" +- {score['interval']:.4f}"
    return f"{score['mean']:.4f}{spread}".rjust(19)


def finite(rows: Mapping[str, Any]) -> bool:
    """Whether all scores are numbers."""
    means = [s["mean"] for row in rows.values() for s in row["scores"].values()]
    return bool(np.isfinite(means).all())
