"""GRUs that read digits row by row, some of which learn it well and some badly.

After Zhou et al., "Universal neural functionals", 2024: 10,000 small GRUs with hyperparameters drawn at
random, there to predict success from weights. Not released; theirs map sequences to sequences, with a
hidden state of 128.

Chosen here: the task, rows of images, each a time step; all ranges.
"""

from configs.zoo._config import Choice, LogUniform, Uniform, Where, ZooConfig, sized

INITIALISERS = ("torch", "glorot_normal", "he_uniform")


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "cell": "gru", "features": 28, "hidden": 32, "layers": 1, "outputs": 10, "head": "last",
        "initialiser": INITIALISERS, "mean": 0.5, "std": 0.5,
    }  # fmt: skip
    options = {"dataset": "mnist", "size": 28, "rows": True, "test": None}
    full = ZooConfig(
        name="varied_gru_digits",
        paper="Zhou et al. 2024, zoo of recurrent networks, on digits",
        architecture="recurrent",
        settings=settings,
        task="images",
        options=options,
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "optimiser": Choice(("adam", "rmsprop", "momentum")),
            "learning_rate": Where(
                "optimiser", {"momentum": LogUniform(3e-3, 0.3)}, LogUniform(3e-4, 3e-2)
            ),
            "weight_decay": LogUniform(1e-6, 1e-2),
            "dropout": Uniform(0.0, 0.5),
            "data_fraction": Choice((0.1, 0.25, 0.5, 1.0)),
            "initialiser": Choice(INITIALISERS),
            "init_scale": LogUniform(0.3, 3.0),
            "clip_norm": 1.0,
        },
        models=10_000,
        epochs=5,
        batch_size=128,
        chunk=250,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 1000, "epochs": 6, "batch_size": 32, "measured": 500,
            "settings": {**settings, "features": 14, "hidden": 16},
            "options": {**options, "size": 14, "train": 1200, "test": 1000},
        },
        tiny={
            "models": 3, "epochs": 8, "batch_size": 32, "measured": 64,
            "settings": {**settings, "features": 8, "hidden": 8},
            "options": {**options, "size": 8, "train": 256, "test": 64},
            "hyper": {
                **full.hyper, "learning_rate": LogUniform(1e-2, 3e-2), "data_fraction": 1.0,
                "optimiser": Choice(("adam", "rmsprop")), "init_scale": 1.0,
                "dropout": Uniform(0.0, 0.2),
            },
        },
    )  # fmt: skip
