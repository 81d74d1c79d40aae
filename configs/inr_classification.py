"""Which digit does a sine network draw? From its weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs._metanetworks import SIZES, Entry, Training

SINE = ("permutation", "sign", "phase")
"""What leaves a sine network unchanged."""


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.inr_classification`."""

    dataset: str = "mnist"
    """"mnist" or "fashion_mnist"; without files the digits of scikit-learn stand in."""
    networks: int = 8000
    """Sine networks, one for each image, each of its own start."""
    zoo_size: str = "full"
    """Size of the config `configs/zoo/dws_siren.py` that they are built by."""
    training: Training = Training()
    """The same for all rows."""
    rows: Mapping[str, Entry] = field(default_factory=dict)
    """The table."""
    seed: int = 0
    """Of the zoo and the split."""


def _rows(channels: int) -> dict[str, Entry]:
    plain = {
        "flat MLP": Entry("flat", channels=4 * channels),
        "flat MLP, permutations": Entry("flat", channels=4 * channels, augment=("permutation",)),
        "pointwise (Deep Set)": Entry("pointwise", channels=2 * channels),
        "universal (UNF)": Entry("universal", channels=channels),
        "NFN": Entry("nfn", channels=channels),
        "DWS": Entry("dws", channels=channels),
        "NFT": Entry("nft", channels=channels),
        "neural graph": Entry("neural_graph", channels=channels),
        "neural graph transformer": Entry("neural_graph_transformer", channels=channels),
        "ScaleGMN": Entry("scale_gmn", channels=channels),
        "ScaleGMN-B": Entry("scale_gmn", {"bidirectional": True}, channels=channels),
    }
    recipe = {
        "universal + signs": Entry("universal", channels=channels, augment=("sign",)),
        "universal + signs, phases": Entry("universal", channels=channels, augment=SINE),
        "neural graph + signs, phases": Entry("neural_graph", channels=channels, augment=SINE),
    }
    return plain | recipe


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "full":
        return Config(
            networks=60_000, rows=_rows(128), training=Training(steps=100_000, batch=64, every=2000)
        )
    if size == "cpu":
        return Config(rows=_rows(16))
    few = {n: replace(e, channels=4, layers=1) for n, e in list(_rows(4).items())[:4]}
    return Config(
        networks=40, zoo_size="tiny", rows=few,
        training=Training(steps=20, batch=8, every=10, seeds=1),
    )  # fmt: skip
