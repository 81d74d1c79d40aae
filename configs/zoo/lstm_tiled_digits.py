"""LSTMs that read digits tile by tile.

Source: Herrmann, Faccio and Schmidhuber 2024, tiled sequential MNIST: LSTMs of two layers of 32, nine
snapshots of each run.

From memory of the paper: 4 x 4 tiles of the 28 x 28 images, 49 steps of 16 numbers, and that tasks are
turns of the images by an angle. Departures: 16 angles around the circle, 2,000 images for each, 1,000
runs of 5,000 steps of Adam at 1e-3 with batches of 64, and the steps of the snapshots are chosen here.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "cell": "lstm", "features": 16, "hidden": 32, "layers": 2, "outputs": 10, "head": "last",
        "mean": 0.5, "std": 0.5,
    }  # fmt: skip
    full = ZooConfig(
        name="lstm_tiled_digits",
        paper="Herrmann et al. 2024, tiled sequential MNIST",
        architecture="recurrent",
        settings=settings,
        task="tiled_digits",
        options={"dataset": "mnist", "size": 28, "tasks": 16, "train": 2000, "test": 200},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={"optimiser": "adam", "learning_rate": 1e-3, "clip_norm": 1.0},
        models=1000,
        steps=5000,
        batch_size=64,
        snapshots=(0, 50, 100, 200, 500, 1000, 2000, 3500),
        chunk=125,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 12, "steps": 600, "snapshots": (0, 10, 20, 50, 100, 200, 300, 450),
            "chunk": 12, "hyper": {**full.hyper, "learning_rate": 5e-3},
            "options": {**full.options, "size": 16, "tasks": 4, "train": 800, "test": 100},
        },
        tiny={
            "models": 2, "steps": 50, "snapshots": (0,), "batch_size": 32,
            "settings": {**settings, "hidden": 12},
            "hyper": {**full.hyper, "learning_rate": 2e-2},
            "options": {**full.options, "size": 8, "tasks": 2, "train": 200, "test": 40},
        },
    )  # fmt: skip
