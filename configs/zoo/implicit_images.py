"""Implicit-Zoo, images: one SIREN for each small picture in colour, trained until it is good enough.

Source: Ma et al., "Implicit-Zoo: a large-scale dataset of neural implicit functions for 2D images and
3D scenes", 2024, and its files: sine networks 2-64-64-3 for CIFAR-10, trained until 30 dB and for at
least 500 steps.

Departures: Adam at 1e-3, frequency 30, at most 5,000 steps. Without files of CIFAR-10, crops of 32 x
32 pixels of the two photographs of scikit-learn stand in; `label` then says which.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="implicit_images",
        paper="Ma et al. 2024, Implicit-Zoo, CIFAR-10",
        architecture="siren",
        settings={"widths": (2, 64, 64, 3), "frequency": 30.0, "offset": 0.5},
        task="signals",
        options={"dataset": "cifar10", "size": 32, "count": 50_000, "order": "ij"},
        loss="mse",
        metrics=("psnr", "mse"),
        quality="psnr",
        hyper={"optimiser": "adam", "learning_rate": 1e-3},
        models=50_000,
        steps=5000,
        stop_psnr=30.0,
        stop_after=500,
        chunk=512,
    )
    return sized(
        full,
        size,
        small={
            "models": 48, "chunk": 16, "steps": 2000, "options": {**full.options, "count": 48},
        },
        tiny={
            "models": 4, "steps": 100, "stop_psnr": 20.0, "stop_after": 20,
            "options": {**full.options, "size": 12, "count": 4},
        },
    )  # fmt: skip
