"""What lies between trained networks, before and after alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from configs._metanetworks import SIZES


@dataclass(frozen=True)
class Row:
    """Networks of one architecture, trained from other seeds; pairs and groups of them are compared."""

    network: str
    """"mlp", "resnet", "vit" or "gpt"."""
    width: int
    """Hidden units, channels of the first stage, or width of the stream."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the network, see `experiments/_rebasin/networks.py`."""
    dataset: str = "mnist"
    """"mnist" or "fashion_mnist" (digits of scikit-learn stand in without data); "gpt" reads text."""
    side: int = 28
    """Pixels a side."""
    train: int | None = 10_000
    """Images to train on; None: all."""
    steps: int = 1500
    batch: int = 128
    training: Mapping[str, Any] = field(
        default_factory=lambda: {"learning_rate": 1e-3, "schedule": "cosine"}
    )
    """Columns of `zoo.train`, the same for all networks."""
    members: int = 2
    """Networks of each seed: the first two are the pair, all are merged."""
    methods: tuple[str, ...] = ("not aligned", "weight matching")
    """Of `experiments/_rebasin/align.py`."""
    repairs: tuple[str, ...] = ()
    """What is done to each network on a line: "REPAIR", "reset" (of batch statistics) or "reset, REPAIR"."""
    curves: bool = False
    """Whether Bezier curves and geodesics are fitted."""


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.rebasin`."""

    rows: Mapping[str, Row] = field(default_factory=dict)
    """The table."""
    seeds: int = 3
    """Pairs (or groups) of each row; all of a row are trained together."""
    test: int = 2000
    """Images that are tested on, at most."""
    measured: int = 5000
    """Training images that are measured on, at most."""
    points: int = 11
    """Networks along a line or curve, both ends included."""
    repaired_points: int = 5
    """Likewise, where each is repaired."""
    repair: int = 1000
    """Training images that statistics are taken from."""
    matching: int = 2000
    """Training images that activations are taken from."""
    learning: int = 40
    """Steps of the straight-through and of the Sinkhorn matching."""
    curve_steps: int = 400
    """Steps of the fit of a curve."""
    bends: int = 5
    """Networks between the ends of a geodesic."""
    restarts: int = 2
    """Tries of weight matching."""
    chunk: int = 500
    """Examples at a time."""
    seed: int = 0
    """Of everything."""


PERMUTATIONS = ("not aligned", "weight matching", "activation matching", "straight-through")
TRANSFORMER = (
    "not aligned",
    "weight matching",
    "activation matching",
    "norms folded, not aligned",
    "norms folded, weight matching",
    "norms folded, whole group",
)
# As the notebook of K. Jordan et al. 2023 on MLPs without normalisation: 50 epochs in batches of 1000
REPAIR = Row(
    "mlp", 128, {"layers": 7, "initialiser": "torch"}, train=None, steps=3000, batch=1000,
    training={"optimiser": "momentum", "learning_rate": 0.05, "schedule": "linear", "warmup": 300},
    methods=("not aligned", "activation matching", "weight matching"), repairs=("REPAIR",),
)  # fmt: skip


def _mlp(width: int, **options: Any) -> Row:
    methods = PERMUTATIONS + (("Frank-Wolfe", "Sinkhorn") if width <= 128 else ())
    return Row("mlp", width, {"layers": 3}, methods=methods, repairs=("REPAIR",), **options)


def _resnet(norm: str, width: int, **options: Any) -> Row:
    repairs = ("reset", "reset, REPAIR") if norm == "batch" else ("REPAIR",)
    usual: dict[str, Any] = {
        "dataset": "fashion_mnist", "side": 14, "steps": 800, "batch": 64, "repairs": repairs,
        "methods": PERMUTATIONS[:3],
    }  # fmt: skip
    return Row("resnet", width, {"norm": norm}, **{**usual, **options})


def _transformer(network: str, width: int, **options: Any) -> Row:
    usual: dict[str, Any] = {"steps": 1500, "batch": 64, "methods": TRANSFORMER}
    return Row(network, width, {}, **{**usual, **options})


def _rows() -> dict[str, Row]:
    rows = {f"MLP {width}": _mlp(width) for width in (32, 64, 128, 256, 512)}
    rows["MLP 64"] = replace(rows["MLP 64"], members=5, curves=True)
    rows |= {f"ResNet, LayerNorm, {w}": _resnet("layer", w) for w in (4, 8, 16)}
    rows |= {f"ResNet, BatchNorm, {w}": _resnet("batch", w) for w in (4, 8, 16)}
    for name in ("ResNet, LayerNorm, 8", "ResNet, BatchNorm, 8"):
        rows[name] = replace(rows[name], members=4)
    rows |= {f"ViT {width}": _transformer("vit", width) for width in (32, 64)}
    rows |= {f"GPT {width}": _transformer("gpt", width) for width in (32, 64)}
    return rows | {"MLP 128, 7 layers, as in REPAIR": REPAIR}


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "cpu":
        return Config(rows=_rows())
    if size == "full":
        rows = {f"MLP {w}": _mlp(w, train=None, steps=12_000, batch=500, members=5)
                for w in (32, 64, 128, 256, 512, 1024)}  # fmt: skip
        rows["MLP 512"] = replace(rows["MLP 512"], curves=True)
        for norm, word in (("layer", "LayerNorm"), ("batch", "BatchNorm")):
            for dataset in ("mnist", "fashion_mnist"):
                rows |= {
                    f"ResNet, {word}, {w}, {dataset}": replace(
                        _resnet(norm, w, side=28, train=None, steps=20_000, batch=128, members=4),
                        dataset=dataset, options={"norm": norm, "blocks": 3},
                    )
                    for w in (8, 16, 32, 64, 128)
                }  # fmt: skip
        more: dict[str, Any] = {"train": None, "steps": 40_000, "batch": 256}
        rows |= {f"ViT {w}": _transformer("vit", w, **more) for w in (64, 128, 256)}
        rows |= {f"GPT {w}": _transformer("gpt", w, steps=10_000) for w in (64, 128)}
        rows["MLP 128, 7 layers, as in REPAIR"] = REPAIR
        return Config(
            rows=rows, test=10_000, measured=20_000, points=25, repaired_points=13, repair=5000,
            matching=10_000, learning=500, curve_steps=5000, restarts=4,
        )  # fmt: skip
    tiny: dict[str, Any] = {"train": 300, "steps": 40, "batch": 32, "side": 8}
    rows = {
        "MLP 8": Row(
            "mlp", 8, {"layers": 1}, methods=PERMUTATIONS[:2], repairs=("REPAIR",), members=3,
            **tiny,
        ),
        "MLP 8, curves": Row(
            "mlp", 8, {"layers": 1}, methods=PERMUTATIONS[1:], curves=True, **tiny
        ),
        "GPT 8": Row(
            "gpt", 8, {"layers": 1, "heads": 2, "length": 8}, methods=TRANSFORMER[:2], steps=10,
            batch=16,
        ),
    }  # fmt: skip
    return Config(
        rows=rows, seeds=1, test=100, measured=100, points=3, repaired_points=3, repair=100,
        matching=100, learning=2, curve_steps=5, bends=2, restarts=1, chunk=100,
    )  # fmt: skip
