"""Vision transformers on digits, some of which learn them well and some badly.

After the zoo of 1,000 small ViTs of "Dynamic neural graph encoding", TMLR 2026, made there to predict
accuracy from weights, and not released. Dosovitskiy et al. 2021 for the network.

Chosen here: patches of 4, width 16 to 32, a class token, and all ranges.
"""

from configs.zoo._config import Choice, LogUniform, Uniform, Where, ZooConfig, sized

INITIALISERS = ("glorot_uniform", "truncated_normal", "he_normal")
ACTIVATIONS = ("relu", "gelu")


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "image": (28, 28, 1), "patch": 4, "width": 32, "heads": 4, "layers": 2, "mlp_width": 64,
        "outputs": 10, "head": "class", "activation": ACTIVATIONS, "initialiser": INITIALISERS,
        "mean": 0.5, "std": 0.5,
    }  # fmt: skip
    options = {"dataset": "mnist", "size": 28, "test": None}
    less = {"width": 16, "heads": 2, "mlp_width": 32}
    full = ZooConfig(
        name="varied_vit_digits",
        paper="Dynamic neural graph encoding, TMLR 2026, zoo of small ViTs",
        architecture="transformer",
        settings=settings,
        task="images",
        options=options,
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "optimiser": Choice(("adam", "rmsprop", "momentum")),
            "learning_rate": Where(
                "optimiser", {"momentum": LogUniform(3e-3, 0.3)}, LogUniform(3e-4, 1e-2)
            ),
            "weight_decay": LogUniform(1e-6, 1e-2),
            "dropout": Uniform(0.0, 0.3),
            "data_fraction": Choice((0.1, 0.25, 0.5, 1.0)),
            "activation": Choice(ACTIVATIONS),
            "initialiser": Choice(INITIALISERS),
            "init_scale": LogUniform(0.3, 3.0),
            "clip_norm": 1.0,
        },
        models=1000,
        epochs=10,
        batch_size=128,
        chunk=100,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 600, "epochs": 6, "batch_size": 32, "measured": 500,
            "settings": {**settings, **less, "image": (12, 12, 1)},
            "options": {**options, "size": 12, "train": 1200, "test": 1000},
        },
        tiny={
            "models": 3, "epochs": 8, "batch_size": 32, "measured": 64, "chunk": 3,
            "settings": {**settings, **less, "image": (8, 8, 1), "layers": 1},
            "options": {**options, "size": 8, "train": 256, "test": 64},
            "hyper": {
                **full.hyper, "learning_rate": LogUniform(3e-3, 1e-2), "data_fraction": 1.0,
                "optimiser": Choice(("adam", "rmsprop")), "init_scale": 1.0, "dropout": 0.0,
                "initialiser": Choice(("glorot_uniform", "he_normal")),
            },
        },
    )  # fmt: skip
