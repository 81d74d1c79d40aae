"""Thicker or thinner strokes, by changing the weights of what draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs._metanetworks import SIZES, Drawings, Entry, Training
from configs.inr_classification import SINE


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.inr_editing`."""

    drawings: Drawings = Drawings()
    """Images in [0, 1], and the sine networks that draw them, each of its own start."""
    edits: tuple[str, ...] = ("dilate", "erode")
    """Among "dilate", "erode", "gradient"."""
    training: Training = Training()
    """The same for all rows."""
    rows: Mapping[str, Entry] = field(default_factory=dict)
    """The table, the same for all edits."""
    pictures: int = 8
    """Test images that are shown."""
    seed: int = 0
    """Of the networks and the split."""


def _rows(channels: int, probes: int) -> dict[str, Entry]:
    return {
        "flat MLP": Entry("flat", channels=4 * channels),
        "pointwise (Deep Set)": Entry("pointwise", channels=2 * channels),
        "universal (UNF)": Entry("universal", channels=channels),
        "NFN": Entry("nfn", channels=channels),
        "DWS": Entry("dws", channels=channels),
        "NFT": Entry("nft", channels=channels),
        "neural graph": Entry("neural_graph", channels=channels),
        "neural graph transformer": Entry("neural_graph_transformer", channels=channels),
        "graph metanetwork": Entry("graph_metanetwork", channels=channels),
        "monomial": Entry("monomial", channels=channels),
        "MAGEP": Entry("magep", channels=channels),
        "ScaleGMN": Entry("scale_gmn", {"bidirectional": False}, channels=channels),
        "ScaleGMN-B": Entry("scale_gmn", channels=channels),
        "ScaleGMN-B, phases": Entry("scale_gmn", channels=channels, augment=SINE),
        "ScaleGMN-B, phases, probes": Entry(
            "scale_gmn", channels=channels, augment=SINE, probes=probes
        ),
    }


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        return Config(
            drawings=Drawings(images=70_000, test=10_000, fractions=(55 / 70, 5 / 70, 10 / 70)),
            edits=("dilate", "erode", "gradient"), rows=_rows(128, 64),
            training=Training(steps=100_000, batch=64, every=2000, learning_rate=1e-3),
        )  # fmt: skip
    if size == "cpu":
        return Config(
            rows=_rows(16, 16),
            training=Training(steps=1000, batch=16),
        )  # fmt: skip
    few = ("pointwise (Deep Set)", "universal (UNF)")
    return Config(
        drawings=Drawings(images=20, zoo_size="tiny"), edits=("dilate",), pictures=2,
        rows={name: replace(_rows(4, 2)[name], layers=1) for name in few},
        training=Training(steps=8, batch=8, every=4, seeds=1),
    )  # fmt: skip
