"""Which digit does a sine network draw? From its weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs._metanetworks import SIZES, Drawings, Entry, LearntStart, Training

SINE = ("sign", "phase")
"""What leaves a sine network unchanged, beside permutations."""


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.inr_classification`."""

    drawings: Drawings = Drawings()
    """Images, and the sine networks that draw them, each of its own start."""
    training: Training = Training()
    """The same for all rows."""
    rows: Mapping[str, Entry] = field(default_factory=dict)
    """The table."""
    seed: int = 0
    """Of the networks and the split."""


def methods(channels: int) -> dict[str, Entry]:
    """A row for each method, all of one size."""
    return {
        "flat MLP": Entry("flat", channels=4 * channels),
        "flat MLP, permutations": Entry("flat", channels=4 * channels, augment=("permutation",)),
        "pointwise (Deep Set)": Entry("pointwise", channels=2 * channels),
        "universal (UNF)": Entry("universal", channels=channels),
        "NFN": Entry("nfn", channels=channels),
        "DWS": Entry("dws", channels=channels),
        "DWS, means, fixed ends": Entry(
            "dws", {"pool": "mean", "ends": "fixed"}, channels=channels
        ),
        "DWS, means, fixed ends, rate 5e-3": Entry(
            "dws", {"pool": "mean", "ends": "fixed"}, channels=channels, learning_rate=5e-3
        ),
        "universal (UNF), rate 5e-3": Entry("universal", channels=channels, learning_rate=5e-3),
        "NFT": Entry("nft", channels=channels),
        "neural graph": Entry("neural_graph", channels=channels),
        "neural graph transformer": Entry("neural_graph_transformer", channels=channels),
        "graph metanetwork": Entry("graph_metanetwork", channels=channels),
        "monomial": Entry("monomial", channels=channels),
        "ScaleGMN": Entry("scale_gmn", {"bidirectional": False}, channels=channels),
        "ScaleGMN-B": Entry("scale_gmn", channels=channels),
    }


def recipe(channels: int, views: int, probes: int) -> dict[str, Entry]:
    """What helps: each row has one thing more than the row before it, the first than "universal"."""
    steps = {
        "+ signs": {"augment": ("sign",)},
        "+ probes": {"probes": probes},
        "+ sign-equivariant layers": {"method": "scale_gmn"},
        "+ views": {"views": views},
    }
    row, rows = Entry("universal", channels=channels), {}
    for name, more in steps.items():
        row = replace(row, **more)
        rows[name] = row
    learnt = {"start": "learnt", "augment": (), "views": 1}
    rows["+ learnt start (other networks)"] = replace(row, **learnt)
    return rows | {
        "universal, signs, phases": Entry("universal", channels=channels, augment=SINE),
        "universal, probes": Entry("universal", channels=channels, probes=probes),
        "neural graph, probes": Entry("neural_graph", channels=channels, probes=probes),
        "universal, learnt start (other networks)": Entry(
            "universal", channels=channels, start="learnt"
        ),
        "flat MLP, learnt start (other networks)": Entry(
            "flat", channels=4 * channels, start="learnt"
        ),
    }


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        return Config(
            drawings=Drawings(
                images=70_000, test=10_000, views=10, fractions=(55 / 70, 5 / 70, 10 / 70),
                learnt=LearntStart(steps=20_000, batch=64, fit_steps=8),
            ),
            rows=methods(128) | recipe(128, views=10, probes=64),
            training=Training(steps=100_000, batch=64, every=2000),
        )  # fmt: skip
    if size == "cpu":
        rows = methods(16) | recipe(16, views=2, probes=16)
        return Config(drawings=Drawings(views=2), rows=rows, training=Training(steps=1000))
    some = methods(4) | recipe(4, views=2, probes=2)
    some["universal, views, probes"] = replace(some["universal, probes"], views=2)
    few = (
        "universal (UNF)",
        "universal, views, probes",
        "universal, learnt start (other networks)",
    )
    return Config(
        drawings=Drawings(
            images=30, views=2, zoo_size="tiny", learnt=LearntStart(steps=4, batch=2, fit_steps=1)
        ),
        rows={name: replace(some[name], layers=1) for name in few},
        training=Training(steps=8, batch=8, every=4, seeds=1),
    )
