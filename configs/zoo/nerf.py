"""Small radiance fields of synthetic scenes.

Source: Mildenhall et al. 2020 for the networks; Implicit-Zoo (Ma et al. 2024) and nf2vec (Ballerini et
al. 2024) for zoos of them. Departures: the scenes are generated, one to three coloured spheres and
boxes under one light before white, ray-traced; the networks are two hidden layers of 64 that give
colour and density from the place alone, no direction of view; 24 samples along a ray, at the middles
of equal pieces; 20 cameras to train on, 4 to measure; Adam at 2e-3, 3,000 steps of 1,024 rays.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="nerf",
        paper="Ma et al. 2024 and Ballerini et al. 2024, radiance fields",
        architecture="nerf",
        settings={"widths": (64, 64), "octaves": 4, "samples": 24},
        task="scenes",
        options={"count": 1000, "views": 20, "test": 4, "pixels": 32},
        loss="mse",
        metrics=("psnr", "mse"),
        quality="test_psnr",
        hyper={"optimiser": "adam", "learning_rate": 2e-3, "schedule": "cosine"},
        models=1000,
        steps=3000,
        batch_size=1024,
        chunk=64,
    )
    return sized(
        full,
        size,
        small={
            "models": 16, "chunk": 8, "steps": 500, "batch_size": 256,
            "settings": {"widths": (32, 32), "octaves": 3, "samples": 16},
            "hyper": {**full.hyper, "learning_rate": 5e-3},
            "options": {**full.options, "views": 12, "test": 3, "pixels": 16},
        },
        tiny={
            "models": 3, "steps": 60, "batch_size": 64, "measured": 128,
            "settings": {"widths": (16, 16), "octaves": 1, "samples": 8},
            "hyper": {"optimiser": "adam", "learning_rate": 1e-2},
            "options": {**full.options, "views": 6, "test": 2, "pixels": 8},
        },
    )  # fmt: skip
