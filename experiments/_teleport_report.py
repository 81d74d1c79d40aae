"""Table, notes and figure of the teleportation study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsljax._compat import require


def _trainings(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every comparison of optimisers: ``(problem, {optimiser: {variant: …}})``."""
    yield from results.get("classification", {}).items()
    if "transformer" in results:
        yield "transformer", {k: v for k, v in results["transformer"].items() if k != "generators"}


def _best(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry["rates"][entry["best_rate"]]


def _mean(values: list) -> tuple[float, float]:
    x = np.array([np.nan if v is None else v for v in values])
    return float(x.mean()), float(x.std())


def table(results: Mapping[str, Any]) -> str:
    """Final losses at each method's best learning rate, and what the teleports did."""
    lines = [
        f"{'problem':30} {'method':26} {'final loss':22} {'seconds':>8} {'rate':>8} {'accuracy':>9}"
    ]
    for name, entry in results.get("functions", {}).items():
        for which in (k for k in entry if k != "reference"):
            row = entry[which]
            lines.append(f"{name:30} {which:26} {row['losses'][-1]:<22.3g} {row['seconds']:8.3f}")
        ours = [r["final"] for r in entry["reference"] if r["teleport"]]
        low, high = f"{min(ours):.1e}", f"{max(ours):.1e}"
        lines.append(f"{name:30} {'original (recorded)':26} {low} to {high}")
    for name, entry in results.get("regression", {}).items():
        for which, row in entry.items():
            if name == "reference":
                seconds, title, label = (
                    row["seconds"],
                    f"leaky {which.split()[0]}",
                    f"original, {which.split()[1]}",
                )
            else:
                seconds, title, label = row["seconds_mean"][-1], name, which
            mean, std = _mean(row["final_losses"])
            lines.append(f"{title:30} {label:26} {f'{mean:.3g} +- {std:.2g}':22} {seconds:8.3f}")
    for name, entry in _trainings(results):
        for optimiser, variants in entry.items():
            for variant, row in variants.items():
                best = _best(row)
                mean, std = _mean(best["final_losses"])
                lines.append(
                    f"{name + ' ' + optimiser:30} {variant:26} {f'{mean:.4g} +- {std:.2g}':22} "
                    f"{best['seconds_mean'][-1]:8.3f} {row['best_rate']:>8} {_mean(best['accuracies'])[0]:9.4f}"
                )
    return "\n".join(lines)


def notes(results: Mapping[str, Any]) -> list[str]:
    """Where teleports helped and where they did not, said from the figures themselves."""
    out = []
    for name, entry in _trainings(results):
        for optimiser, variants in entry.items():
            plain, ours = variants["plain"], variants["teleport"]
            same = [
                (r, _mean(e["final_losses"])[0], _mean(ours["rates"][r]["final_losses"])[0])
                for r, e in plain["rates"].items()
            ]
            (a, sa), (b, sb) = (
                _mean(_best(plain)["final_losses"]),
                _mean(_best(ours)["final_losses"]),
            )
            clear = abs(a - b) > sa + sb
            verdict = ("helps" if b < a else "hurts") if clear else "makes no clear difference"
            cost = _best(ours)["seconds_mean"][-1] / max(_best(plain)["seconds_mean"][-1], 1e-9)
            equal = "; ".join(f"{r}: {x:.3g} -> {y:.3g}" for r, x, y in same)
            out.append(
                f"{name}, {optimiser}: at the best learning rate of each, teleporting {verdict} "
                f"({a:.4g} +- {sa:.2g} -> {b:.4g} +- {sb:.2g}) at {cost:.1f} times the wall time. "
                f"At equal rates, {equal}."
            )
            lost = variants.get("teleport, state lost")
            if lost:
                c, sc = _mean(_best(lost)["final_losses"])
                out.append(
                    f"{name}, {optimiser}: with the optimiser started anew at each teleport {c:.4g} +- {sc:.2g}."
                )
    for name, entry in results.get("regression", {}).items():
        if name == "reference":
            for which, row in entry.items():
                if "loss_change" in row:
                    jumps = ", ".join(f"{100 * c:.0f}%" for c in row["loss_change"])
                    out.append(
                        f"The original's {which}, recorded: its teleports themselves change the loss, by {jumps}."
                    )
            continue
        plain, std = _mean(entry["plain"]["final_losses"])
        for label, row in entry.items():
            if label != "plain":
                mean, s = _mean(row["final_losses"])
                worst = max(t["loss_change"] for t in row["teleports"])
                out.append(
                    f"regression {name}, {label}: loss {entry['plain']['loss_at_50']:.3g} -> "
                    f"{row['loss_at_50']:.3g} after 50 steps, {plain:.3g} +- {std:.2g} -> {mean:.3g} +- {s:.2g} after "
                    f"300; the teleports change it by at most {worst:.1e}."
                )
    for title, entry in results.get("learned", {}).items():
        a, b = entry["one proposal"], entry["one gradient step"]
        out.append(
            f"A learned proposal ({title}): {a['objective_ratio']:.3g} times in {a['milliseconds']:.2g} ms; one "
            f"gradient step of the same length: {b['objective_ratio']:.3g} times in {b['milliseconds']:.2g} ms."
        )
    out.append(
        "What teleports gain at a small learning rate is in part what a larger rate gains without them: a greater "
        "gradient norm makes longer steps."
    )
    out.append(
        "Orthogonal groups leave the squared gradient norm as it is: with it as objective there is nothing to "
        "gain on them."
    )
    return out


def figure(path: Path, results: Mapping[str, Any]) -> None:
    """Loss against steps and against time for regressions, digits and the transformer."""
    require("matplotlib", extra="experiments").use("Agg")
    plt = require("matplotlib.pyplot", extra="experiments")
    panels: list[tuple[str, dict[str, tuple]]] = []
    for name in ("leaky sgd", "leaky adagrad") if "regression" in results else ():
        curves = {
            label: (row["steps"], row["seconds_mean"], row["loss_mean"], row["loss_std"])
            for label, row in results["regression"][name].items()
        }
        for which in ("plain", "teleport"):
            row = results["regression"]["reference"][f"{name.split()[1]} {which}"]
            steps = np.append(np.arange(0, 300, 10), 299)
            seconds = steps / 300 * row["seconds"]
            curves[f"original, {which}"] = (steps, seconds, row["losses"], np.zeros(len(steps)))
        panels.append((f"5-6-7-8 regression, {name.split()[1]}", curves))
    for name, entry in _trainings(results):
        for optimiser, variants in entry.items():
            curves = {}
            for variant, row in variants.items():
                best = _best(row)
                label = f"{variant} ({row['best_rate']})"
                curves[label] = tuple(
                    best[k] for k in ("steps", "seconds_mean", "loss_mean", "loss_std")
                )
            panels.append((f"{name}, {optimiser}", curves))
    shape = (len(panels), 2)
    fig, axes = plt.subplots(
        *shape, figsize=(11, 2.6 * len(panels)), layout="constrained", squeeze=False
    )
    for row, (title, curves) in zip(axes, panels):
        for k, (axis, unit) in enumerate(zip(row, ("step", "seconds"))):
            for i, (label, (steps, seconds, mean, std)) in enumerate(curves.items()):
                x = np.asarray(steps if k == 0 else seconds, float)
                mean, std = (np.asarray(v, float) for v in (mean, std))
                axis.plot(
                    x, mean, label=label, color=f"C{i}", ls="--" if "original" in label else "-"
                )
                axis.fill_between(
                    x, np.maximum(mean - std, mean / 10), mean + std, color=f"C{i}", alpha=0.15
                )
            axis.set(yscale="log", xlabel=unit, title=title if k == 0 else None)
        row[0].set_ylabel("loss")
        row[1].legend(fontsize=7)
    fig.savefig(path, dpi=80)
    plt.close(fig)
