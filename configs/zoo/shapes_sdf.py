"""Three-dimensional shapes as signed distances, by SIRENs.

Source: Sitzmann et al. 2020 (SIREN on signed distances), De Luigi et al. 2023 (inr2vec: zoos of such
networks; theirs have 3 hidden layers of 512 and one shared start) and Implicit-Zoo (Ma et al. 2024).
Departures: shapes are generated as in `shapes_occupancy.py`; distances, cut at 0.5 on both sides, are
fitted by their squared error on a grid of 32^3 points, without the eikonal term; two hidden layers of
64; every network has a start of its own; Adam at 1e-3, 2,000 steps. `psnr` is of the range of 1 that
the cut leaves.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="shapes_sdf",
        paper="De Luigi et al. 2023 and Ma et al. 2024, signed distances",
        architecture="siren",
        settings={"widths": (3, 64, 64, 1), "frequency": 10.0},
        task="shapes",
        options={"count": 1000, "points": 32, "field": "sdf"},
        loss="mse",
        metrics=("psnr", "mse"),
        quality="psnr",
        hyper={"optimiser": "adam", "learning_rate": 1e-3, "schedule": "cosine"},
        models=1000,
        steps=2000,
        batch_size=4096,
        chunk=64,
    )
    return sized(
        full,
        size,
        small={
            "models": 48, "steps": 500, "chunk": 24, "batch_size": 512,
            "settings": {"widths": (3, 32, 32, 1), "frequency": 10.0},
            "options": {**full.options, "points": 20},
        },
        tiny={
            "models": 4, "steps": 60, "batch_size": 256,
            "settings": {"widths": (3, 16, 16, 1), "frequency": 10.0},
            "hyper": {"optimiser": "adam", "learning_rate": 3e-3},
            "options": {**full.options, "points": 10},
        },
    )  # fmt: skip
